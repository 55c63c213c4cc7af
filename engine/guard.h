/* SPDX-License-Identifier: MIT */
/*
 * The guard: a thread that does nothing, until others do not come along.
 *
 * It looks now and then how old the oldest faults are and whether workers come back to
 * their loops, and tells of those that do not.  And it stops guests that cannot be served
 * any more: nobody else can, for a stop waits for workers, and perhaps for fillers.  It closes
 * forked children (strays.c), too, which may take long.
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
	struct fln_log_limit fault_limit, worker_limit, child_limit, stray_limit;
};

void fln_guard_init(struct fln_guard *guard);
void fln_guard_deinit(struct fln_guard *guard);
/* Return: 0; as fln_thread_create(). */
int fln_guard_start(struct fln_engine *engine);
void fln_guard_stop(struct fln_engine *engine);

/* Have it look now.  No lock held. */
void fln_guard_call(struct fln_guard *guard);

/* One look at everything, at @now_ns.  For the thread, and for tests. */
void fln_guard_look(struct fln_engine *engine, uint64_t now_ns);

/*
 * In place of a look, when the process was stopped before: what workers have noted is old,
 * and they could not come back.
 */
void fln_guard_resume(struct fln_engine *engine, uint64_t now_ns);

/*
 * A shard of the guest cannot be read any more, because of @error: the guest fails, and
 * the guard stops it.  By the shard's worker, no lock held.
 */
void fln_guard_end_guest(struct fln_guest *guest, int error);

#endif
