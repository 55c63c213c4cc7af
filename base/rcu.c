/* SPDX-License-Identifier: MIT */
/* RCU: what is not for every reader to have in its code. */
#include "base/rcu.h"

#include <signal.h>

#ifdef FLN_TSAN
/* By which ThreadSanitizer is told of grace periods. */
char fln_rcu_tsan_token;
#endif

void fln_rcu_prepare(void)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	(void)urcu_memb_get_default_call_rcu_data();
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}
