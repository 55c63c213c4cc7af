/* SPDX-License-Identifier: MIT */
/*
 * Shared declarations of the benchmark families.
 *
 * A family registers itself by a static object, so a new family needs only a source file,
 * listed in CMakeLists.txt:
 *
 *	static bench::family family("touch", register_touch);
 *
 * register_touch() is called once, before benchmarks are listed or run, and calls
 * benchmark::RegisterBenchmark() for each benchmark.  It must be cheap: there are thousands.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench/design.h"
#include "bench/figures.h"
#include "bench/memory.h"
#include "bench/options.h"
#include "measure/crowd.h"

#include <benchmark/benchmark.h>
#include <string>
#include <vector>

namespace bench {

struct family {
	family(const char *name, void (*register_all)());
};

/* The touching threads, reused by all runs. */
measure_crowd *the_crowd();

/* The numbers of threads to measure: --threads, or the default grid. */
std::vector<uint32_t> thread_counts();

/* The CPU list of --pin, for measure_crowd_run(); nullptr: not pinned. */
const char *pin_cpus();

int run_main(int argc, char **argv);

/* FAULTLANE_BENCH_SPOIL is set: corrupt a page, to test that verification detects it. */
bool spoils();

} /* namespace bench */

#endif
