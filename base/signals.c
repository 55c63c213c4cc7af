/* SPDX-License-Identifier: MIT */
/* Blocks signals in the library's threads and critical sections (see signals.h). */
#include "base/signals.h"

#include "base/error.h"

#include <time.h>

FLN_THREAD_LOCAL struct fln_signals_thread fln_signals_thread;

void fln_signals_block_others(sigset_t *before)
{
	/* Signals that the thread causes itself, by a fault or abort(). */
	static const int synchronous[] = { SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT };
	sigset_t others;

	(void)sigfillset(&others);
	for (uint32_t i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++)
		(void)sigdelset(&others, synchronous[i]);
	(void)pthread_sigmask(SIG_BLOCK, &others, before);
}

static void set_ours(sigset_t *set)
{
	(void)sigemptyset(set);
	(void)sigaddset(set, SIGXFSZ);
	(void)sigaddset(set, SIGPIPE);
}

void fln_signals_ours_begin(struct fln_signals_ours *ours)
{
	sigset_t set;

	set_ours(&set);
	(void)pthread_sigmask(SIG_BLOCK, &set, &ours->before);
	if (sigpending(&ours->pending) != 0)
		(void)sigfillset(&ours->pending);
}

void fln_signals_ours_end(const struct fln_signals_ours *ours)
{
	static const struct timespec now = { 0, 0 };
	sigset_t set, pending;

	set_ours(&set);
	if (sigismember(&ours->pending, SIGXFSZ))
		(void)sigdelset(&set, SIGXFSZ);
	if (sigismember(&ours->pending, SIGPIPE))
		(void)sigdelset(&set, SIGPIPE);
	/* Usually nothing is pending, and one sigpending() is all it costs. */
	if (sigpending(&pending) == 0 &&
	    ((sigismember(&pending, SIGXFSZ) && sigismember(&set, SIGXFSZ)) ||
	     (sigismember(&pending, SIGPIPE) && sigismember(&set, SIGPIPE)))) {
		while (sigtimedwait(&set, NULL, &now) > 0)
			;
	}
	fln_signals_restore(&ours->before);
}

void fln_signals_hold_slow(void)
{
	if (fln_signals_thread.depth++ > 0)
		return;
	fln_signals_block_others(&fln_signals_thread.before);
}

void fln_signals_release_slow(void)
{
	FLN_DEBUG_ASSERT(fln_signals_thread.depth > 0);
	if (--fln_signals_thread.depth == 0)
		fln_signals_restore(&fln_signals_thread.before);
}
