/* SPDX-License-Identifier: MIT */
/*
 * A file with the contents of the memory under test (memory::contents()), in the directory
 * TMPDIR or /var/tmp.  It is unlinked at once, so it is never left behind.
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

	/* Extend it to at least @len_bytes, on disk.  False: failed, @why receives the message. */
	bool need(uint64_t len_bytes, std::string *why);

	/*
	 * Load all of it into the page cache, or drop all of it.  False: failed; @why begins
	 * with "left out: " if this machine cannot do it.
	 */
	bool set_cached(bool cached, std::string *why);

	/* For tests: corrupt a page. */
	void spoil(uint64_t page);

	int fd() const
	{
		return fd_;
	}

	/* A path that opens the same file, during the lifetime of this object. */
	std::string path() const;

      private:
	double cached_share(std::string *why) const;

	int fd_ = -1;
	uint64_t len_bytes_ = 0;
};

/* The file that all runs share. */
file &the_file();

} /* namespace bench */

#endif
