/* SPDX-License-Identifier: MIT */
/*
 * The state of the machine and the settings, for the report.
 */
#ifndef BENCH_CONTEXT_H
#define BENCH_CONTEXT_H

namespace bench {

/* Pass it to Google Benchmark; blocks for 0.1 s to measure other load. */
void add_context();

} /* namespace bench */

#endif
