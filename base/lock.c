/* SPDX-License-Identifier: MIT */
/* Ranked mutexes; debug builds check their order. */
#include "base/lock.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/signals.h"
#include "base/tls.h"

#include <errno.h>
#include <limits.h>

#ifdef FLN_DEBUG
static FLN_THREAD_LOCAL unsigned long long held_ranks;

static void rank_acquire(enum fln_rank rank)
{
	FLN_ASSERT(held_ranks >> rank == 0);
	held_ranks |= 1ull << rank;
}

static void rank_release(enum fln_rank rank)
{
	FLN_ASSERT(held_ranks & (1ull << rank));
	held_ranks &= ~(1ull << rank);
}

void fln_lock_assert_none(void)
{
	FLN_ASSERT(held_ranks == 0);
}
#else
static void rank_acquire(enum fln_rank rank)
{
	(void)rank;
}

static void rank_release(enum fln_rank rank)
{
	(void)rank;
}
#endif

void fln_lock_init(struct fln_lock *lock, enum fln_rank rank)
{
	int rc = pthread_mutex_init(&lock->mutex, NULL);

	FLN_ASSERT(rc == 0);
	lock->rank = rank;
}

void fln_lock_deinit(struct fln_lock *lock)
{
	int rc = pthread_mutex_destroy(&lock->mutex);

	FLN_ASSERT(rc == 0);
}

void fln_lock(struct fln_lock *lock) FLN_NO_THREAD_SAFETY
{
	int rc;

	fln_signals_hold();
	rank_acquire(lock->rank);
	rc = pthread_mutex_lock(&lock->mutex);
	FLN_ASSERT(rc == 0);
}

void fln_unlock(struct fln_lock *lock) FLN_NO_THREAD_SAFETY
{
	int rc = pthread_mutex_unlock(&lock->mutex);

	FLN_ASSERT(rc == 0);
	rank_release(lock->rank);
	fln_signals_release();
}

void fln_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	FLN_ASSERT(pthread_cond_init(cond, &attr) == 0);
	(void)pthread_condattr_destroy(&attr);
}

void fln_cond_wait(pthread_cond_t *cond, struct fln_lock *lock)
{
	int rc;

	rank_release(lock->rank);
	rc = pthread_cond_wait(cond, &lock->mutex);
	FLN_ASSERT(rc == 0);
	rank_acquire(lock->rank);
}

_Bool fln_cond_wait_until(pthread_cond_t *cond, struct fln_lock *lock,
			  unsigned long long deadline_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(deadline_ns / FLN_NS_PER_S),
			       .tv_nsec = (long)(deadline_ns % FLN_NS_PER_S) };
	int rc;

	rank_release(lock->rank);
	rc = pthread_cond_timedwait(cond, &lock->mutex, &ts);
	FLN_ASSERT(rc == 0 || rc == ETIMEDOUT);
	rank_acquire(lock->rank);
	return rc == 0;
}

#define PART_NS (100 * FLN_NS_PER_MS)

_Bool fln_cond_wait_part(pthread_cond_t *cond, struct fln_lock *lock, unsigned long long *left_ns)
{
	unsigned long long begun_ns = fln_now_ns(), passed_ns;
	unsigned long long part_ns = *left_ns < PART_NS ? *left_ns : PART_NS;
	_Bool signaled = fln_cond_wait_until(cond, lock, begun_ns + part_ns);

	if (*left_ns == ULLONG_MAX)
		return true;
	passed_ns = fln_now_ns() - begun_ns;
	passed_ns -= fln_stopped_ns(passed_ns, part_ns);
	*left_ns -= passed_ns < *left_ns ? passed_ns : *left_ns;
	return signaled || *left_ns > 0;
}
