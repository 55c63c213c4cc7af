/* SPDX-License-Identifier: MIT */
/* Faults are counted once each, and all of them end (I4). */
#ifndef STRESS_ACCOUNT_H
#define STRESS_ACCOUNT_H

#include "stress/stress.h"

/* Add what the guest has counted so far. */
void account_add(struct stress *s, struct totals *t);
/* More faults have ended than begun?  At any time while the guest is there. */
void account_check_ended(struct stress *s);
/* Nobody is inside a touch: all faults have ended by themselves, each counted once. */
void account_check_settled(struct stress *s);
/* The guest has been stopped: every fault has ended, and goes into the totals. */
void account_settle(struct stress *s);

#endif
