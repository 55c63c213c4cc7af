/* SPDX-License-Identifier: MIT */
/*
 * Faults that threads resolve in their own context: their counters, and the collapse of blocks
 * that have become whole.
 *
 * Counting is async-signal-safe and may be done by any thread; collapsing is the worker's.
 * Nothing here blocks.
 */
#ifndef FLN_ENGINE_WHOLE_H
#define FLN_ENGINE_WHOLE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;

/* How a fault that was resolved in context has ended. */
struct fln_context_ending {
	bool poisoned, failed; /* neither: the thread resumed with its page */
	bool zero;             /* the page was zeros */
	bool waited;           /* for its contents */
};

/* Collapse the shard's blocks that threads have noted as whole. */
void fln_context_collapse(struct fln_shard *shard);

/*
 * The same for those of @shards that have noted many blocks or lack chunks; with @due, for all.
 * Returns true if some blocks are left.
 */
bool fln_context_collapse_due(struct fln_shard *shards, bool due);

/* A thread begins to resolve a fault of the shard. */
void fln_context_begin_fault(struct fln_shard *shard);

/* The fault, which began at @t0_ns, has ended. */
void fln_context_end_fault(struct fln_shard *shard, struct fln_context_ending ending,
			   uint64_t t0_ns);

#endif
