/* SPDX-License-Identifier: MIT */
/*
 * The engine's threads, made by pthread_create(), or by the hooks of
 * the embedder, which may lend threads of its own.
 *
 * A borrowed thread goes back as it came: name, processors, nice value and signal
 * mask are what they were before.
 */
#ifndef FLN_BASE_THREAD_H
#define FLN_BASE_THREAD_H

#include "base/signals.h"

#include <faultlane/engine.h>

#define FLN_THREAD_CPU_WORDS 128u /* 8192 processors */

struct fln_thread {
	const struct fln_thread_hooks *hooks; /* NULL: ours */
	pthread_t thread;
	void *handle; /* the hooks' */
};

/*
 * Run @main(@arg) on a thread of its own.  All signals are blocked in one that we
 * make, from its first instruction on.
 * Return: 0; what the hook returned; or as fln_thread_refused().
 */
int fln_thread_create(struct fln_thread *t, const struct fln_thread_hooks *hooks,
		      enum fln_thread_kind kind, uint32_t index, void *(*main)(void *), void *arg);

/*
 * What pthread_create() failed with, in a sentence that names the thread.
 * Return: -EPERM where a filter refuses threads; else -EAGAIN.
 */
int fln_thread_refused(int err, const char *name, uint32_t index);

void fln_thread_join(struct fln_thread *t);

/* What a thread was like before it became one of the engine's. */
struct fln_thread_before {
	struct fln_signals_ours ours;
	sigset_t signals;
	char name[16];
	long cpu_bytes; /* of cpus; at most 0: not known */
	unsigned long cpus[FLN_THREAD_CPU_WORDS];
	int nice;
	int cancel;
};

/*
 * First and last in @main: block signals, take a name and refuse to be cancelled, which in
 * the middle of a round would leave claims and read sections behind; and undo all of it.
 */
void fln_thread_begin(struct fln_thread_before *before, enum fln_thread_kind kind, uint32_t index);
void fln_thread_end(const struct fln_thread_before *before);

#endif
