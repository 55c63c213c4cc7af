/* SPDX-License-Identifier: MIT */
/* Latency histograms that many threads record into. */
#ifndef FLN_BASE_HISTOGRAM_H
#define FLN_BASE_HISTOGRAM_H

#include <faultlane/stats.h>

/* As fln_histogram_record(), on any thread, also in a signal handler. */
void fln_histogram_record_shared(struct fln_histogram *h, uint64_t value_ns);

/* The largest value that a bucket counts. */
uint64_t fln_histogram_bucket_end(uint32_t bucket);

#endif
