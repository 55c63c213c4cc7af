/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: made and filled once, and mapped anew for every run.
 *
 * Every page has contents of its own, so that a page in another one's place is found.
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
	 * At least so many bytes, filled.  False when they are unavailable: @why
	 * has the sentence.
	 */
	bool need(uint64_t len_bytes, std::string *why);

	/* How long filling it has taken, all in all. */
	double fill_seconds() const
	{
		return fill_seconds_;
	}

	int memfd() const
	{
		return fd_;
	}

	/* A new mapping of it at a multiple of 2 MiB, shared; nothing is mapped in it yet. */
	char *map(uint64_t len_bytes, std::string *why) const;
	static void unmap(char *addr, uint64_t len_bytes);

	/*
	 * Compare every touched page, whole, and put back what was written.  False when
	 * a page is wrong; then everything is filled anew before the next use.
	 */
	bool verify(char *addr, const measure_plan &plan, bool written, std::string *why);

	/* For tests: spoil a page behind everybody's back. */
	void spoil(uint64_t page);

	/* What page @page holds. */
	static void contents(uint64_t page, void *buf);

	/* The same for whole pages, as measure_verify() asks. */
	static bool contents_at(measure_crew *crew, const void *ctx, uint64_t offset_bytes,
				void *buf, uint64_t len_bytes);

      private:
	int fd_ = -1;
	uint64_t size_bytes_ = 0;
	uint64_t filled_bytes_ = 0;
	double fill_seconds_ = 0;
};

/* The one of all runs. */
memory &the_memory();

} /* namespace bench */

#endif
