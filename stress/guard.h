/* SPDX-License-Identifier: MIT */
/* A signal in an access brings the thread back to where it began. */
#ifndef STRESS_GUARD_H
#define STRESS_GUARD_H

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Where a thread can be brought back to from a signal. */
struct guard {
	sigjmp_buf jump;
	volatile sig_atomic_t armed;
};

/* For all threads; with @resolve faults of regions that are served in context are resolved. */
int guard_install(bool resolve, _Atomic uint64_t *nr_signals);
/* The guard of this thread; NULL: none. */
void guard_set(struct guard *g);
/* Copy the page at @at.  Return: 0, or the signal that it ended in. */
int guard_copy(struct guard *g, const char *at, uint64_t *copy);

#endif
