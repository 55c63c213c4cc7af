/* SPDX-License-Identifier: MIT */
/*
 * A SIGBUS handler for programs that have none of their own, and its chain.
 *
 * SA_NODEFER: a signal that comes while a thread waits here for contents runs its
 * handler, which may touch such memory itself.  No SA_ONSTACK: see fln_resolve().
 */
#include <faultlane/context.h>

#include "base/cancel.h"
#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed; /* guarded by lock */

/* What was there before: written while nobody reads it, then named. */
static struct sigaction before[2];
static _Atomic uint32_t current;
static _Atomic bool spent; /* it asked to be called once (SA_RESETHAND) */

/*
 * No access of this thread's, which would come again when it is repeated: somebody has
 * sent it, or it is early news of memory that has gone bad.
 */
static bool is_news(const siginfo_t *info)
{
	return info->si_code <= 0 || info->si_code == BUS_MCEERR_AO;
}

/* The default ends the process, with this very signal. */
static void end_process(int sig, const siginfo_t *info)
{
	struct sigaction dfl = { .sa_flags = 0 };

	dfl.sa_handler = SIG_DFL;
	(void)sigaction(sig, &dfl, NULL);
	/* A fault comes again by itself. */
	if (is_news(info))
		(void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

static void pass_on(int sig, siginfo_t *info, void *ucontext)
{
	const struct sigaction *sa = &before[atomic_load_explicit(&current, memory_order_acquire)];
	bool with_info = sa->sa_flags & SA_SIGINFO;
	sigset_t mask = sa->sa_mask, old;

	if (!with_info && sa->sa_handler == SIG_IGN && is_news(info))
		return;
	/* A fault that is ignored ends the process too: it would fault for ever. */
	if ((!with_info && (sa->sa_handler == SIG_DFL || sa->sa_handler == SIG_IGN)) ||
	    ((sa->sa_flags & (int)SA_RESETHAND) && atomic_exchange(&spent, true))) {
		end_process(sig, info);
		return;
	}
	if (!(sa->sa_flags & SA_NODEFER))
		(void)sigaddset(&mask, sig);
	(void)pthread_sigmask(SIG_BLOCK, &mask, &old);
	if (with_info)
		sa->sa_sigaction(sig, info, ucontext);
	else
		sa->sa_handler(sig);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	int err = errno;

	if (fln_resolve(info) == FLN_RESOLVED_NOT_OURS)
		pass_on(sig, info, ucontext);
	errno = err;
}

int fln_sigbus_install(void)
{
	FLN_UNCANCELLABLE;
	struct sigaction ours = { .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART }, *there;
	uint32_t next;
	int rc = 0;

	ours.sa_sigaction = on_sigbus;
	(void)pthread_mutex_lock(&lock);
	next = 1 - atomic_load(&current);
	there = &before[next];
	/* First what is there: ours may be called before sigaction() has returned. */
	if (!installed && sigaction(SIGBUS, NULL, there) == 0) {
		/* Removed, then put back by code that had saved it: the chain is as it was. */
		if (!(there->sa_flags & SA_SIGINFO) || there->sa_sigaction != on_sigbus) {
			atomic_store(&spent, false);
			atomic_store_explicit(&current, next, memory_order_release);
			rc = sigaction(SIGBUS, &ours, NULL) == 0 ? 0 : errno;
		}
		installed = rc == 0;
	}
	(void)pthread_mutex_unlock(&lock);
	return rc ? fln_fail(rc, "sigaction(SIGBUS): %s", strerror(rc)) : 0;
}

int fln_sigbus_remove(void)
{
	FLN_UNCANCELLABLE;
	struct sigaction there;
	int rc = 0;

	(void)pthread_mutex_lock(&lock);
	if (installed) {
		(void)sigaction(SIGBUS, NULL, &there);
		if ((there.sa_flags & SA_SIGINFO) && there.sa_sigaction == on_sigbus)
			(void)sigaction(SIGBUS, &before[atomic_load(&current)], NULL);
		else
			rc = EBUSY;
		installed = rc != 0;
	}
	(void)pthread_mutex_unlock(&lock);
	return rc ? fln_fail(rc, "SIGBUS has another handler by now, which stays; remove that one "
				 "first")
		  : 0;
}
