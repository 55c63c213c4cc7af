/* SPDX-License-Identifier: MIT */
/*
 * The bounded queue of events for the embedder; many threads post to it, many take from it.
 *
 * Posting never blocks, allocates nothing and takes no lock.  Signal handlers post, too
 * (fln_resolve()), and may interrupt a post of their own thread.  Events that do not fit are
 * counted, and reported by FLN_EVENT_OVERFLOW.
 */
#ifndef FLN_ENGINE_EVENT_QUEUE_H
#define FLN_ENGINE_EVENT_QUEUE_H

#include <faultlane/event.h>
#include <stdatomic.h>
#include <stdint.h>

struct fln_allocator;
struct fln_guest;
struct fln_image;

struct fln_event_slot {
	_Atomic uint64_t seq; /* which position may use the slot: see event_queue.c */
	uint32_t kind;
	int32_t error;
	uint32_t share; /* the share that it counts against, plus one; 0: none, it comes once */
	struct fln_guest *guest;
	struct fln_image *image;
	uint64_t value;
};

/* Repeating events count against their guest's share.  Guests with equal hashes have one share. */
#define FLN_EVENT_SHARES 64u /* a power of two */

struct fln_event_queue {
	struct fln_event_slot *slots;                   /* NULL: there is no queue */
	int fd;                                         /* eventfd: how many can be taken */
	_Atomic uint64_t head, tail;                    /* positions to take from and to post to */
	_Atomic uint64_t nr_lost;                       /* since the last FLN_EVENT_OVERFLOW */
	_Atomic uint32_t nr_of_share[FLN_EVENT_SHARES]; /* repeating events in the queue */
};

/* Return: 0; -ENOMEM, -EMFILE, -ENFILE. */
int fln_event_queue_init(struct fln_event_queue *q, const struct fln_allocator *alloc);
void fln_event_queue_deinit(struct fln_event_queue *q, const struct fln_allocator *alloc);

/* Post an event.  Async-signal-safe; preserves errno. */
void fln_event_post(struct fln_event_queue *q, const struct fln_event *event);

/* Take the next event.  False: there is none. */
_Bool fln_event_take(struct fln_event_queue *q, struct fln_event *event);

#endif
