/* SPDX-License-Identifier: MIT */
/*
 * An engine with one image and its guests: the designs of the engine.
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

/* A design of the engine: folios of its image, and when memory leaves its userfaultfd. */
struct engine_setup {
	fln_folio folio;
	fln_release release;
	bool released; /* all of it, before the clock starts */
};

/* Memory in folios as large as the host permits, which is released by itself. */
constexpr engine_setup engine_both = { FLN_FOLIO_AUTO, FLN_RELEASE_AUTO, false };
/* Small folios, and memory stays registered. */
constexpr engine_setup engine_neither = { FLN_FOLIO_SMALL, FLN_RELEASE_NEVER, false };
/* As engine_both, and released before it is touched. */
constexpr engine_setup engine_released_before = { FLN_FOLIO_AUTO, FLN_RELEASE_AUTO, true };

struct guest_setup {
	fln_sharing sharing = FLN_SHARING_SHARED;
	fln_delivery delivery = FLN_DELIVERY_QUEUED;
	fln_discard discard = FLN_DISCARD_DEFAULT;
	fln_release release = FLN_RELEASE_NEVER;
	uint32_t nr_threads = 1;
	uint32_t window = 0; /* fixed, in pages; 0: the engine's default */
	bool kvm = false;
};

/* Functions return false when they failed; @why receives the message then. */
class host {
      public:
	host() = default;
	~host();
	host(const host &) = delete;
	host &operator=(const host &) = delete;

	/* @cpus: where touching threads are pinned; nullptr: anywhere. */
	bool start(const char *cpus, std::string *why);

	/* Create the image: adopt a filled memfd, or fill from a source (may be null: pushed). */
	bool adopt(int memfd, uint64_t len_bytes, std::string *why);
	bool make_image(source_ptr source, uint64_t len_bytes, fln_folio folio, std::string *why);

	/*
	 * Create an image, and fill all of it with memory::contents(), in memory that was warmed
	 * before.
	 */
	bool make_filled(uint64_t len_bytes, fln_folio folio, std::string *why);

	/* Add a guest with the whole image as its memory, at *addr. */
	bool add_guest(const guest_setup &g, char **addr, std::string *why);

	/* Release all memory of all guests; it must be filled. */
	bool release(std::string *why) const;

	/*
	 * Wait, for 10 seconds at most, until memory that is released by itself has been released.
	 * No wait where the image is not filled, or nothing is released by itself.
	 */
	void settle() const;

	/* The sum of all guests' counters. */
	bool stats(fln_stats *out, std::string *why) const;

	/* The bytes of the image that are in large folios, as far as the engine has filled it. */
	uint64_t large_bytes() const;

	double fill_seconds() const
	{
		return fill_seconds_;
	}

	fln_image *image() const
	{
		return image_;
	}

	/* Its first guest. */
	fln_guest *guest() const
	{
		return guests_.front();
	}

      private:
	source_ptr source_;
	fln_engine *engine_ = nullptr;
	fln_image *image_ = nullptr;
	uint64_t len_bytes_ = 0;
	double fill_seconds_ = 0;
	bool releases_ = false; /* by itself */
	std::vector<fln_guest *> guests_;
};

/*
 * A memfd that an engine has filled in folios of 2 MiB, for designs without an engine: there
 * is none any more.
 */
class large_memfd {
      public:
	large_memfd() = default;
	~large_memfd();
	large_memfd(const large_memfd &) = delete;
	large_memfd &operator=(const large_memfd &) = delete;

	/* False: failed, or not all of it is in large folios. */
	bool fill(uint64_t len_bytes, std::string *why);

	int fd() const
	{
		return fd_;
	}

	double fill_seconds() const
	{
		return fill_seconds_;
	}

      private:
	int fd_ = -1;
	double fill_seconds_ = 0;
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

/* This user may handle user-mode faults only. */
bool user_mode_only();

} /* namespace bench */

#endif
