/* SPDX-License-Identifier: MIT */
/*
 * The queue of events: a ring whose slots each carry a sequence number.
 *
 * slot.seq == position: the slot is free for the post of that position; position + 1: it is
 * filled, and can be taken.  A poster claims a position by advancing tail, writes the slot, and
 * hands it over by storing seq (release; the taker acquires).  A poster that finds the slot of
 * its position still filled does not wait: the ring is full, and its event is lost.
 *
 * The eventfd is a semaphore with one token for each event that can be taken, written after the
 * event and read before it.  So it is readable exactly while there are events, but for the moment
 * between the two; a taker that gets a token while the poster of the oldest slot has not finished
 * gives the token back.
 *
 * Pages can be poisoned by the million, so the events that repeat may fill only three quarters of
 * the ring: the rest is reserved for events that come once.  Of those three quarters a guest may
 * use as many slots as are free: one guest alone ends with half of them, n guests with a part in
 * n + 1 each.
 */
#include "engine/event_queue.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/plant.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NR_SLOTS 4096u
#define NR_SLOTS_POISON (NR_SLOTS / 4 * 3)

_Static_assert((NR_SLOTS & (NR_SLOTS - 1)) == 0, "positions are masked");

int fln_event_queue_init(struct fln_event_queue *q, const struct fln_allocator *alloc)
{
	int err;

	memset(q, 0, sizeof(*q));
	q->fd = fln_fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
	if (q->fd < 0) {
		err = errno;
		return fln_fail(err, "engine: no eventfd for events: %s%s", strerror(err),
				err == EMFILE ? "; raise RLIMIT_NOFILE" : "");
	}
	q->slots = fln_zalloc(alloc, NR_SLOTS * sizeof(*q->slots), FLN_NODE_ANY);
	if (!q->slots) {
		(void)close(q->fd);
		return fln_fail(ENOMEM, "no memory for a queue of %u events", NR_SLOTS);
	}
	for (uint32_t i = 0; i < NR_SLOTS; i++)
		atomic_store_explicit(&q->slots[i].seq, i, memory_order_relaxed);
	return 0;
}

void fln_event_queue_deinit(struct fln_event_queue *q, const struct fln_allocator *alloc)
{
	(void)close(q->fd);
	fln_free(alloc, q->slots, NR_SLOTS * sizeof(*q->slots), FLN_NODE_ANY);
	q->slots = NULL;
}

static void give_token(struct fln_event_queue *q)
{
	uint64_t one = 1;
	int saved = errno;

	/* Cannot overflow: that would take 2^64 events. */
	(void)!write(q->fd, &one, sizeof(one));
	errno = saved;
}

static void count_lost(struct fln_event_queue *q)
{
	/* One token for all events that are lost until an OVERFLOW is taken. */
	if (atomic_fetch_add(&q->nr_lost, 1) == 0)
		give_token(q);
}

/* Can come any number of times, as the guest, its source or its process makes it. */
static bool repeats(uint32_t kind)
{
	return kind == FLN_EVENT_PAGE_POISONED || kind == FLN_EVENT_MEMORY_MOVED;
}

static uint32_t share_of(const struct fln_guest *guest)
{
	return (uint32_t)(fln_hash_ptr(guest) >> 32) & (FLN_EVENT_SHARES - 1);
}

/* How many more repeating events there is room for. */
static int64_t nr_free(struct fln_event_queue *q, uint64_t at)
{
	/* head may have advanced meanwhile: then there is more room than this says. */
	return (int64_t)NR_SLOTS_POISON - (int64_t)(at - atomic_load(&q->head));
}

/* Take one of a guest's share, which is kept below what is free.  False: the guest has its part. */
static bool take_share(struct fln_event_queue *q, uint32_t share)
{
	uint32_t nr = atomic_fetch_add_explicit(&q->nr_of_share[share], 1, memory_order_relaxed);

	if (nr < nr_free(q, atomic_load(&q->tail)) || fln_planted(FLN_BUG_EVENTS_NO_SHARE))
		return true;
	atomic_fetch_sub_explicit(&q->nr_of_share[share], 1, memory_order_relaxed);
	return false;
}

/* Claim the next position to post at.  False: the ring is full. */
static bool claim(struct fln_event_queue *q, uint32_t kind, uint64_t *position)
{
	uint64_t at = atomic_load(&q->tail);

	for (;;) {
		uint64_t seq = atomic_load_explicit(&q->slots[at & (NR_SLOTS - 1)].seq,
						    memory_order_acquire);

		if (seq < at)
			return false;
		if (seq > at) {
			at = atomic_load(&q->tail); /* another poster has claimed it */
			continue;
		}
		if (repeats(kind) && nr_free(q, at) <= 0)
			return false;
		if (atomic_compare_exchange_weak(&q->tail, &at, at + 1)) {
			*position = at;
			return true;
		}
	}
}

void fln_event_post(struct fln_event_queue *q, const struct fln_event *event)
{
	uint32_t share = repeats(event->kind) ? share_of(event->guest) + 1 : 0;
	struct fln_event_slot *slot;
	uint64_t at;

	if (!q->slots)
		return;
	if (share && !take_share(q, share - 1)) {
		count_lost(q);
		return;
	}
	if (!claim(q, event->kind, &at)) {
		if (share)
			atomic_fetch_sub_explicit(&q->nr_of_share[share - 1], 1,
						  memory_order_relaxed);
		count_lost(q);
		return;
	}
	slot = &q->slots[at & (NR_SLOTS - 1)];
	slot->kind = event->kind;
	slot->error = event->error;
	slot->share = share;
	slot->guest = event->guest;
	slot->image = event->image;
	slot->value = event->value;
	atomic_store_explicit(&slot->seq, at + 1, memory_order_release);
	give_token(q);
}

/* Claim the oldest event.  NULL: its poster has not finished. */
static struct fln_event_slot *claim_oldest(struct fln_event_queue *q, uint64_t *position)
{
	uint64_t at = atomic_load(&q->head);

	for (;;) {
		struct fln_event_slot *slot = &q->slots[at & (NR_SLOTS - 1)];
		uint64_t seq = atomic_load_explicit(&slot->seq, memory_order_acquire);

		if (seq < at + 1)
			return NULL;
		if (seq > at + 1) {
			at = atomic_load(&q->head); /* another thread has taken it */
			continue;
		}
		if (atomic_compare_exchange_weak(&q->head, &at, at + 1)) {
			*position = at;
			return slot;
		}
	}
}

bool fln_event_take(struct fln_event_queue *q, struct fln_event *event)
{
	struct fln_event_slot *slot;
	uint64_t token, at, nr_lost;

	if (!q->slots || read(q->fd, &token, sizeof(token)) != sizeof(token))
		return false;
	memset(event, 0, sizeof(*event));
	event->size = sizeof(*event);
	nr_lost = atomic_exchange(&q->nr_lost, 0);
	if (nr_lost > 0) {
		event->kind = FLN_EVENT_OVERFLOW;
		event->value = nr_lost;
		return true;
	}
	slot = claim_oldest(q, &at);
	if (!slot) {
		give_token(q);
		return false;
	}
	event->kind = slot->kind;
	event->error = slot->error;
	event->guest = slot->guest;
	event->image = slot->image;
	event->value = slot->value;
	if (slot->share)
		atomic_fetch_sub_explicit(&q->nr_of_share[slot->share - 1], 1,
					  memory_order_relaxed);
	atomic_store_explicit(&slot->seq, at + NR_SLOTS, memory_order_release);
	return true;
}
