/* SPDX-License-Identifier: MIT */
/*
 * Faults that were resolved in context, as a worker sees them: their counts, and blocks
 * that became whole.
 */
#ifndef FLN_ENGINE_WHOLE_H
#define FLN_ENGINE_WHOLE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;

/* A fault that was resolved in context has ended; with @begun it was counted before. */
struct fln_context_ending {
	bool poisoned, failed; /* else resumed */
	bool zero, waited;
};

void fln_context_collapse(struct fln_shard *shard);

/* The same for those of a worker's @shards where it is time.  True: some are left. */
bool fln_context_collapse_due(struct fln_shard *shards, bool due);

void fln_context_begin_fault(struct fln_shard *shard);

void fln_context_end_fault(struct fln_shard *shard, struct fln_context_ending ending,
			   uint64_t t0_ns);

#endif
