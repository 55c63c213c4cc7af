/* SPDX-License-Identifier: MIT */
/*
 * RCU: the one header that includes liburcu (memb flavour).
 *
 * Debian's liburcu is not built for ThreadSanitizer, which therefore sees
 * neither its barriers nor its grace periods.  Pointers are published with C11
 * atomics, and the two orders that a grace period gives are told to it here:
 * what a reader did comes before what follows the grace period.
 */
#ifndef FLN_BASE_RCU_H
#define FLN_BASE_RCU_H

#include "base/error.h"
#include "base/signals.h"

#include <urcu/urcu-memb.h>
/* For one field, "registered": the functions of this header are not used. */
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
 * The thread that does what fln_rcu_call() puts off runs from the first get to the last put:
 * every map is a user, and every engine, so that adding a region makes no thread.  Not started
 * by the first call: that is on the fault path, which must not allocate (I5), and the thread
 * would have the worker's processor and nice value.
 * Of this process only: a forked child has neither the thread nor a right to call.
 * Return: 0; or as fln_thread_refused().
 */
int fln_rcu_get(void);
/* What this user has put off must have been carried out. */
void fln_rcu_put(void);

/*
 * Every thread that reads is registered.  Threads of ours are from begin to end;
 * a thread of the embedder's is for the time of its call, unless it has
 * registered itself.  Returns what fln_rcu_leave() wants to know.
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
 * The same in a signal handler, on a thread that has entered (fln_thread_enter()).
 * No other handler interrupts it: that one could touch memory which must be filled,
 * and wait for it inside this section.
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

/* What the caller looks at stays until its read section ends. */
static inline void fln_rcu_assert_reading(void)
{
	FLN_DEBUG_ASSERT(urcu_memb_read_ongoing());
}

/* Between two looks at what another thread is about to change. */
static inline void fln_cpu_relax(void)
{
	caa_cpu_relax();
}

/* Wait until every reader that runs now has ended.  Not inside a reader. */
static inline void fln_rcu_synchronize(void)
{
	/* liburcu's locks are held meanwhile, which every call that reads needs. */
	fln_signals_hold();
	urcu_memb_synchronize_rcu();
	fln_signals_release();
	FLN_TSAN_ACQUIRE();
}

/* Part of what is freed later. */
struct fln_rcu_head {
	struct fln_rcu_head *next;
	void (*fn)(struct fln_rcu_head *head);
};

/*
 * Call @fn(head) after a grace period, on the thread of fln_rcu_get(); @fn begins with
 * FLN_TSAN_ACQUIRE().  Not in a signal handler: it may make a system call.
 */
void fln_rcu_call(struct fln_rcu_head *head, void (*fn)(struct fln_rcu_head *head));

#endif
