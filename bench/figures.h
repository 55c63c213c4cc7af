/* SPDX-License-Identifier: MIT */
/*
 * What a run measured, and how it becomes the counters of the report.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include "measure/touch.h"

#include <benchmark/benchmark.h>
#include <faultlane/stats.h>
#include <string>

namespace bench {

struct figures {
	uint64_t nr_pages = 0; /* touched */
	double seconds = 0;    /* from the first touch to the last */
	measure_task touchers = {};
	measure_task workers = {}; /* all threads that serve */
	double others = 0;         /* processors' worth of time that went to others */
	bool noisy = false;        /* and that was too much */
	uint32_t nr_retries = 0;
	uint64_t nr_faults = 0;
	fln_histogram touch = {};   /* every touch */
	fln_histogram faulted = {}; /* touches that faulted */
	fln_histogram fault = {};   /* from read to wake */

	/* What touching measured; fault and nr_faults are the design's to tell. */
	void take(const measure_touch_result &from, uint64_t pages);
	/* Judge whether others used so much that it does not count. */
	void judge(const measure_crowd_result &from);
	/* Add another run, as an iteration. */
	void add(const figures &from);
	/* Write the counters; all of them, zero where there is no such thing. */
	void report(benchmark::State &state) const;
};

/*
 * A benchmark has failed: says so in the report, and the program's exit status.
 * What begins with "left out: " is no failure.
 */
void fail(benchmark::State &state, const std::string &why);
bool any_failed();

/*
 * One iteration after the other: @once measures, and is repeated when others disturbed
 * it; the quietest try counts.  It returns false with a sentence when there are no
 * figures available.
 */
template <class Once> void run(benchmark::State &state, Once once);

/* Of run(), what does not depend on the type. */
bool is_last_try(const figures &f, uint32_t nr_tries);

template <class Once> void run(benchmark::State &state, Once once)
{
	figures sum;
	bool first = true;

	for (auto _ : state) {
		figures best;

		for (uint32_t nr_tries = 1;; nr_tries++) {
			figures f;
			std::string why;

			if (!once(&f, &why)) {
				fail(state, why);
				return;
			}
			if (nr_tries == 1 || f.others < best.others)
				best = f;
			best.nr_retries = nr_tries - 1;
			if (is_last_try(f, nr_tries))
				break;
		}
		if (first)
			sum = best;
		else
			sum.add(best);
		first = false;
	}
	sum.report(state);
}

} /* namespace bench */

#endif
