/* SPDX-License-Identifier: MIT */
/*
 * Events for the embedder, on their way: a bounded queue that many post to and many
 * take from.
 *
 * Posting never blocks, allocates nothing, takes no lock and may interrupt another
 * posting on the same thread: signal handlers post, too (fln_resolve()).  What does
 * not fit is counted, and told of by FLN_EVENT_OVERFLOW.
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
	_Atomic uint64_t seq; /* whose turn it is: see event_queue.c */
	uint32_t kind;
	int32_t error;
	uint32_t share; /* whose it is taken from, plus one; 0: it comes once */
	struct fln_guest *guest;
	struct fln_image *image;
	uint64_t value;
};

/* Guests have shares of the queue; those whose handles are alike in hash have one together. */
#define FLN_EVENT_SHARES 64u /* a power of two */

struct fln_event_queue {
	struct fln_event_slot *slots;                   /* NULL: nobody listens */
	int fd;                                         /* counts what there is to take */
	_Atomic uint64_t head, tail;                    /* the next to take, the next to fill */
	_Atomic uint64_t nr_lost;                       /* since the last FLN_EVENT_OVERFLOW */
	_Atomic uint32_t nr_of_share[FLN_EVENT_SHARES]; /* in the queue, of those that repeat */
};

/* Return: 0; -ENOMEM, -EMFILE, -ENFILE. */
int fln_event_queue_init(struct fln_event_queue *q, const struct fln_allocator *alloc);
void fln_event_queue_deinit(struct fln_event_queue *q, const struct fln_allocator *alloc);

/* Async-signal-safe; keeps errno. */
void fln_event_post(struct fln_event_queue *q, const struct fln_event *event);

/* Take the next event.  False: there is none. */
_Bool fln_event_take(struct fln_event_queue *q, struct fln_event *event);

#endif
