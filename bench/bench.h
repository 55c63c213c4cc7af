/* SPDX-License-Identifier: MIT */
/*
 * What the families of benchmarks share.
 *
 * A family registers itself by a static object, so that a file of its own and its name
 * in CMakeLists.txt are all that it takes:
 *
 *	static bench::family family("touch", register_touch);
 *
 * register_touch() is called once, before benchmarks are listed or run, and calls
 * benchmark::RegisterBenchmark() with each name.  It must be cheap: there are thousands.
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

/* Threads that touch, kept from run to run. */
measure_crowd *the_crowd();

/* The numbers of threads of the default grid, or those of --threads. */
std::vector<uint32_t> thread_counts();

/* The processors of --pin, as measure_crowd_run() wants them; nullptr: none. */
const char *pin_cpus();

int run_main(int argc, char **argv);

/* A run in which pages are to be found wrong, for tests of that (FAULTLANE_BENCH_SPOIL). */
bool spoils();

} /* namespace bench */

#endif
