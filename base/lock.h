/* SPDX-License-Identifier: MIT */
/*
 * Ranked mutexes.  A thread acquires them in strictly ascending rank; debug builds abort on
 * an inversion.  A fault on a page that is already filled takes none of them.
 */
#ifndef FLN_BASE_LOCK_H
#define FLN_BASE_LOCK_H

#include <pthread.h>

/*
 * The gaps leave room for more ranks.  Each lock also needs a row in the table of
 * docs/CONCURRENCY.md, section 2.
 */
enum fln_rank {
	FLN_RANK_ENGINE = 10, /* life cycle: start, stop, lists of guests and images */
	FLN_RANK_GUEST = 20,  /* region table writers; readers use RCU */
	FLN_RANK_WORKER = 30, /* a worker's command queue */
	FLN_RANK_FILLER = 40, /* the fillers' run queue */
	FLN_RANK_IMAGE = 50,  /* page states of one image */
	FLN_RANK_SOURCE = 55, /* a source's own state */
	FLN_RANK_LEAF = 60,   /* locks whose holders acquire no other */
};

#if defined(__clang__)
#define FLN_CAPABILITY __attribute__((capability("mutex")))
#define FLN_ACQUIRES(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define FLN_RELEASES(...) __attribute__((release_capability(__VA_ARGS__)))
#define FLN_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define FLN_NO_THREAD_SAFETY __attribute__((no_thread_safety_analysis))
#else
#define FLN_CAPABILITY
#define FLN_ACQUIRES(...)
#define FLN_RELEASES(...)
#define FLN_REQUIRES(...)
#define FLN_NO_THREAD_SAFETY
#endif

struct FLN_CAPABILITY fln_lock {
	pthread_mutex_t mutex;
	enum fln_rank rank;
};

void fln_lock_init(struct fln_lock *lock, enum fln_rank rank);
void fln_lock_deinit(struct fln_lock *lock);
void fln_lock(struct fln_lock *lock) FLN_ACQUIRES(lock);
void fln_unlock(struct fln_lock *lock) FLN_RELEASES(lock);

/* Initialise @cond for waits on CLOCK_MONOTONIC, as fln_cond_wait_until() needs. */
void fln_cond_init(pthread_cond_t *cond);

/* Wait on @cond, releasing @lock meanwhile.  May return spuriously. */
void fln_cond_wait(pthread_cond_t *cond, struct fln_lock *lock) FLN_REQUIRES(lock);

/* The same, until @deadline_ns (of fln_now_ns()).  False: the deadline has passed. */
_Bool fln_cond_wait_until(pthread_cond_t *cond, struct fln_lock *lock,
			  unsigned long long deadline_ns) FLN_REQUIRES(lock);

/*
 * One step of a wait of at most *left_ns (ULLONG_MAX: forever), not counting time in which the
 * process was stopped (fln_stopped_ns()).  Waits for 100 ms at most, and reduces *left_ns by the
 * time that has passed.  The caller loops.  False: this step timed out, and no time is left.
 */
_Bool fln_cond_wait_part(pthread_cond_t *cond, struct fln_lock *lock, unsigned long long *left_ns)
	FLN_REQUIRES(lock);

/* I2: assert that the thread holds no lock, before install ioctls, source reads, callbacks. */
#ifdef FLN_DEBUG
void fln_lock_assert_none(void);
#else
static inline void fln_lock_assert_none(void)
{
}
#endif

#endif
