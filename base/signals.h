/* SPDX-License-Identifier: MIT */
/*
 * Threads of ours run none of the embedder's signal handlers: they are started
 * while all signals are blocked, and inherit that.
 */
#ifndef FLN_BASE_SIGNALS_H
#define FLN_BASE_SIGNALS_H

#include <pthread.h>
#include <signal.h>

static inline void fln_signals_block(sigset_t *before)
{
	sigset_t all;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, before);
}

static inline void fln_signals_restore(const sigset_t *before)
{
	(void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

#endif
