/* SPDX-License-Identifier: MIT */
/*
 * The engine's threads, created by pthread_create() or by the embedder's hooks, which may
 * lend existing threads.
 *
 * A lent thread is returned with its previous name, affinity, nice value, signal mask and
 * cancellation state.
 */
#ifndef FLN_BASE_THREAD_H
#define FLN_BASE_THREAD_H

#include "base/signals.h"

#include <faultlane/engine.h>

#define FLN_THREAD_CPU_WORDS 128u /* 8192 processors */

struct fln_thread {
	const struct fln_thread_hooks *hooks; /* NULL: created by pthread_create() */
	pthread_t thread;
	void *handle; /* what the hooks returned */
};

/*
 * Run @main(@arg) on a thread that the hooks create or lend; without hooks, on a new thread that
 * starts with all signals blocked.  Return: 0; the hook's negative errno (-EINVAL if it returned
 * a positive number); or as fln_thread_refused().
 */
int fln_thread_create(struct fln_thread *t, const struct fln_thread_hooks *hooks,
		      enum fln_thread_kind kind, uint32_t index, void *(*main)(void *), void *arg);

/*
 * Set the error message for a pthread_create() that failed with @err; @name and @index say which
 * thread it was for.  Return: -EPERM when a seccomp filter forbids it; else -EAGAIN.
 */
int fln_thread_refused(int err, const char *name, uint32_t index);

void fln_thread_join(struct fln_thread *t);

/* What fln_thread_begin() found on the thread, for fln_thread_end() to restore. */
struct fln_thread_before {
	struct fln_signals_ours ours;
	sigset_t signals;
	char name[16];
	long cpu_bytes; /* valid bytes of cpus; at most 0: unknown */
	unsigned long cpus[FLN_THREAD_CPU_WORDS];
	int nice;
	int cancel;
};

/*
 * The first and the last call of @main, on the new or lent thread.  Begin blocks signals, names
 * the thread and disables cancellation: a thread cancelled in the middle of its work would leave
 * claimed pages and RCU read sections behind.  End restores all of struct fln_thread_before.
 */
void fln_thread_begin(struct fln_thread_before *before, enum fln_thread_kind kind, uint32_t index);
void fln_thread_end(const struct fln_thread_before *before);

#endif
