/* SPDX-License-Identifier: MIT */
/* Holding signals off while a thread has what others need; the reason is in signals.h. */
#include "base/signals.h"

#include "base/error.h"

#include <time.h>

FLN_THREAD_LOCAL struct fln_signals_thread fln_signals_thread;

void fln_signals_block_others(sigset_t *before)
{
	static const int caused[] = { SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT };
	sigset_t others;

	(void)sigfillset(&others);
	for (uint32_t i = 0; i < sizeof(caused) / sizeof(caused[0]); i++)
		(void)sigdelset(&others, caused[i]);
	(void)pthread_sigmask(SIG_BLOCK, &others, before);
}

static void ours_of(sigset_t *set)
{
	(void)sigemptyset(set);
	(void)sigaddset(set, SIGXFSZ);
	(void)sigaddset(set, SIGPIPE);
}

void fln_signals_ours_begin(struct fln_signals_ours *ours)
{
	sigset_t set;

	ours_of(&set);
	(void)pthread_sigmask(SIG_BLOCK, &set, &ours->before);
	if (sigpending(&ours->pending) != 0)
		(void)sigfillset(&ours->pending);
}

void fln_signals_ours_end(const struct fln_signals_ours *ours)
{
	static const struct timespec now = { 0, 0 };
	sigset_t set, pending;

	ours_of(&set);
	if (sigismember(&ours->pending, SIGXFSZ))
		(void)sigdelset(&set, SIGXFSZ);
	if (sigismember(&ours->pending, SIGPIPE))
		(void)sigdelset(&set, SIGPIPE);
	/* Mostly nothing is pending: one cheap look says so. */
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
