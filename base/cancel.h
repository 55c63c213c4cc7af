/* SPDX-License-Identifier: MIT */
/*
 * Disables pthread_cancel() while a thread of the embedder is inside a public call.
 *
 * A thread that is cancelled inside a call never releases what it holds (a lock, a turn, a
 * fill, a claim), and other threads wait for that forever.  Almost any system call is a
 * cancellation point.  So every public function begins with FLN_UNCANCELLABLE, except those
 * that neither lock nor make system calls (cmake/check-symbols lists them).  The request stays
 * pending until the function has returned, also while it runs the embedder's callbacks.
 */
#ifndef FLN_BASE_CANCEL_H
#define FLN_BASE_CANCEL_H

#include <pthread.h>

static inline int fln_cancel_disable(void)
{
	int before = PTHREAD_CANCEL_ENABLE;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void fln_cancel_restore(const int *before)
{
	(void)pthread_setcancelstate(*before, NULL);
}

/* Must be the first declaration of a function.  In effect until the function returns; nests. */
#define FLN_UNCANCELLABLE                                                                  \
	const int fln_cancel_before __attribute__((cleanup(fln_cancel_restore), unused)) = \
		fln_cancel_disable()

#endif
