/* SPDX-License-Identifier: MIT */
/*
 * In-context service: threads that resolve their own faults.
 *
 * A region with FLN_DELIVERY_IN_CONTEXT has no queue of faults.  A thread that touches an unmapped
 * page of the region gets SIGBUS, and the handler calls fln_resolve(), which maps the page and its
 * neighbours on the faulting thread.  No other thread is woken unless contents must still be read.
 * This suits device emulation, vhost-user back ends and user-mode guests.  vCPUs under KVM need
 * queued regions, because KVM reports such a fault without its address.
 *
 * Each thread calls fln_thread_enter() before it first touches such a region, and
 * fln_thread_leave() before it ends.  The process has a SIGBUS handler that calls fln_resolve(),
 * either its own or that of fln_sigbus_install().
 *
 * System calls do not wait: given an unmapped buffer in such a region they return EFAULT, or do
 * less than asked.  Call fln_guest_populate() (advice.h) with the buffer first.
 *
 * Memory that mremap() has moved is inaccessible at its new address; for the SIGBUS or SIGSEGV
 * raised there fln_resolve() returns FLN_RESOLVED_NOT_OURS.  While mremap() moves memory onto part
 * of an in-context region, no thread may touch the 2 MiB blocks around the target.  Memory of
 * another guest must never be moved there.
 */
#ifndef FAULTLANE_CONTEXT_H
#define FAULTLANE_CONTEXT_H

#include <faultlane/base.h>
#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * fln_thread_enter() - Allow the calling thread to touch in-context regions
 *
 * Calls nest: each needs an fln_thread_leave() of its own.
 *
 * Return:  0; -ENOMEM; -ECHILD in a forked child
 * Threads: any, not in a signal handler
 * Blocks:  briefly
 */
FLN_API int fln_thread_enter(void);

/**
 * fln_thread_leave() - Undo fln_thread_enter()
 *
 * Threads: a thread that has entered, not in a signal handler
 * Blocks:  briefly
 */
FLN_API void fln_thread_leave(void);

/* The result of fln_resolve(). */
enum fln_resolved {
	FLN_RESOLVED_NOT_OURS, /* pass the signal on to the previous handler */
	FLN_RESOLVED,          /* return from the handler: the access is repeated */
};

/*
 * Strict C11 has no siginfo_t: define _POSIX_C_SOURCE (or _GNU_SOURCE).  Every C library that
 * declares siginfo_t also defines SI_USER.
 */
#ifdef SI_USER
/**
 * fln_resolve() - Resolve the fault behind a SIGBUS
 * @info: the second argument of the SA_SIGINFO handler
 *
 * FLN_RESOLVED_NOT_OURS is returned for other signals and other codes of SIGBUS; for addresses
 * outside in-context regions; on threads that have not entered, or that run on another stack than
 * their own (an alternate signal stack, a coroutine's); and for pages that have failed, after the
 * guest's on_failure has been carried out.  After a region was removed or stopped, a fault outside
 * of any region may be answered with FLN_RESOLVED once, because it could be an earlier fault of
 * that region.  The access then faults again.
 *
 * A handler that interrupts this call must return to it.  Jumping out of it (siglongjmp()) leaks
 * one of the slots in which threads wait for contents.  Cancellation of the thread takes effect
 * after this call has returned.
 *
 * Async-signal-safe: it takes no lock, allocates nothing and preserves errno.  The handler may
 * interrupt any code, that of the library included.
 *
 * Return:  enum fln_resolved
 * Threads: any, in a handler of SIGBUS
 * Blocks:  until the page's contents have been read
 */
FLN_API enum fln_resolved fln_resolve(const siginfo_t *info);
#endif

/**
 * fln_sigbus_install() - Install a SIGBUS handler, for programs that have none
 *
 * The handler calls fln_resolve(), and passes FLN_RESOLVED_NOT_OURS on to the previous action.  A
 * previous handler is called with the same arguments, on the same stack, and with the signal mask
 * that it asked for.  The default action ends the process.  While the handler is installed,
 * further calls do nothing.
 *
 * Return:  0, or a negative errno of sigaction(): nothing was installed then
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_sigbus_install(void);

/**
 * fln_sigbus_remove() - Restore the action from before fln_sigbus_install()
 *
 * Return:  0, also when the handler was not installed; -EBUSY when another handler has been
 *          installed over it: that one stays, and may still call ours; or a negative errno of
 *          sigaction(): the handler stays installed
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_sigbus_remove(void);

#ifdef __cplusplus
}
#endif

#endif
