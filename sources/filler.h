/* SPDX-License-Identifier: MIT */
/*
 * Fills: their pool, their queues, and which of them the filler threads may begin.
 *
 * A fill is one run of an image's pages on its way from the source (or from
 * fln_image_put()) into the page cache.  Fills wait in one queue per image.  The queues
 * take turns, and no image may use all threads, so that one guest
 * cannot starve another (I7).  A serial source runs one fill at a time,
 * even if several images share it.
 */
#ifndef FLN_SOURCES_FILLER_H
#define FLN_SOURCES_FILLER_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "base/thread.h"
#include "sources/changed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/* Waiters, the engine's workers, are numbered 0 to 63 and represented by one bit each. */
#define FLN_MAX_WAITERS 64u
/* A waiter that is not kicked, but polls. */
#define FLN_NO_WAITER FLN_MAX_WAITERS

static inline uint64_t fln_waiter_bit(uint32_t waiter)
{
	return waiter < FLN_MAX_WAITERS ? UINT64_C(1) << waiter : 0;
}

/* Counts the fills that a caller waits for (link_fill.c). */
struct fln_fill_join {
	uint32_t nr_fills; /* guarded by image->lock */
};

struct fln_fill {
	struct fln_image *image;
	uint64_t page; /* first page in the image; the run lies in one block */
	uint32_t nr_pages;
	uint32_t urgent;            /* the page of these that a fault waits for */
	bool has_urgent;            /* it was requested for that one */
	uint64_t waiters;           /* guarded by image->lock */
	struct fln_mask gone;       /* pages published or taken over; bits and lock as given_up */
	bool writing;               /* its pages cannot be taken over; guarded by image->lock */
	struct fln_mask given_up;   /* discarded pages; bit 0 is @page; guarded by image->lock */
	_Atomic bool background;    /* no fault waits for it: fills for faults take precedence */
	bool stoppable;             /* run by a filler thread, so it ends early on request */
	bool put_off;               /* only for its thread: unpublished pages go back to UNFILLED */
	bool again;                 /* some of its pages had failed before */
	bool trims;                 /* it owns no pages, and trims the block of @page */
	_Atomic uint64_t begun_ns;  /* when a filler thread took it; 0: queued */
	struct fln_fill_join *join; /* attached images: the caller to notify; or NULL */
	struct fln_fill *next_of_image; /* guarded by image->lock */
	struct fln_fill *next;          /* in a queue or the free list; guarded by filler->lock */
};

/*
 * The queue of an image: its fills that wait for a thread, and its share of the pool.  Guarded by
 * filler->lock, except fields that are set once.
 */
struct fln_fill_queue {
	struct fln_fill *first, **last;        /* fills for faults first, then the others */
	struct fln_fill **demand_last;         /* where the next fill for a fault is inserted */
	struct fln_fill_queue *next;           /* in filler->line */
	struct fln_fill_queue *next_of_filler; /* in filler->queues */
	const struct fln_source *source;       /* NULL: the image has no fills; set once */
	bool in_line;                          /* linked in filler->line */
	uint32_t nr_active;                    /* its running fills */
	struct fln_fill_queue *lead; /* the queue that counts for all queues of the same source */
	uint32_t nr_of_source;       /* in a lead: running fills of all these queues */
	struct fln_fill *own_fills;  /* the image's reserve; set once */
	struct fln_fill *own, *own_background; /* free lists of the reserve, as in the pool */
	uint32_t nr_pool;                      /* the pool's fills that the image uses */
	uint64_t starved;                      /* waiters that found none that it may take */
	uint32_t set;                          /* of its image: changed.h; set once */
};

/* The purpose of a fill, which decides its share of the pool and its precedence. */
enum fln_fill_use {
	FLN_FILL_FAULT,
	FLN_FILL_PEER,       /* requested by another process */
	FLN_FILL_BACKGROUND, /* populate, read-ahead */
};

struct fln_filler_opts {
	struct fln_allocator alloc;
	struct fln_log log;
	const struct fln_thread_hooks *hooks; /* to create the threads; NULL: pthread_create() */
	uint32_t nr_threads;
	uint32_t nr_fills;     /* fills of the pool, which all images share */
	uint32_t nr_own_fills; /* fills in the reserve of each image that has a source */
	uint32_t fill_pages;   /* maximum pages of a fill, which is aligned to it; a power of two */
	uint32_t nr_retries;   /* retries of a failed read */
	uint32_t nr_waiters;   /* waiters 0 to nr_waiters - 1 read events; 0: FLN_MAX_WAITERS */
	/* Run a fill: read, write into the page cache, publish.  @buffer: the thread's, one block. */
	void (*run)(struct fln_image *image, struct fln_fill *fill, void *buffer);
	/* Notify the waiters in the bit mask @waiters that states of pages have changed. */
	void (*kick)(void *ctx, uint64_t waiters);
	void *kick_ctx; /* ctx of all three callbacks */
	/* Wait until the waiters have lifted the poison of discarded pages; may be NULL. */
	void (*lift_wait)(void *ctx);
	/* All of @image is FILLED or ZERO; called once, with image->lock held; may be NULL. */
	void (*filled)(void *ctx, struct fln_image *image);
};

/* A thread whose source has not returned for this long counts as stuck. */
#define FLN_FILLER_STUCK_NS FLN_NS_PER_S

struct fln_filler_thread {
	struct fln_filler *filler;
	struct fln_thread thread;
	void *buffer;      /* one block, page-aligned */
	bool is_resident;  /* what a fill uses of it */
	uint64_t begun_ns; /* when it began its fill; 0: idle; guarded by filler->lock */
};

/* Odd while a waiter may have read events that it has not handled yet.  A cache line. */
struct fln_reading {
	_Atomic uint64_t seq;
	uint64_t pad[7];
};

/*
 * Changes of blocks' states are counted in slots, which fln_image_slot() selects by a hash of image
 * and block.  So a waiter for many blocks re-reads those that have changed, and few others.
 */
#define FLN_NR_CHANGE_SLOTS 8192u

struct fln_filler {
	struct fln_filler_opts opts;
	_Atomic uint32_t changes[FLN_NR_CHANGE_SLOTS];
	struct fln_changed *changed; /* by waiter */
	_Atomic uint64_t nr_lifts;   /* number of discards of pages that may be poisoned */
	struct fln_reading
		reading[FLN_MAX_WAITERS + 1]; /* the last one is for threads that close regions */
	struct fln_lock lock;
	pthread_cond_t work;   /* a fill may begin, or stopping was set */
	pthread_cond_t stop;   /* stopping was set */
	_Atomic bool stopping; /* changed under lock */
	pthread_cond_t idle;   /* a thread or a fill has ended */
	struct fln_fill *fills;
	/* All fields from here on are guarded by lock. */
	struct fln_fill *free;                /* the half of the pool that is for faults only */
	struct fln_fill *free_background;     /* the half for any purpose */
	uint32_t nr_free, nr_free_background; /* lengths of the two lists */
	struct fln_fill_queue *line,
		**line_last;           /* queues that have fills, in the order of turns */
	struct fln_fill_queue *queues; /* the queues of all images */
	uint32_t nr_images;            /* of these, the queues with a source */
	uint32_t nr_sources;           /* number of different sources */
	uint32_t nr_busy_sources;      /* of these, sources with running fills */
	uint32_t nr_active;            /* running fills */
	bool is_watched;               /* a thread polls whether the others are stuck */
	struct fln_log_limit log_limit;
	_Atomic uint64_t starved; /* waiters that found no free fill; changed under lock */
	uint32_t nr_demand;       /* queued fills for faults */
	struct fln_filler_thread *threads;
	uint32_t nr_started;
	uint32_t nr_running;
};

int fln_filler_init(struct fln_filler *filler, const struct fln_filler_opts *opts);
void fln_filler_deinit(struct fln_filler *filler);

/*
 * Allocate a fill for the image of @queue; or return NULL, and @waiter is kicked when one becomes
 * free, with FLN_CHANGE_FILLS if it was one of this image's, which the image may reuse first.
 *
 * Each image has a reserve.  If there are several images, an image may use at most as much of
 * the pool as it leaves free, so every other image has at least its reserve (I7).  Half of the
 * pool and of each reserve is only for faults of this process.
 */
struct fln_fill *fln_filler_alloc(struct fln_filler *filler, struct fln_fill_queue *queue,
				  uint32_t waiter, enum fln_fill_use use);
void fln_filler_free(struct fln_filler *filler, struct fln_fill_queue *queue,
		     struct fln_fill *fill);

/* Has @waiter found no free fill, and has none been freed since?  Then it will be kicked. */
static inline bool fln_filler_starves(const struct fln_filler *filler, uint32_t waiter)
{
	return atomic_load_explicit(&filler->starved, memory_order_acquire) &
	       fln_waiter_bit(waiter);
}

/* Tell @waiters that of the images of @set something has changed, and kick them. */
void fln_filler_tell(struct fln_filler *filler, uint64_t waiters, enum fln_change what,
		     uint32_t set);

/* Add an image's queue.  @source may be NULL.  Return: 0; -ENOMEM. */
int fln_filler_add_queue(struct fln_filler *filler, struct fln_fill_queue *queue,
			 const struct fln_source *source);
/* Remove a queue that has neither queued nor running fills. */
void fln_filler_remove_queue(struct fln_filler *filler, struct fln_fill_queue *queue);

/* Queue a fill.  The filler frees it after it has run. */
void fln_filler_submit(struct fln_filler *filler, struct fln_fill_queue *queue,
		       struct fln_fill *fill);

/* A fault waits for @page: give the queued fill that covers it, if any, a fault's precedence. */
void fln_filler_promote(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t page);

/*
 * Remove all queued fills from @queue and return them, linked by next.  Running fills
 * continue.
 */
struct fln_fill *fln_filler_withdraw(struct fln_filler *filler, struct fln_fill_queue *queue);

/* The first queue in line that may begin a fill, or NULL.  filler->lock held. */
struct fln_fill_queue *fln_filler_pick(const struct fln_filler *filler);

/*
 * Are all threads but one busy, with fills queued that may begin only once the others are stuck?
 * filler->lock held.
 */
bool fln_filler_must_watch(const struct fln_filler *filler);

/*
 * Take the first fill of @queue, which counts as running until fln_filler_end().  Wakes another
 * thread if more fills may begin.
 */
struct fln_fill *fln_filler_begin(struct fln_filler *filler, struct fln_fill_queue *queue)
	FLN_REQUIRES(filler->lock);
void fln_filler_end(struct fln_filler *filler, struct fln_fill_queue *queue)
	FLN_REQUIRES(filler->lock);

/* Wait until no thread works on @queue; false when that has taken @limit_ns. */
bool fln_filler_drain(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t limit_ns);

#endif
