/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: created and filled once, mapped again for every run.
 *
 * Every page has different contents, so that misplaced pages are detected.
 */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include "measure/crew.h"
#include "measure/order.h"

#include <cstdint>
#include <string>

namespace bench {

constexpr uint64_t page_bytes = 4096;
constexpr uint64_t block_bytes = UINT64_C(2) << 20;

class memory {
      public:
	memory() = default;
	~memory();
	memory(const memory &) = delete;
	memory &operator=(const memory &) = delete;

	/*
	 * Extend it to at least @len_bytes, filled.  False: failed, @why receives the
	 * message.
	 */
	bool need(uint64_t len_bytes, std::string *why);

	/* The total time spent filling it. */
	double fill_seconds() const
	{
		return fill_seconds_;
	}

	int memfd() const
	{
		return fd_;
	}

	/* Map it shared, without populated pages, at a multiple of 2 MiB.  nullptr: failed. */
	char *map(uint64_t len_bytes, std::string *why) const;
	/* The same of any memfd; @flags: MAP_SHARED or MAP_PRIVATE. */
	static char *map_fd(int memfd, uint64_t len_bytes, int flags, std::string *why);
	static void unmap(char *addr, uint64_t len_bytes);

	/* A page is wrong: fill everything again before the next use. */
	void refill()
	{
		filled_bytes_ = 0;
	}

	/*
	 * Compare all of every touched page at @addr, and restore what was written.  False: a page
	 * is wrong, or verification failed.
	 */
	static bool verify(char *addr, const measure_plan &plan, bool written, std::string *why);

	/* For tests: corrupt a page, through a memfd. */
	static void spoil(int memfd, uint64_t page);

	/* Get the contents of page @page. */
	static void contents(uint64_t page, void *buf);

	/* The same for a range of whole pages, as a measure_contents_fn. */
	static bool contents_at(measure_crew *crew, const void *ctx, uint64_t offset_bytes,
				void *buf, uint64_t len_bytes);

      private:
	int fd_ = -1;
	uint64_t size_bytes_ = 0;
	uint64_t filled_bytes_ = 0;
	double fill_seconds_ = 0;
};

/* The memory that all runs share. */
memory &the_memory();

} /* namespace bench */

#endif
