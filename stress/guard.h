/* SPDX-License-Identifier: MIT */
/* A guard: a signal during an access returns the thread to before the access. */
#ifndef STRESS_GUARD_H
#define STRESS_GUARD_H

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Where the signal handler returns a thread to. */
struct guard {
	sigjmp_buf jump;
	volatile sig_atomic_t armed;
};

/* Install the handlers, for all threads; with @resolve they resolve faults of in-context regions. */
int guard_install(bool resolve, _Atomic uint64_t *nr_signals);
/* Set the guard of this thread; NULL: none. */
void guard_set(struct guard *g);
/* Copy the page at @at.  Return: 0, or the signal that ended the access. */
int guard_copy(struct guard *g, const char *at, uint64_t *copy);

#endif
