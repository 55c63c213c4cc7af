/* SPDX-License-Identifier: MIT */
/*
 * The guard: a thread that reports stalls.
 *
 * At least once a second it checks the age of each guest's oldest fault, and whether each worker
 * has finished a round since the last check.  It also wakes the ender (ender.h) when a guest is
 * to end.  struct fln_guard is in engine/state/engine.h.
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
/* Return: 0; errors of fln_thread_create(). */
int fln_guard_start(struct fln_engine *engine);
/* Blocks until the guard's thread has ended. */
void fln_guard_stop(struct fln_engine *engine);

/* One check of everything, as of @now_ns.  On the guard's thread, or in a test. */
void fln_guard_look(struct fln_engine *engine, uint64_t now_ns);

/*
 * In place of a check after the process was stopped: the workers' notes are stale, and no worker
 * could have finished a round meanwhile.
 */
void fln_guard_resume(struct fln_engine *engine, uint64_t now_ns);

#endif
