/* SPDX-License-Identifier: MIT */
/*
 * Threads of ours run none of the embedder's signal handlers: they are started
 * while all signals are blocked, and inherit that.
 */
#ifndef FLN_BASE_SIGNALS_H
#define FLN_BASE_SIGNALS_H

#include "base/tls.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>

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

/*
 * Signals that calls of ours, or of a source, may raise in the thread that makes them:
 * SIGXFSZ and SIGPIPE.  Between these two they are blocked, and what has been raised
 * meanwhile is taken away: neither the process nor a thread that was lent dies of it.
 */
struct fln_signals_ours {
	sigset_t before;
	sigset_t pending; /* before: those are not ours */
};

void fln_signals_ours_begin(struct fln_signals_ours *ours);
void fln_signals_ours_end(const struct fln_signals_ours *ours);

/*
 * Block what a thread does not cause itself: that comes in any case, and should find
 * its handler.  Async-signal-safe.
 */
void fln_signals_block_others(sigset_t *before);

/*
 * Threads that resolve their own faults (fln_thread_enter()) may be interrupted by
 * a signal whose handler touches memory that must still be filled.  While it waits
 * there it may hold nothing that others need to fill it: so such a thread runs no
 * handler while it holds a lock of ours or liburcu's, reads under RCU, or fills pages
 * itself.  Other threads pay for a look at their own memory.  Never in a signal
 * handler: there fln_signals_block_others().
 */
struct fln_signals_thread {
	uint32_t entered; /* fln_thread_enter() less fln_thread_leave() */
	uint32_t depth;
	sigset_t before;
};

/* Not allocated on first touch: handlers look at it. */
extern FLN_THREAD_LOCAL struct fln_signals_thread fln_signals_thread;

void fln_signals_hold_slow(void);
void fln_signals_release_slow(void);

static inline void fln_signals_hold(void)
{
	if (fln_signals_thread.entered)
		fln_signals_hold_slow();
}

static inline void fln_signals_release(void)
{
	if (fln_signals_thread.entered)
		fln_signals_release_slow();
}

#endif
