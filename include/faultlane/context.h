/* SPDX-License-Identifier: MIT */
/*
 * In-context service: threads that resolve their own faults.
 *
 * A region with FLN_DELIVERY_IN_CONTEXT has no queue.  A thread that touches a page
 * of it which is not mapped gets SIGBUS, and the handler calls fln_resolve(), which
 * maps the page, and its neighbours, on this very thread: no other thread is woken
 * unless contents must still be read.  For device emulation, vhost-user back ends
 * and user-mode guests; vCPUs under KVM need queued regions, because KVM reports
 * such a fault without its address.
 *
 * What a thread must do: fln_thread_enter() before it first touches such a region,
 * fln_thread_leave() before it ends.  What the process must do: have a SIGBUS
 * handler that calls fln_resolve(): its own, or fln_sigbus_install().
 *
 * System calls do not wait: one that is handed memory of such a region which is
 * not mapped returns EFAULT (or does less than asked).  Call fln_guest_populate()
 * with the buffer first (advice.h).
 *
 * What mremap() moves is not served at its new place, and unreadable: a touch there is a signal
 * that is not ours.  While mremap() puts something onto a part of
 * such a region nobody may touch the 2 MiB around it; memory of another guest's must not
 * be put there at all.
 */
#ifndef FAULTLANE_CONTEXT_H
#define FAULTLANE_CONTEXT_H

#include <faultlane/base.h>
#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * fln_thread_enter() - The calling thread may touch in-context regions from now on
 *
 * Calls nest: as many leaves as enters.
 *
 * Return:  0; -ENOMEM; -ECHILD in a forked child
 * Threads: any, not in a signal handler
 * Blocks:  briefly
 */
FLN_API int fln_thread_enter(void);

/**
 * fln_thread_leave() - Undo fln_thread_enter()
 *
 * Threads: one that has entered, not in a signal handler
 * Blocks:  briefly
 */
FLN_API void fln_thread_leave(void);

/* What fln_resolve() has to say. */
enum fln_resolved {
	FLN_RESOLVED_NOT_OURS, /* pass the signal on: to the handler that was there before */
	FLN_RESOLVED,          /* return from the handler: the access is tried again */
};

/*
 * Strict C11 has no siginfo_t: define _POSIX_C_SOURCE (or _GNU_SOURCE) for handlers.  SI_USER
 * comes with it, whatever the C library goes by.
 */
#ifdef SI_USER
/**
 * fln_resolve() - Answer a SIGBUS
 * @info: the handler's second argument (of SA_SIGINFO)
 *
 * Not ours are: other signals and other codes of SIGBUS; addresses outside in-context
 * regions; threads that have not entered, or that run on another stack than their own
 * (an alternate signal stack, a coroutine's); and pages that have failed (what the guest's on_failure says has been done).
 * When a region has been removed or stopped, a fault of somebody else's may first be
 * answered FLN_RESOLVED once, because it could be an old one of that region; it comes
 * again.
 *
 * A handler that interrupts this call must return to it: one that jumps out of it
 * (siglongjmp()) loses a slot of those in which threads wait for contents.  A thread
 * that is cancelled meanwhile ends when it has returned.
 *
 * Async-signal-safe, in handlers that interrupt anything, the library included:
 * takes no lock, allocates nothing, keeps errno.
 *
 * Return:  enum fln_resolved
 * Threads: any, in a handler of SIGBUS
 * Blocks:  while contents are read that are not there yet
 */
FLN_API enum fln_resolved fln_resolve(const siginfo_t *info);
#endif

/**
 * fln_sigbus_install() - A SIGBUS handler for programs that have none
 *
 * It calls fln_resolve(), and passes what is not ours on to the action that was in
 * force before: a handler is called with its arguments (on the stack that ours runs
 * on, with the mask it asked for), the default ends the process.  Once per process;
 * further calls do nothing.
 *
 * Return:  0; what sigaction() returned
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_sigbus_install(void);

/**
 * fln_sigbus_remove() - Put back what was there before fln_sigbus_install()
 *
 * Return:  0, also when it was not installed; -EBUSY when somebody has put another
 *          handler in its place: that one stays, and ours may be called by it
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_sigbus_remove(void);

#ifdef __cplusplus
}
#endif

#endif
