/* SPDX-License-Identifier: MIT */
/*
 * A file with the contents of the memory under test (memory::contents()), in the folder
 * TMPDIR or /var/tmp.  It has no name by the time it could be left behind.
 */
#ifndef BENCH_FILE_H
#define BENCH_FILE_H

#include <cstdint>
#include <string>

namespace bench {

class file {
      public:
	file() = default;
	~file();
	file(const file &) = delete;
	file &operator=(const file &) = delete;

	/* At least so many bytes, on disk.  False: @why has the sentence. */
	bool need(uint64_t len_bytes, std::string *why);

	/*
	 * Have all of it in page cache, or nothing.  False: that failed, @why
	 * says so and begins with "left out: ".
	 */
	bool set_cached(bool cached, std::string *why);

	/* For tests: a page with a wrong word. */
	void spoil(uint64_t page);

	int fd() const
	{
		return fd_;
	}

	/* Opens the same file, while this lives. */
	std::string path() const;

      private:
	double cached_share(std::string *why) const;

	int fd_ = -1;
	uint64_t len_bytes_ = 0;
};

/* The one of all runs. */
file &the_file();

} /* namespace bench */

#endif
