/* SPDX-License-Identifier: MIT */
/*
 * The state of the machine, for the report.
 */
#ifndef BENCH_CONTEXT_H
#define BENCH_CONTEXT_H

namespace bench {

/* Hand it to Google Benchmark; takes a tenth of a second, in which others are watched. */
void add_context();

} /* namespace bench */

#endif
