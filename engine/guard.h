/* SPDX-License-Identifier: MIT */
/*
 * The guard: a thread that does nothing, until others do not come along.
 *
 * It looks now and then how old the oldest faults are and whether workers come back to
 * their loops, and tells of those that do not.  And it stops guests that cannot be served
 * any more: nobody else can, for a stop waits for workers, and perhaps for fillers.
 */
#ifndef FLN_ENGINE_GUARD_H
#define FLN_ENGINE_GUARD_H

#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_guest;
struct fln_shard;
struct fln_worker;

struct fln_guard {
	struct fln_thread thread;
	struct fln_lock lock; /* FLN_RANK_LEAF */
	pthread_cond_t wake;
	bool called, stopping; /* guarded by lock */
	struct fln_log_limit fault_limit, worker_limit;
};

void fln_guard_init(struct fln_guard *guard);
void fln_guard_deinit(struct fln_guard *guard);
/* Return: 0; as fln_thread_create(). */
int fln_guard_start(struct fln_engine *engine);
void fln_guard_stop(struct fln_engine *engine);

/* One look at everything, at @now_ns.  For the thread, and for tests. */
void fln_guard_look(struct fln_engine *engine, uint64_t now_ns);

/*
 * A shard of the guest cannot be read any more, because of @error: the guest fails, and
 * the guard stops it.  By the shard's worker, no lock held.
 */
void fln_guard_end_guest(struct fln_guest *guest, int error);

/*
 * oldest.c: what a shard's worker has noted of its oldest fault.  Written by the worker
 * alone; readers read until they have read the same twice.
 */
struct fln_oldest {
	_Atomic uint64_t t0_ns; /* 0: nobody waits */
	_Atomic uint64_t addr, home;
	_Atomic uint32_t waits_for, worker;
};

/* oldest.c: note anew what waits.  The worker's thread; it looks at all that it holds, held_max at most. */
void fln_oldest_note(struct fln_worker *w);
/* oldest.c: the worker lets go of a shard. */
void fln_oldest_forget(struct fln_worker *w, struct fln_shard *shard);
/* oldest.c: since when the oldest fault of a shard has waited; 0: none waits. */
uint64_t fln_oldest_since(const struct fln_shard *shard);
/* How long that is; never 0, which would be nobody. */
static inline uint64_t fln_oldest_age_ns(uint64_t t0_ns, uint64_t now_ns)
{
	return now_ns > t0_ns ? now_ns - t0_ns : 1;
}
/* oldest.c: as fln_guest_oldest_fault(), at @now_ns; since when goes to *t0_ns.  False: none. */
bool fln_oldest_find(struct fln_guest *guest, uint64_t now_ns, struct fln_oldest_fault *out,
		     uint64_t *t0_ns);

#endif
