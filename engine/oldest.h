/* SPDX-License-Identifier: MIT */
/*
 * The oldest fault of a shard and of a guest: since when it waits, and for what.
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

/* Note anew what waits.  The worker's thread; it looks at all that it holds, held_max at most. */
void fln_oldest_note(struct fln_worker *w);
/* The worker lets go of a shard. */
void fln_oldest_forget(struct fln_worker *w, struct fln_shard *shard);
/* Since when the oldest fault of a shard has waited; 0: none waits. */
uint64_t fln_oldest_since(const struct fln_shard *shard);
/* How long that is; never 0, which would be nobody. */
static inline uint64_t fln_oldest_age_ns(uint64_t t0_ns, uint64_t now_ns)
{
	return now_ns > t0_ns ? now_ns - t0_ns : 1;
}
/* As fln_guest_oldest_fault(), at @now_ns; since when goes to *t0_ns.  False: none. */
bool fln_oldest_find(struct fln_guest *guest, uint64_t now_ns, struct fln_oldest_fault *out,
		     uint64_t *t0_ns);

#endif
