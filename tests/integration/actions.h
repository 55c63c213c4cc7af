/* SPDX-License-Identifier: MIT */
/* Comparing what is to be done about a signal: handler, flags and mask. */
#ifndef FLN_TESTS_ACTIONS_H
#define FLN_TESTS_ACTIONS_H

#include "tests/integration/harness.h"

#include <signal.h>

#define NR_SIGNALS 65

/* Ends the test when the action of @sig is not what it @was. */
static inline void same_action(int sig, const struct sigaction *was, const char *when)
{
	struct sigaction is;

	CHECK(sigaction(sig, NULL, &is) == 0, "signal %d: %s", sig, strerror(errno));
	CHECK(is.sa_sigaction == was->sa_sigaction, "%s: signal %d has another handler", when, sig);
	CHECK(is.sa_flags == was->sa_flags, "%s: signal %d has flags 0x%x, it had 0x%x", when, sig,
	      (unsigned int)is.sa_flags, (unsigned int)was->sa_flags);
	for (int other = 1; other < NR_SIGNALS; other++)
		CHECK(sigismember(&is.sa_mask, other) == sigismember(&was->sa_mask, other),
		      "%s: the mask of signal %d has another %d", when, sig, other);
}

#endif
