/* SPDX-License-Identifier: MIT */
/* A guard: a signal during an access returns the thread to before the access. */
#include "stress/guard.h"

#include "stress/contents.h"
#include "vcpu/vcpu.h"

#include <errno.h>
#include <faultlane/faultlane.h>
#include <pthread.h>
#include <string.h>
#include <ucontext.h>

static _Thread_local struct guard *my_guard;
static bool resolves; /* set once, before there are threads */
static _Atomic uint64_t *storm_signals;

void guard_set(struct guard *g)
{
	my_guard = g;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	if (resolves && fln_resolve(info) == FLN_RESOLVED)
		return;
	if (signo == SIGBUS && vcpu_sigbus(info))
		return;
	if (my_guard && my_guard->armed) {
		my_guard->armed = 0;
		/* ThreadSanitizer runs handlers with all signals blocked, SIGBUS too. */
		(void)pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(my_guard->jump, signo);
	}
	(void)sigaction(signo, &dfl, NULL); /* the access is retried, and ends the process */
}

static void on_storm(int signo)
{
	(void)signo;
	atomic_fetch_add_explicit(storm_signals, 1, memory_order_relaxed);
}

int guard_install(bool resolve, _Atomic uint64_t *nr_signals)
{
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct sigaction storm = { .sa_handler = on_storm, .sa_flags = SA_RESTART };

	resolves = resolve;
	storm_signals = nr_signals;
	return sigaction(SIGBUS, &fault, NULL) || sigaction(SIGSEGV, &fault, NULL) ||
			       sigaction(SIGUSR1, &storm, NULL)
		       ? -errno
		       : 0;
}

__attribute__((noinline)) int guard_copy(struct guard *g, const char *at, uint64_t *copy)
{
	int signo = sigsetjmp(g->jump, 0);

	if (signo)
		return signo;
	g->armed = 1;
	memcpy(copy, at, PAGE_BYTES);
	g->armed = 0;
	return 0;
}
