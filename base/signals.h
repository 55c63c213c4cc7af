/* SPDX-License-Identifier: MIT */
/*
 * Signal masks.  The library's threads run none of the embedder's signal handlers: they are
 * created while all signals are blocked, and inherit that mask.
 */
#ifndef FLN_BASE_SIGNALS_H
#define FLN_BASE_SIGNALS_H

#include "base/tls.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>

/* Block all signals; *before receives the previous mask, for fln_signals_restore(). */
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
 * Block SIGXFSZ and SIGPIPE, which our system calls or a source's may raise in the calling
 * thread.  fln_signals_ours_end() discards what was raised since fln_signals_ours_begin() and
 * restores the mask, so that the signal does not kill the process later, when a lent thread
 * is back with its own mask.
 */
struct fln_signals_ours {
	sigset_t before;
	sigset_t pending; /* pending before, so not raised by us: left pending */
};

void fln_signals_ours_begin(struct fln_signals_ours *ours);
void fln_signals_ours_end(const struct fln_signals_ours *ours);

/*
 * Block all signals but the synchronous ones (SIGSEGV, SIGBUS …), which cannot be deferred and
 * must reach their handlers.  Async-signal-safe.
 */
void fln_signals_block_others(sigset_t *before);

/*
 * Hold signals off in a critical section.  A thread that resolves its own faults
 * (fln_thread_enter()) may be interrupted by a signal whose handler touches unfilled memory
 * and waits for it there.  The interrupted code must then hold nothing that another thread
 * needs to fill that memory.  So such a thread runs no handler while it holds a lock of
 * ours or liburcu's, is in an RCU read section, or fills pages itself.  For all other
 * threads this costs one thread-local load.  Calls nest.  Not for signal
 * handlers, which use fln_signals_block_others().
 */
struct fln_signals_thread {
	uint32_t entered; /* calls of fln_thread_enter() minus those of fln_thread_leave() */
	uint32_t depth;   /* of nested fln_signals_hold() */
	sigset_t before;  /* the mask before the outermost one */
};

/* Signal handlers read it, so it must not be allocated on first use (tls.h). */
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
