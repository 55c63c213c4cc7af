/* SPDX-License-Identifier: MIT */
/* RCU: the token by which ThreadSanitizer is told of grace periods. */
#include "base/rcu.h"

#ifdef FLN_TSAN
char fln_rcu_tsan_token;
#else
typedef int fln_rcu_not_empty;
#endif
