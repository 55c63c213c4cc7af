/* SPDX-License-Identifier: MIT */
/* Latency histograms: what the public functions (faultlane/stats.h) do not offer. */
#ifndef FLN_BASE_HISTOGRAM_H
#define FLN_BASE_HISTOGRAM_H

#include <faultlane/stats.h>

/* fln_histogram_record() for several writers at once.  Async-signal-safe. */
void fln_histogram_record_shared(struct fln_histogram *h, uint64_t value_ns);

/* The largest value that falls into a bucket. */
uint64_t fln_histogram_bucket_end(uint32_t bucket);

#endif
