/* SPDX-License-Identifier: MIT */
/*
 * The results of a run, and their conversion to counters of the report.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include "measure/touch.h"

#include <benchmark/benchmark.h>
#include <faultlane/stats.h>
#include <string>

namespace bench {

/* Memory at the end of a run; of several iterations the largest. */
struct memory_figures {
	uint64_t all_bytes = 0;          /* page cache, private copies, page tables, the maps */
	uint64_t page_table_bytes = 0;   /* since the design was set up */
	uint64_t large_folio_bytes = 0;  /* page cache in folios of 2 MiB */
	uint64_t large_mapped_bytes = 0; /* mapped by entries of 2 MiB */
	uint64_t released_bytes = 0;
	uint64_t nr_userfaultfds = 0; /* open */
};

struct figures {
	uint64_t nr_pages = 0; /* touched */
	double seconds = 0;    /* from the first touch to the last */
	measure_task touchers = {};
	measure_task workers = {}; /* all threads that handle faults */
	double others = 0;         /* average number of processors that other load used */
	bool noisy = false;        /* others exceeded --max-others */
	uint32_t nr_retries = 0;
	uint64_t nr_faults = 0;
	double fill_seconds = 0;     /* before the clock started */
	double warm_seconds = 0;     /* warm_memory() */
	double settle_seconds = 0;   /* after the last touch */
	uint64_t settled_cpu_ns = 0; /* of the process, from the start until all was settled */
	memory_figures memory;
	fln_histogram touch = {};   /* every touch */
	fln_histogram faulted = {}; /* touches that faulted */
	fln_histogram fault = {};   /* from read to wake */

	/* Set what the touches have shown; the rest comes from the design's counters. */
	void take(const measure_touch_result &from, uint64_t pages);
	/* Call it once all is settled. */
	void take_settled(const measure_touch_result &from);
	/* What the design has counted. */
	void take_stats(const fln_stats &from);
	/* Decide whether the run is noisy. */
	void judge(const measure_crowd_result &from);
	/* Add the results of another iteration. */
	void add(const figures &from);
	/* Write all counters; 0 where a design has none. */
	void report(benchmark::State &state) const;
};

/*
 * Report a failed benchmark, which also makes the program's exit status 1.
 * A reason that begins with "left out: " does not count as a failure.
 */
void fail(benchmark::State &state, const std::string &why);
bool any_failed();

/*
 * Run all iterations.  @once measures one; it is repeated while noisy, and the try with the
 * least other load counts.  It returns false, with a message, when it failed.
 */
template <class Once> void run(benchmark::State &state, Once once);

/* The part of run() that does not depend on its template parameter. */
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
