/* SPDX-License-Identifier: MIT */
/*
 * Which pages a run touches, and of how much memory.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "bench/memory.h"
#include "bench/options.h"
#include "measure/order.h"

#include <algorithm>
#include <ctime>
#include <string>

namespace bench {

/* Memory of which one page in @density is touched: as the options say, or what it takes. */
inline uint64_t memory_bytes_at(uint32_t density)
{
	constexpr uint64_t min_touches = 2000;
	uint64_t len = std::max(opts.memory_bytes, min_touches * density * page_bytes);

	return (len + block_bytes - 1) / block_bytes * block_bytes;
}

/* Workers finish the windows of the last faults a moment after the last touch. */
inline void settle()
{
	constexpr timespec a_moment = { 0, 20000000 };

	(void)nanosleep(&a_moment, nullptr);
}

/* Freed with its run. */
class plan {
      public:
	/* @o: all but the seed, which is that of the options. */
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

	/* False: there is nothing to be measured, and @why says why. */
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
