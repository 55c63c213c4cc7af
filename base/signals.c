/* SPDX-License-Identifier: MIT */
/* Holding signals off while a thread has what others need; the reason is in signals.h. */
#include "base/signals.h"

#include "base/error.h"

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
