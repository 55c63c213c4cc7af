/* SPDX-License-Identifier: MIT */
/* RCU: what is not for every reader to have in its code. */
#include "base/rcu.h"

#ifdef FLN_TSAN
/* By which ThreadSanitizer is told of grace periods. */
char fln_rcu_tsan_token;
#endif

void fln_rcu_prepare(void)
{
	sigset_t before;

	fln_signals_block(&before);
	(void)urcu_memb_get_default_call_rcu_data();
	fln_signals_restore(&before);
}
