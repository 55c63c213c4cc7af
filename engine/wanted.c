/* SPDX-License-Identifier: MIT */
/*
 * Wanted pages: what threads that resolve their own faults ask a worker for.
 *
 * A thread in a signal handler takes one of the process's fixed number of slots by
 * compare-and-swap and pushes it onto a worker's stack.  The worker takes that stack as a whole,
 * so there is no ABA problem.  It registers with the image as for a fault that it holds, is
 * kicked when the page has changed, and ends the slot.  The thread sleeps on the slot's state and
 * then frees the slot.
 *
 * Slots belong to the process, not to a worker: a thread may wake late, when guest and engine are
 * gone.  Only the worker follows the pointers in a slot, and they are valid then: a slot is
 * submitted in a read section that found its region not closing, and the block not released; the
 * thread that closes the region, or lets the guest go (let_go.c), waits for such sections, and then
 * for a PASS of the worker, by which all slots of the region have ended.
 *
 * Tested by unit.resolve.
 */
#include "engine/wanted.h"

#include "base/clock.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/failure.h"
#include "engine/held.h"
#include "engine/state/guest.h"
#include "engine/state/wanted.h"
#include "engine/state/worker.h"
#include "engine/whole.h"
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_ready.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_WANTED 1024u
#define RECHECK_NS (100 * FLN_NS_PER_MS)

static struct fln_wanted table[NR_WANTED];

struct fln_wanted *fln_wanted_take(void)
{
	/* Threads begin at different slots: their stacks are far apart. */
	uint32_t at = (uint32_t)(((uintptr_t)&at >> 12) * 0x9e3779b1u >> 12);

	for (uint32_t i = 0; i < NR_WANTED; i++) {
		struct fln_wanted *s = &table[(at + i) % NR_WANTED];
		uint32_t free = FLN_WANTED_FREE;

		if (atomic_load_explicit(&s->state, memory_order_relaxed) == FLN_WANTED_FREE &&
		    atomic_compare_exchange_strong_explicit(&s->state, &free, FLN_WANTED_OPEN,
							    memory_order_acquire,
							    memory_order_relaxed))
			return s;
	}
	return NULL;
}

void fln_wanted_submit(struct fln_worker *w, struct fln_wanted *s)
{
	struct fln_wanted *head = atomic_load_explicit(&w->wanted_new, memory_order_relaxed);

	do {
		s->next = head;
	} while (!atomic_compare_exchange_weak_explicit(&w->wanted_new, &head, s,
							memory_order_release,
							memory_order_relaxed));
	/*
	 * This signal handler may have interrupted a kick of its own thread between the two
	 * steps: then `kicked` is set, but the eventfd has not been written.
	 */
	fln_worker_kick_again(w);
}

enum fln_wanted_end fln_wanted_wait(struct fln_wanted *s)
{
	/* The timeout only guards against a lost wakeup. */
	struct timespec recheck = { .tv_nsec = (long)RECHECK_NS };
	uint32_t end;

	while ((end = atomic_load_explicit(&s->state, memory_order_acquire)) == FLN_WANTED_OPEN)
		(void)syscall(SYS_futex, &s->state, FUTEX_WAIT_PRIVATE, FLN_WANTED_OPEN, &recheck,
			      NULL, 0);
	atomic_store_explicit(&s->state, FLN_WANTED_FREE, memory_order_release);
	return (enum fln_wanted_end)end;
}

/* The fault is counted here, because the thread may not find its region any more. */
static void end_wanted(struct fln_wanted *s, enum fln_wanted_end how, bool zero)
{
	struct fln_context_ending ending = {
		.poisoned = how != FLN_WANTED_READY && how != FLN_WANTED_GONE,
		.failed = how == FLN_WANTED_GONE,
		.zero = zero && how == FLN_WANTED_READY,
		.waited = true,
	};

	if (s->counts)
		fln_context_end_fault(s->shard, ending, s->fault.t0_ns);
	atomic_store_explicit(&s->state, (uint32_t)how, memory_order_release);
	/* Another thread may own the slot by now: it finds its page open, and sleeps on. */
	(void)syscall(SYS_futex, &s->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* How the slot ends.  FLN_WANTED_OPEN: not yet; this worker will be kicked. */
static enum fln_wanted_end decide_end(struct fln_worker *w, struct fln_wanted *s, uint64_t now_ns,
				      bool *zero)
{
	struct fln_image *image = s->region->image;
	enum fln_held_reason reason = FLN_HELD_FILL;
	enum fln_image_page state;
	int error = 0;

	if (atomic_load_explicit(&s->region->closing, memory_order_acquire))
		return FLN_WANTED_CLOSED;
	state = fln_image_due(image, s->image_page);
	/* ZERO, too: CONTINUE is also tried on holes in large folios (take_zeros_of_folios()). */
	if (s->hole_pages > 0 &&
	    (state == FLN_IMAGE_FILLED ||
	     (state == FLN_IMAGE_ZERO && !fln_planted(FLN_BUG_ZERO_HOLE_LEFT)))) {
		(void)fln_image_note_hole(image, s->image_page, s->hole_pages);
		s->hole_pages = 0;
		state = fln_image_due(image, s->image_page);
	}
	*zero = state == FLN_IMAGE_ZERO;
	if (state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO)
		return FLN_WANTED_READY;
	if (s->fault.held && fln_fill_will_tell(image, &s->fault, state) &&
	    !fln_fault_is_late(w, &s->fault) &&
	    !atomic_load_explicit(&s->shard->guest->failed, memory_order_relaxed))
		return FLN_WANTED_OPEN;
	if (fln_failure_must_poison(w, s->region, &s->fault, s->image_page, 0, now_ns, &reason,
				    &error))
		return FLN_WANTED_FAILED;
	s->fault.held = true;
	return reason == FLN_HELD_AGAIN ? FLN_WANTED_READY : FLN_WANTED_OPEN;
}

static void collect_new(struct fln_worker *w)
{
	struct fln_wanted *s = atomic_exchange_explicit(&w->wanted_new, NULL, memory_order_acquire);
	uint64_t now;

	if (!s)
		return;
	now = fln_now_ns();
	fln_worker_has_waiting(w, now);
	while (s) {
		struct fln_wanted *next = s->next;

		/* Until now its source was not asked. */
		s->fault.since_ns = now;
		s->next = w->wanted;
		w->wanted = s;
		s = next;
	}
}

void fln_wanted_drop(struct fln_worker *w, const struct fln_shard *shard, uint64_t start,
		     uint64_t stop)
{
	struct fln_wanted **at = &w->wanted;

	collect_new(w);
	while (*at) {
		struct fln_wanted *s = *at;

		if (s->shard != shard || s->fault.addr < start || s->fault.addr >= stop ||
		    atomic_load_explicit(&s->region->closing, memory_order_acquire)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		end_wanted(s, FLN_WANTED_GONE, false);
	}
}

void fln_wanted_credit(struct fln_worker *w, uint64_t stopped_ns)
{
	collect_new(w);
	for (struct fln_wanted *s = w->wanted; s; s = s->next)
		fln_fault_credit(&s->fault, stopped_ns);
}

void fln_serve_wanted(struct fln_worker *w)
{
	struct fln_wanted **at = &w->wanted, *s;
	uint64_t now;

	collect_new(w);
	if (!w->wanted)
		return;
	now = fln_now_ns();
	while (*at) {
		enum fln_wanted_end how;
		bool zero = false;

		s = *at;
		fln_rcu_read_lock();
		how = decide_end(w, s, now, &zero);
		fln_rcu_read_unlock();
		if (how == FLN_WANTED_OPEN) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		end_wanted(s, how, zero);
	}
}
