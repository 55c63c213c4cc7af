/* SPDX-License-Identifier: MIT */
/*
 * Which pages a run touches, freed with it.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "bench/options.h"
#include "measure/order.h"

#include <string>

namespace bench {

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
