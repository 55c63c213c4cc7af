/* SPDX-License-Identifier: MIT */
/*
 * The touch plan of a run, and the size of its memory.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "bench/memory.h"
#include "bench/options.h"
#include "measure/order.h"

#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

namespace bench {

/* The size of the memory: --memory, or more if a low density needs it for enough touches. */
inline uint64_t memory_bytes_at(uint32_t density)
{
	constexpr uint64_t min_touches = 2000;
	uint64_t len = std::max(opts.memory_bytes, min_touches * density * page_bytes);

	return (len + block_bytes - 1) / block_bytes * block_bytes;
}

/* Wait until workers have installed the windows of the last faults. */
inline void settle()
{
	constexpr timespec a_moment = { 0, 20000000 };

	(void)nanosleep(&a_moment, nullptr);
}

/* The part of a name for the folios of images; none for the design's own. */
inline std::string folio_part(fln_folio folio)
{
	return folio == FLN_FOLIO_AUTO ? "" : std::string("/folio:") + folio_name(folio);
}

/* What --folio adds, after the design's own. */
inline std::vector<fln_folio> folios_of(bool has_folio)
{
	std::vector<fln_folio> all = { FLN_FOLIO_AUTO };

	if (has_folio)
		all.insert(all.end(), opts.folios.begin(), opts.folios.end());
	return all;
}

/* Owns a struct measure_plan. */
class plan {
      public:
	/* @o: all parameters but the seed, which comes from --seed. */
	explicit plan(measure_plan_opts o)
	{
		o.seed = opts.seed;
		ok_ = measure_plan_init(&plan_, &o) == 0;
	}

	~plan()
	{
		measure_plan_deinit(&plan_);
	}

	plan(const plan &) = delete;
	plan &operator=(const plan &) = delete;

	/* False: the plan cannot be run; @why receives the reason. */
	bool usable(std::string *why) const
	{
		if (!ok_)
			*why = "out of memory for a list of pages";
		else if (plan_.nr_pages < plan_.nr_threads)
			*why = "left out: fewer pages are touched than there are threads; "
			       "set FAULTLANE_BENCH_MEMORY higher";
		else
			return true;
		return false;
	}

	const measure_plan &get() const
	{
		return plan_;
	}

      private:
	measure_plan plan_ = {};
	bool ok_;
};

} /* namespace bench */

#endif
