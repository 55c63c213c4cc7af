/* SPDX-License-Identifier: MIT */
/*
 * Threads that resolve their own faults: entering and leaving.
 *
 * A thread that has entered is an RCU reader in its signal handler, and blocks signals while it
 * holds a lock that filling a page may need (base/signals.h).  It resolves on its own stack only:
 * on an alternate signal stack, which the next signal overwrites, it must not wait.
 *
 * Tested by integration.context, integration.host_refuses.
 */
#include "engine/context/thread.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/page.h"
#include "base/rcu.h"
#include "base/signals.h"

#include <errno.h>
#include <faultlane/context.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_STACK_MAX_BYTES (UINT64_C(1) << 32) /* if RLIMIT_STACK is unlimited */

/* The bounds of the thread's own stack, not of an alternate signal stack. */
static _Thread_local struct {
	uintptr_t lo, hi;
	bool rcu_entered;
} own_stack __attribute__((tls_model("initial-exec")));

/*
 * The stack of the process's first thread if /proc, where the C library looks, is missing: the
 * kernel puts the program's name at its top, and leaves RLIMIT_STACK below it free.
 */
static int first_stack(uintptr_t *lo, uintptr_t *hi)
{
	uintptr_t name = (uintptr_t)getauxval(AT_EXECFN);
	struct rlimit limit;
	uint64_t room = FIRST_STACK_MAX_BYTES;

	if (syscall(SYS_gettid) != getpid() || name == 0)
		return fln_fail(ENOMEM, "fln_thread_enter: cannot find the bounds of this thread's "
					"stack; mount /proc, or free memory");
	if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < room)
		room = limit.rlim_cur;
	*hi = fln_align_up(name, FLN_PAGE_BYTES) + FLN_PAGE_BYTES;
	*lo = *hi - room;
	return 0;
}

static int find_stack(uintptr_t *lo, uintptr_t *hi)
{
	size_t len_bytes = 0;
	pthread_attr_t attr;
	void *at = NULL;

	if (pthread_getattr_np(pthread_self(), &attr) != 0)
		return first_stack(lo, hi);
	(void)pthread_attr_getstack(&attr, &at, &len_bytes);
	(void)pthread_attr_destroy(&attr);
	*lo = (uintptr_t)at;
	*hi = (uintptr_t)at + len_bytes;
	return 0;
}

int fln_thread_enter(void)
{
	FLN_UNCANCELLABLE;
	uintptr_t lo = 0, hi = 0;
	sigset_t before;
	int rc;

	if (fln_forked)
		return fln_fork_refused("fln_thread_enter");
	if (fln_signals_thread.entered > 0) {
		fln_signals_thread.entered++;
		return 0;
	}
	rc = find_stack(&lo, &hi);
	if (rc)
		return rc;
	fln_signals_block(&before);
	own_stack.lo = lo;
	own_stack.hi = hi;
	own_stack.rcu_entered = fln_rcu_enter();
	/* Last: from here on a handler of this thread may fault, and uses the other fields. */
	fln_signals_thread.entered = 1;
	fln_signals_restore(&before);
	return 0;
}

void fln_thread_leave(void)
{
	FLN_UNCANCELLABLE;
	sigset_t before;

	FLN_ASSERT(fln_signals_thread.entered > 0);
	if (fln_signals_thread.entered > 1) {
		fln_signals_thread.entered--;
		return;
	}
	fln_signals_block(&before);
	fln_signals_thread.entered = 0;
	/* In a forked child liburcu's locks may be held by threads that do not exist there. */
	if (!fln_forked)
		fln_rcu_leave(own_stack.rcu_entered);
	fln_signals_restore(&before);
}

bool fln_thread_on_own_stack(void)
{
	uintptr_t at = (uintptr_t)__builtin_frame_address(0);

	return at >= own_stack.lo && at < own_stack.hi;
}
