/* SPDX-License-Identifier: MIT */
/*
 * An engine with one image and its guests, for families that do not compare designs; and
 * the memory use of mappings.
 */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include <cstdint>
#include <faultlane/faultlane.h>
#include <memory>
#include <string>
#include <vector>

namespace bench {

struct destroy_source {
	void operator()(fln_source *source) const
	{
		fln_source_destroy(source);
	}
};

typedef std::unique_ptr<fln_source, destroy_source> source_ptr;

/* Functions return false when they failed; @why receives the message then. */
class host {
      public:
	host() = default;
	~host();
	host(const host &) = delete;
	host &operator=(const host &) = delete;

	bool start(std::string *why);

	/* Create the image: adopt a filled memfd, or fill from a source (may be null: pushed). */
	bool adopt(int memfd, uint64_t len_bytes, std::string *why);
	bool make_image(source_ptr source, uint64_t len_bytes, std::string *why);

	/* Add a guest with the whole image as its memory, at *addr. */
	bool add_guest(fln_sharing sharing, uint32_t nr_threads, char **addr, std::string *why);

	/* The sum of all guests' counters. */
	bool stats(fln_stats *out, std::string *why) const;

	fln_image *image() const
	{
		return image_;
	}

      private:
	source_ptr source_;
	fln_engine *engine_ = nullptr;
	fln_image *image_ = nullptr;
	uint64_t len_bytes_ = 0;
	std::vector<fln_guest *> guests_;
};

/*
 * Additional results of a family: keeps those of the same try as run(), the one with the
 * least other load.
 */
template <class T> class quietest {
      public:
	void offer(const T &value, double others)
	{
		if (first_ || others < others_) {
			kept = value;
			others_ = others;
		}
		first_ = false;
	}

	T kept = {};

      private:
	bool first_ = true;
	double others_ = 0;
};

/* Set *why to the library's error message.  Always returns false. */
bool library_failed(const char *what, int rc, std::string *why);

/*
 * The proportional set size (PSS) of the mappings that begin in [@addrs[i], @addrs[i] +
 * @len_bytes): a page shared by n mappings, of any process, counts as 1/n.
 */
uint64_t memory_in_use(const std::vector<char *> &addrs, uint64_t len_bytes);

/* This user may handle user-mode faults only. */
bool user_mode_only();

} /* namespace bench */

#endif
