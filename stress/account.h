/* SPDX-License-Identifier: MIT */
/* Checks that each fault is counted once, and that all of them end (I4). */
#ifndef STRESS_ACCOUNT_H
#define STRESS_ACCOUNT_H

#include "stress/stress.h"

/* Add what the guest has counted so far. */
void account_add(struct stress *s, struct totals *t);
/* Complains if more faults have ended than begun.  At any time while the guest exists. */
void account_check_ended(struct stress *s);
/*
 * While no thread is inside a touch: complains unless all faults have ended, each counted once.
 * Waits for the counters up to --max-wait.
 */
void account_check_settled(struct stress *s);
/* After the stop of the guest: complains unless every fault has ended; adds to the totals. */
void account_settle(struct stress *s);

#endif
