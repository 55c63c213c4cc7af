/* SPDX-License-Identifier: MIT */
/*
 * RCU: the thread that runs callbacks after a grace period.
 *
 * liburcu's call_rcu() aborts the process when its thread cannot be created, and that thread
 * lives until the process exits.  Here a failed creation is an error code, and the thread
 * ends with the last engine.
 *
 * Pending callbacks are a lock-free stack.  Any thread pushes; the RCU thread takes the whole
 * stack and waits one grace period for all of it.  No push is missed: the thread sets
 * LATER_ASLEEP, then checks the stack again, then sleeps; a push reads that state after it has
 * pushed.  One of the two sees the other.  While callbacks keep coming the thread naps
 * LATER_NAP_NS between grace periods, to batch them; pushes do not wake it from a nap.
 */
#include "base/rcu.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/signals.h"
#include "base/thread.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LATER_NAP_NS (10 * FLN_NS_PER_MS)

#ifdef FLN_TSAN
/* The address by which ThreadSanitizer is told of grace periods. */
char fln_rcu_tsan_token;
#endif

enum later_state {
	LATER_AWAKE,
	LATER_ASLEEP,
	LATER_ENDING
};

static struct {
	/* Guards nr_users and thread.  Taken with no other lock held, and takes none inside. */
	pthread_mutex_t lock;
	uint32_t nr_users;
	pthread_t thread;
	_Atomic(struct fln_rcu_head *) pushed;
	_Atomic uint32_t state;
} later = { .lock = PTHREAD_MUTEX_INITIALIZER };

_Static_assert(sizeof(later.state) == sizeof(uint32_t), "a futex");

static void futex_wait(uint32_t value, const struct timespec *until)
{
	(void)syscall(SYS_futex, &later.state, FUTEX_WAIT_PRIVATE, value, until, NULL, 0);
}

static void futex_wake(void)
{
	(void)syscall(SYS_futex, &later.state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void run_callbacks(struct fln_rcu_head *head)
{
	fln_rcu_synchronize();
	while (head) {
		struct fln_rcu_head *next = head->next;

		head->fn(head); /* may free @head */
		head = next;
	}
}

static void sleep_until_pushed(void)
{
	uint32_t awake = LATER_AWAKE, asleep = LATER_ASLEEP;

	if (!atomic_compare_exchange_strong(&later.state, &awake, LATER_ASLEEP))
		return;
	if (atomic_load(&later.pushed)) {
		/* Fails if a push or fln_rcu_put() changed the state first; that is fine. */
		(void)atomic_compare_exchange_strong(&later.state, &asleep, LATER_AWAKE);
		return;
	}
	while (atomic_load(&later.state) == LATER_ASLEEP)
		futex_wait(LATER_ASLEEP, NULL);
}

static void *later_main(void *arg)
{
	const struct timespec nap = { .tv_nsec = LATER_NAP_NS };
	bool ending;

	(void)pthread_setname_np(pthread_self(), "fln-rcu");
	do {
		struct fln_rcu_head *head;

		/* Read the state first: callbacks pushed before LATER_ENDING are still run. */
		ending = atomic_load(&later.state) == LATER_ENDING;
		head = atomic_exchange(&later.pushed, NULL);
		if (head) {
			run_callbacks(head);
			futex_wait(LATER_AWAKE, &nap);
		} else if (!ending) {
			sleep_until_pushed();
		}
	} while (!ending);
	return arg;
}

void fln_rcu_call(struct fln_rcu_head *head, void (*fn)(struct fln_rcu_head *head))
{
	uint32_t asleep = LATER_ASLEEP;

	FLN_TSAN_RELEASE();
	head->fn = fn;
	head->next = atomic_load_explicit(&later.pushed, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&later.pushed, &head->next, head))
		;
	if (atomic_load(&later.state) == LATER_ASLEEP &&
	    atomic_compare_exchange_strong(&later.state, &asleep, LATER_AWAKE))
		futex_wake();
}

int fln_rcu_get(void)
{
	sigset_t before;
	int rc = 0;

	(void)pthread_mutex_lock(&later.lock);
	if (later.nr_users == 0) {
		atomic_store(&later.state, LATER_AWAKE);
		fln_signals_block(&before);
		rc = pthread_create(&later.thread, NULL, later_main, NULL);
		fln_signals_restore(&before);
	}
	later.nr_users += rc == 0;
	(void)pthread_mutex_unlock(&later.lock);
	return rc ? fln_thread_refused(rc, "rcu", 0) : 0;
}

void fln_rcu_put(void)
{
	(void)pthread_mutex_lock(&later.lock);
	FLN_ASSERT(later.nr_users > 0);
	if (--later.nr_users == 0) {
		atomic_store(&later.state, LATER_ENDING);
		futex_wake();
		(void)pthread_join(later.thread, NULL);
		FLN_ASSERT(!atomic_load(&later.pushed));
	}
	(void)pthread_mutex_unlock(&later.lock);
}
