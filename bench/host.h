/* SPDX-License-Identifier: MIT */
/*
 * An engine with one image and guests of it, as families that are not about designs
 * need them; and the memory that mappings take.
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

/* Every function: false when it failed; @why has the sentence then. */
class host {
      public:
	host() = default;
	~host();
	host(const host &) = delete;
	host &operator=(const host &) = delete;

	bool start(std::string *why);

	/* The image: of a memfd that holds everything, or filled by a source, or pushed into. */
	bool adopt(int memfd, uint64_t len_bytes, std::string *why);
	bool make_image(source_ptr source, uint64_t len_bytes, std::string *why);

	/* A guest with the whole image as its memory; @addr is where. */
	bool add_guest(fln_sharing sharing, uint32_t nr_threads, char **addr, std::string *why);

	/* Of all guests together. */
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
 * What a family measures beside the figures: kept of the try that run() keeps, which is
 * the quietest.
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

/* A library call failed: its sentence says more than its code.  Always false. */
bool library_failed(const char *what, int rc, std::string *why);

/*
 * What the mappings that begin in [@addrs[i], @addrs[i] + @len_bytes) take, a page that
 * several have counted in parts ("Pss").  Others' mappings of the page count as well.
 */
uint64_t memory_in_use(const std::vector<char *> &addrs, uint64_t len_bytes);

/* Faults of user mode only are all that this user may have served. */
bool user_mode_only();

} /* namespace bench */

#endif
