/* SPDX-License-Identifier: MIT */
/*
 * The guard: a thread that does nothing, until others do not come along.
 *
 * It looks now and then how old the oldest faults are and whether workers come back to
 * their loops, and tells of those that do not.  And it wakes the ender (ender.h) for guests
 * that are to end.
 */
#ifndef FLN_ENGINE_LIFE_GUARD_H
#define FLN_ENGINE_LIFE_GUARD_H

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_guard;
struct fln_guest;

void fln_guard_init(struct fln_guard *guard);
void fln_guard_deinit(struct fln_guard *guard);
/* Return: 0; as fln_thread_create(). */
int fln_guard_start(struct fln_engine *engine);
void fln_guard_stop(struct fln_engine *engine);

/* One look at everything, at @now_ns.  For the thread, and for tests. */
void fln_guard_look(struct fln_engine *engine, uint64_t now_ns);

/*
 * In place of a look, when the process was stopped before: what workers have noted is old,
 * and they could not come back.
 */
void fln_guard_resume(struct fln_engine *engine, uint64_t now_ns);

#endif
