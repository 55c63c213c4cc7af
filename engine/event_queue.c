/* SPDX-License-Identifier: MIT */
/*
 * The queue of events: a ring in which every slot says whose turn it is.
 *
 * slot.seq == position: free, for a post at that position.  position + 1: filled,
 * to be taken.  Posting claims a position by moving tail on, writes the slot,
 * and hands it over by seq (release, acquire).  A thread that finds the slot of its position
 * still filled finds the ring full, and loses the event: it does not wait.
 *
 * The eventfd is a semaphore: one for each event that may be taken, written after
 * the event, read before it.  So it is readable exactly while there is something to
 * take, except for the moment between the two; a thread that gets a token and finds that the
 * oldest slot's poster has not finished gives the token back.
 *
 * Poisoned pages can come by the million and may fill three quarters of the ring:
 * the rest is for what comes once.  Of these a guest may have as many as are free: one whose
 * pages fail by the million leaves half to others, n of them a part in n + 1.
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

	/* Never full: that would take 2^64 events. */
	(void)!write(q->fd, &one, sizeof(one));
	errno = saved;
}

static void lose(struct fln_event_queue *q)
{
	/* One token for all that are lost until somebody is told. */
	if (atomic_fetch_add(&q->nr_lost, 1) == 0)
		give_token(q);
}

/* Comes as often as the guest, its source or its process has it. */
static bool repeats(uint32_t kind)
{
	return kind == FLN_EVENT_PAGE_POISONED || kind == FLN_EVENT_MEMORY_MOVED;
}

static uint32_t share_of(const struct fln_guest *guest)
{
	return (uint32_t)(fln_hash_ptr(guest) >> 32) & (FLN_EVENT_SHARES - 1);
}

/* How many more of those that repeat there is room for. */
static int64_t nr_free(struct fln_event_queue *q, uint64_t at)
{
	/* head may have moved on meanwhile: then there is more room than we think. */
	return (int64_t)NR_SLOTS_POISON - (int64_t)(at - atomic_load(&q->head));
}

/* Give one of the guest's share, which is kept below what is free.  False: it has its part. */
static bool take_share(struct fln_event_queue *q, uint32_t share)
{
	uint32_t nr = atomic_fetch_add_explicit(&q->nr_of_share[share], 1, memory_order_relaxed);

	if (nr < nr_free(q, atomic_load(&q->tail)) || fln_planted(FLN_BUG_EVENTS_NO_SHARE))
		return true;
	atomic_fetch_sub_explicit(&q->nr_of_share[share], 1, memory_order_relaxed);
	return false;
}

/* A position that is ours to fill, or false: full. */
static bool claim(struct fln_event_queue *q, uint32_t kind, uint64_t *position)
{
	uint64_t at = atomic_load(&q->tail);

	for (;;) {
		uint64_t seq = atomic_load_explicit(&q->slots[at & (NR_SLOTS - 1)].seq,
						    memory_order_acquire);

		if (seq < at)
			return false;
		if (seq > at) {
			at = atomic_load(&q->tail); /* somebody has it */
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
		lose(q);
		return;
	}
	if (!claim(q, event->kind, &at)) {
		if (share)
			atomic_fetch_sub_explicit(&q->nr_of_share[share - 1], 1,
						  memory_order_relaxed);
		lose(q);
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

/* The oldest slot that is filled, or NULL: its poster is at it. */
static struct fln_event_slot *oldest(struct fln_event_queue *q, uint64_t *position)
{
	uint64_t at = atomic_load(&q->head);

	for (;;) {
		struct fln_event_slot *slot = &q->slots[at & (NR_SLOTS - 1)];
		uint64_t seq = atomic_load_explicit(&slot->seq, memory_order_acquire);

		if (seq < at + 1)
			return NULL;
		if (seq > at + 1) {
			at = atomic_load(&q->head); /* somebody has taken it */
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
	slot = oldest(q, &at);
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
