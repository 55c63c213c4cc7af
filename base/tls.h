/* SPDX-License-Identifier: MIT */
/*
 * Thread-local data that a thread can use at any point of its life.
 *
 * In a library that is loaded late (dlopen()) the general model allocates a
 * variable at a thread's first use of it: by malloc, perhaps on the fault path or in
 * a signal handler.  The initial-exec model has its place in every thread from the
 * beginning.  That place is small: keep such variables small.
 *
 * It is said of each variable and not of the whole library by a compiler option:
 * liburcu's own variable has an alignment which such a place cannot give.  A thread
 * touches that one first when it registers (fln_rcu_enter()).
 */
#ifndef FLN_BASE_TLS_H
#define FLN_BASE_TLS_H

#define FLN_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

#endif
