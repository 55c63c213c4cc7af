/* SPDX-License-Identifier: MIT */
/*
 * Thread-local variables that are allocated with the thread.
 *
 * In a library loaded by dlopen(), the default TLS model allocates a variable with
 * malloc() at a thread's first access, which may be on the fault path or in
 * a signal handler.  The initial-exec model allocates it with the thread.  Its space (static
 * TLS) is scarce: keep such variables small.
 *
 * The model is set for each variable and not by a compiler option for the whole library,
 * because liburcu's own variable has an alignment that static TLS cannot provide.  A thread
 * first accesses that one when it registers (fln_rcu_enter()).
 */
#ifndef FLN_BASE_TLS_H
#define FLN_BASE_TLS_H

#define FLN_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

#endif
