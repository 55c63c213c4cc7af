/* SPDX-License-Identifier: MIT */
/*
 * Threads of the embedder's inside a call.
 *
 * A thread that pthread_cancel() ends in the middle of a call leaves behind what it holds:
 * a lock, a turn, a fill, a claim; others then wait for it for ever.  Any system call on the
 * way may be where it ends.  So every public function begins with FLN_UNCANCELLABLE, but
 * those that neither lock nor call the kernel (cmake/check-symbols lists them): a request
 * to end the thread is kept until it has returned, callbacks of the embedder's included.
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

/* The first declaration of a function; lasts until it returns, and nests. */
#define FLN_UNCANCELLABLE                                                                  \
	const int fln_cancel_before __attribute__((cleanup(fln_cancel_restore), unused)) = \
		fln_cancel_disable()

#endif
