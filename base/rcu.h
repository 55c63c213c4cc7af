/* SPDX-License-Identifier: MIT */
/*
 * RCU, by liburcu (memb flavour).  No other file includes liburcu.
 *
 * Distributions do not build liburcu for ThreadSanitizer, which therefore sees
 * neither its barriers nor its grace periods.  We publish pointers with C11
 * atomics, and FLN_TSAN_RELEASE() and FLN_TSAN_ACQUIRE() tell ThreadSanitizer that
 * readers happen before whatever follows their grace period.
 */
#ifndef FLN_BASE_RCU_H
#define FLN_BASE_RCU_H

#include "base/error.h"
#include "base/signals.h"

#include <urcu/urcu-memb.h>
/* Only for the field "registered"; the inline functions of this header are not used. */
#include <urcu/static/urcu-memb.h>

#include <stdbool.h>

#if defined(__SANITIZE_THREAD__)
#define FLN_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FLN_TSAN 1
#endif
#endif

#ifdef FLN_TSAN
#include <sanitizer/tsan_interface.h>
extern char fln_rcu_tsan_token;
#define FLN_TSAN_ACQUIRE() __tsan_acquire(&fln_rcu_tsan_token)
#define FLN_TSAN_RELEASE() __tsan_release(&fln_rcu_tsan_token)
#else
#define FLN_TSAN_ACQUIRE() ((void)0)
#define FLN_TSAN_RELEASE() ((void)0)
#endif

/*
 * Start, or keep running, the thread that runs the callbacks of fln_rcu_call().  It runs from
 * the first get to the last put.  Every block map and every engine is a user; the engine is
 * one so that adding a region starts no thread.  fln_rcu_call() does not start the thread
 * itself: it is on the fault path, which must not allocate (I5), and the thread
 * would inherit the worker's affinity and nice value.
 * Return: 0; or as fln_thread_refused().
 */
int fln_rcu_get(void);
/* All callbacks of this user must have run.  The last put blocks until the thread has ended. */
void fln_rcu_put(void);

/*
 * Register the calling thread as an RCU reader.  The library's own threads are registered for
 * their whole life, the embedder's for the duration of a call unless they have
 * registered themselves.  Return: the argument for fln_rcu_leave().
 */
static inline bool fln_rcu_enter(void)
{
	if (URCU_TLS(urcu_memb_reader).registered)
		return false;
	urcu_memb_register_thread();
	return true;
}

static inline void fln_rcu_leave(bool entered)
{
	if (entered)
		urcu_memb_unregister_thread();
}

static inline void fln_rcu_read_lock(void)
{
	fln_signals_hold();
	urcu_memb_read_lock();
}

static inline void fln_rcu_read_unlock(void)
{
	FLN_TSAN_RELEASE();
	urcu_memb_read_unlock();
	fln_signals_release();
}

/*
 * A read section in a signal handler, on a thread that has called fln_thread_enter().
 * Other signals are blocked: their handlers could touch memory that must be filled,
 * and would wait for it inside this section.
 */
static inline void fln_rcu_handler_lock(sigset_t *before)
{
	fln_signals_block_others(before);
	urcu_memb_read_lock();
}

static inline void fln_rcu_handler_unlock(const sigset_t *before)
{
	FLN_TSAN_RELEASE();
	urcu_memb_read_unlock();
	fln_signals_restore(before);
}

/* Assert that the caller is in a read section. */
static inline void fln_rcu_assert_reading(void)
{
	FLN_DEBUG_ASSERT(urcu_memb_read_ongoing());
}

/* Pause between two reads of a value that another thread is about to change. */
static inline void fln_cpu_relax(void)
{
	caa_cpu_relax();
}

/* Block until all read sections in progress have ended.  Never inside a read section. */
static inline void fln_rcu_synchronize(void)
{
	/*
	 * This holds liburcu's registry lock, which a signal handler's call would need as well:
	 * run no handlers meanwhile.
	 */
	fln_signals_hold();
	urcu_memb_synchronize_rcu();
	fln_signals_release();
	FLN_TSAN_ACQUIRE();
}

/* Embedded in objects that are freed after a grace period. */
struct fln_rcu_head {
	struct fln_rcu_head *next;
	void (*fn)(struct fln_rcu_head *head);
};

/*
 * Run @fn(head) after a grace period, on the thread of fln_rcu_get(); @fn begins with
 * FLN_TSAN_ACQUIRE().  Never blocks.  Not for signal handlers.
 */
void fln_rcu_call(struct fln_rcu_head *head, void (*fn)(struct fln_rcu_head *head));

#endif
