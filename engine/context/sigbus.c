/* SPDX-License-Identifier: MIT */
/*
 * A SIGBUS handler for programs that have none of their own, passing on what is not ours to the
 * previous action.  The interface is <faultlane/context.h>.
 *
 * The handler is async-signal-safe and takes no lock.  SA_NODEFER: a handler that interrupts the
 * wait may itself fault on guest memory.  No SA_ONSTACK: fln_resolve() rejects threads on an
 * alternate stack.
 *
 * Tested by integration.context, integration.vmm_sigbus.
 */
#include <faultlane/context.h>

#include "base/cancel.h"
#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ACTION_WORDS (sizeof(struct sigaction) / sizeof(uint64_t))

static_assert(sizeof(struct sigaction) % sizeof(uint64_t) == 0, "copied by words");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed; /* guarded by lock */

/*
 * Double-buffered: the inactive slot is written, then previous_index switches.  A handler may
 * still be copying a slot that is written again by the second reinstall since it began: it finds
 * by `version` that it must copy anew.
 */
static struct {
	_Atomic uint32_t version; /* odd: being written */
	_Atomic uint64_t words[ACTION_WORDS];
} previous[2];
static _Atomic uint32_t previous_index;
static _Atomic bool previous_reset; /* SA_RESETHAND: it has been called once */

static void save_previous(const struct sigaction *sa)
{
	uint32_t next = 1 - atomic_load(&previous_index);
	uint64_t words[ACTION_WORDS];

	memcpy(words, sa, sizeof(words));
	/* Released by each word: a reader that gets a new word sees that `version` is odd. */
	atomic_fetch_add_explicit(&previous[next].version, 1, memory_order_relaxed);
	for (uint32_t i = 0; i < ACTION_WORDS; i++)
		atomic_store_explicit(&previous[next].words[i], words[i], memory_order_release);
	atomic_fetch_add_explicit(&previous[next].version, 1, memory_order_release);
	atomic_store(&previous_reset, false);
	atomic_store_explicit(&previous_index, next, memory_order_release);
}

/*
 * Never waits for a writer, which may be the interrupted thread: the active slot is not being
 * written.  Repeats only if two reinstalls come in between.
 */
static struct sigaction load_previous(void)
{
	uint64_t words[ACTION_WORDS];
	struct sigaction sa;
	uint32_t at, version;

	do {
		at = atomic_load_explicit(&previous_index, memory_order_acquire);
		version = atomic_load_explicit(&previous[at].version, memory_order_acquire);
		for (uint32_t i = 0; i < ACTION_WORDS; i++)
			words[i] =
				atomic_load_explicit(&previous[at].words[i], memory_order_acquire);
	} while (version % 2 ||
		 version != atomic_load_explicit(&previous[at].version, memory_order_relaxed));
	memcpy(&sa, words, sizeof(sa));
	return sa;
}

/*
 * Not a synchronous fault: sent by kill(), or an action-optional machine check.  Returning would
 * not retrigger it.
 */
static bool is_asynchronous(const siginfo_t *info)
{
	return info->si_code <= 0 || info->si_code == BUS_MCEERR_AO;
}

/*
 * Restore SIG_DFL; a synchronous fault re-fires on return, an asynchronous signal must be sent
 * again.
 */
static void end_process(int sig, const siginfo_t *info)
{
	struct sigaction dfl = { .sa_flags = 0 };

	dfl.sa_handler = SIG_DFL;
	(void)sigaction(sig, &dfl, NULL);
	if (is_asynchronous(info))
		(void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

static void pass_on(int sig, siginfo_t *info, void *ucontext)
{
	const struct sigaction sa = load_previous();
	bool with_info = sa.sa_flags & SA_SIGINFO;
	sigset_t mask = sa.sa_mask, old;

	if (!with_info && sa.sa_handler == SIG_IGN && is_asynchronous(info))
		return;
	/* The kernel does not honour SIG_IGN for synchronous faults; neither do we. */
	if ((!with_info && (sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN)) ||
	    ((sa.sa_flags & (int)SA_RESETHAND) && atomic_exchange(&previous_reset, true))) {
		end_process(sig, info);
		return;
	}
	if (!(sa.sa_flags & SA_NODEFER))
		(void)sigaddset(&mask, sig);
	(void)pthread_sigmask(SIG_BLOCK, &mask, &old);
	if (with_info)
		sa.sa_sigaction(sig, info, ucontext);
	else
		sa.sa_handler(sig);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	int err = errno;

	if (fln_resolve(info) == FLN_RESOLVED_NOT_OURS)
		pass_on(sig, info, ucontext);
	errno = err;
}

static bool is_ours(const struct sigaction *sa)
{
	return (sa->sa_flags & SA_SIGINFO) && sa->sa_sigaction == on_sigbus;
}

static int install(void)
{
	struct sigaction ours = { .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART }, found;

	ours.sa_sigaction = on_sigbus;
	if (sigaction(SIGBUS, NULL, &found) != 0)
		return errno;
	/* Someone has restored a saved action, ours: keep the saved chain. */
	if (is_ours(&found))
		return 0;
	/* Save the old action first: our handler may run before sigaction() returns. */
	save_previous(&found);
	return sigaction(SIGBUS, &ours, NULL) == 0 ? 0 : errno;
}

static int uninstall(void)
{
	struct sigaction found, sa = load_previous();

	if (sigaction(SIGBUS, NULL, &found) != 0)
		return errno;
	if (!is_ours(&found))
		return EBUSY;
	return sigaction(SIGBUS, &sa, NULL) == 0 ? 0 : errno;
}

static int action_error(int err)
{
	if (err == EBUSY)
		return fln_fail(EBUSY, "another SIGBUS handler has been installed over ours; "
				       "remove it first");
	return fln_fail(err, "sigaction(SIGBUS): %s; a seccomp filter must allow rt_sigaction",
			strerror(err));
}

int fln_sigbus_install(void)
{
	FLN_UNCANCELLABLE;
	int rc = 0;

	(void)pthread_mutex_lock(&lock);
	if (!installed) {
		rc = install();
		installed = rc == 0;
	}
	(void)pthread_mutex_unlock(&lock);
	return rc ? action_error(rc) : 0;
}

int fln_sigbus_remove(void)
{
	FLN_UNCANCELLABLE;
	int rc = 0;

	(void)pthread_mutex_lock(&lock);
	if (installed) {
		rc = uninstall();
		installed = rc != 0;
	}
	(void)pthread_mutex_unlock(&lock);
	return rc ? action_error(rc) : 0;
}
