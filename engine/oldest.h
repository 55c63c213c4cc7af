/* SPDX-License-Identifier: MIT */
/*
 * The oldest waiting fault of a shard and of a guest: since when it waits, and for what.
 *
 * A shard's worker publishes it, any thread may read it.  Readers wait for no worker.
 */
#ifndef FLN_ENGINE_OLDEST_H
#define FLN_ENGINE_OLDEST_H

#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_shard;
struct fln_worker;

/* Publish the oldest fault of each shard.  The worker's thread; walks all faults that it holds. */
void fln_oldest_note(struct fln_worker *w);
/* The shard is being detached from the worker: no fault of it waits any more. */
void fln_oldest_forget(struct fln_worker *w, struct fln_shard *shard);
/* When the oldest waiting fault of a shard was read; 0: none waits. */
uint64_t fln_oldest_since(const struct fln_shard *shard);
/* Its age; at least 1, because 0 means that none waits. */
static inline uint64_t fln_oldest_age_ns(uint64_t t0_ns, uint64_t now_ns)
{
	return now_ns > t0_ns ? now_ns - t0_ns : 1;
}
/*
 * As fln_guest_oldest_fault(), at @now_ns.  *t0_ns: when the fault was read.  False: none waits.
 */
bool fln_oldest_find(struct fln_guest *guest, uint64_t now_ns, struct fln_oldest_fault *out,
		     uint64_t *t0_ns);

#endif
