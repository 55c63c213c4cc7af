/* SPDX-License-Identifier: MIT */
/*
 * Ranked mutexes: acquired strictly upward; debug builds abort on an inversion.
 * The fault path of a page that is filled takes none.
 */
#ifndef FLN_BASE_LOCK_H
#define FLN_BASE_LOCK_H

#include <pthread.h>

/* Gaps are deliberate; a new lock needs a new row. */
enum fln_rank {
	FLN_RANK_ENGINE = 10, /* life cycle: start, stop, lists of guests and images */
	FLN_RANK_GUEST = 20,  /* region table writers; readers use RCU */
	FLN_RANK_WORKER = 30, /* a worker's command queue */
	FLN_RANK_FILLER = 40, /* the fillers' run queue */
	FLN_RANK_IMAGE = 50,  /* page states of one image */
	FLN_RANK_SOURCE = 55, /* a source's own state */
	FLN_RANK_LEAF = 60,   /* tables that call nobody */
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

/* Wait on @cond (of CLOCK_MONOTONIC, see fln_cond_init()) with @lock held. */
void fln_cond_init(pthread_cond_t *cond);
void fln_cond_wait(pthread_cond_t *cond, struct fln_lock *lock) FLN_REQUIRES(lock);

/* The same until @deadline_ns of fln_now_ns(); false when that has passed. */
_Bool fln_cond_wait_until(pthread_cond_t *cond, struct fln_lock *lock,
			  unsigned long long deadline_ns) FLN_REQUIRES(lock);

/*
 * A part of a wait of at most *left_ns, which becomes less by what has passed, without time in
 * which the process was stopped; ULLONG_MAX: for ever.  False when nothing is left.  Comes back
 * now and then, as any wait for a condition may.
 */
_Bool fln_cond_wait_part(pthread_cond_t *cond, struct fln_lock *lock, unsigned long long *left_ns)
	FLN_REQUIRES(lock);

/* I2: before install ioctls, source reads and the log callback. */
#ifdef FLN_DEBUG
void fln_lock_assert_none(void);
#else
static inline void fln_lock_assert_none(void)
{
}
#endif

#endif
