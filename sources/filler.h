/* SPDX-License-Identifier: MIT */
/*
 * Fills, and which of them the filler threads may begin.
 *
 * A fill is one run of an image's pages on its way from the source (or from
 * fln_image_put()) into the page cache.  Fills wait in a queue per image; images
 * that have some take turns, and no image has all threads, so that one guest
 * cannot starve another (I7).  A serial source has one fill in work at a time,
 * also when several images share it.
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

/* Waiters are numbered 0 to 63 and told by one bit each: an engine's workers. */
#define FLN_MAX_WAITERS 64u
/* A waiter that is not kicked: it looks again by itself. */
#define FLN_NO_WAITER FLN_MAX_WAITERS

static inline uint64_t fln_waiter_bit(uint32_t waiter)
{
	return waiter < FLN_MAX_WAITERS ? UINT64_C(1) << waiter : 0;
}

/* A caller that waits for some fills to end (link.c). */
struct fln_fill_join {
	uint32_t nr_fills; /* guarded by image->lock */
};

struct fln_fill {
	struct fln_image *image;
	uint64_t page; /* of the image; the run lies in one block */
	uint32_t nr_pages;
	uint64_t waiters;         /* guarded by image->lock */
	struct fln_mask gone;     /* published, or taken over by a put; as given_up */
	bool writing;             /* into the cache: cannot be taken over; guarded by image->lock */
	struct fln_mask given_up; /* bit 0 is @page; guarded by image->lock */
	_Atomic bool background;  /* nobody's fault waits for it: demand goes before it */
	bool stoppable;           /* a filler thread has it: it ends early when asked to */
	bool put_off; /* its thread's: what is not published yet goes back to UNFILLED */
	bool again;   /* some of its pages had failed before */
	_Atomic uint64_t begun_ns;      /* when a filler thread has taken it; 0: none has */
	struct fln_fill_join *join;     /* NULL: nobody; an attached image's */
	struct fln_fill *next_of_image; /* guarded by image->lock */
	struct fln_fill *next;          /* in a queue or the free list; guarded by filler->lock */
};

/*
 * Fills of one image that wait for a thread, and its share of the fills; all guarded by
 * filler->lock, but what is set once.
 */
struct fln_fill_queue {
	struct fln_fill *first, **last;        /* those of faults before all others */
	struct fln_fill **demand_last;         /* where the next of a fault goes */
	struct fln_fill_queue *next;           /* in filler->line */
	struct fln_fill_queue *next_of_filler; /* in filler->queues */
	const struct fln_source *source;       /* NULL: there are no fills */
	bool in_line;
	uint32_t nr_active;
	struct fln_fill_queue *lead; /* of those of its source the one that counts for all */
	uint32_t nr_of_source;       /* a lead's: fills in work of all of them */
	struct fln_fill *own_fills;  /* the reserve; set once */
	struct fln_fill *own, *own_background; /* free ones of the reserve, as in the pool */
	uint32_t nr_pool;                      /* of the pool's fills it has so many */
	uint64_t starved;                      /* waiters that found none that it may take */
	uint32_t set;                          /* of its image: changed.h; set once */
};

/* What a fill is wanted for: how much of the pool it may take, and what goes before it. */
enum fln_fill_use {
	FLN_FILL_FAULT,
	FLN_FILL_PEER,       /* another process asks: as a fault, from a share of its own */
	FLN_FILL_BACKGROUND, /* populate, read-ahead */
};

struct fln_filler_opts {
	struct fln_allocator alloc;
	struct fln_log log;
	const struct fln_thread_hooks *hooks; /* that make the threads; NULL: the library does */
	uint32_t nr_threads;
	uint32_t nr_fills;     /* of the pool, which images share */
	uint32_t nr_own_fills; /* of each image that has a source, besides */
	uint32_t fill_pages;   /* a fill covers at most so many, aligned */
	uint32_t nr_retries;
	uint32_t nr_waiters; /* that read events, from 0 on; 0: FLN_MAX_WAITERS */
	/* Fill: read, write into the cache, publish.  @buffer: one block, of the thread. */
	void (*run)(struct fln_image *image, struct fln_fill *fill, void *buffer);
	/* Tell the waiters in @waiters that pages have changed their state. */
	void (*kick)(void *ctx, uint64_t waiters);
	void *kick_ctx; /* of all */
	/* Wait until the waiters have lifted what poison was given up; may be NULL. */
	void (*lift_wait)(void *ctx);
	/* All of @image is FILLED or ZERO; once, image->lock held; may be NULL. */
	void (*filled)(void *ctx, struct fln_image *image);
};

/* A thread that has been inside its source for so long counts as stuck. */
#define FLN_FILLER_STUCK_NS FLN_NS_PER_S

struct fln_filler_thread {
	struct fln_filler *filler;
	struct fln_thread thread;
	void *buffer;      /* one block, page-aligned */
	bool is_resident;  /* what a fill uses of it */
	uint64_t begun_ns; /* when it has begun its fill; 0: it has none; guarded by filler->lock */
};

/* Odd while a waiter has read events, or may have, that it has not acted upon.  A cache line. */
struct fln_reading {
	_Atomic uint64_t seq;
	uint64_t pad[7];
};

/*
 * Changes of images' blocks are counted here, each in the slot that its image and number
 * come to: a waiter for many blocks looks at those that have changed, and at few others.
 */
#define FLN_NR_CHANGE_SLOTS 8192u

struct fln_filler {
	struct fln_filler_opts opts;
	_Atomic uint32_t changes[FLN_NR_CHANGE_SLOTS];
	struct fln_changed *changed; /* by waiter */
	_Atomic uint64_t nr_lifts;   /* how often something was given up that may have poison */
	struct fln_reading
		reading[FLN_MAX_WAITERS + 1]; /* the last one: a thread that closes regions */
	struct fln_lock lock;
	pthread_cond_t work;   /* a fill may begin, or stop */
	pthread_cond_t stop;   /* stopping was set */
	_Atomic bool stopping; /* set under lock */
	pthread_cond_t idle;   /* a thread has ended, or a fill was freed */
	struct fln_fill *fills;
	struct fln_fill *free;                    /* guarded by lock, as all that follows */
	struct fln_fill *free_background;         /* a half that others than faults may take too */
	uint32_t nr_free, nr_free_background;     /* in the two lists */
	struct fln_fill_queue *line, **line_last; /* that have fills */
	struct fln_fill_queue *queues;            /* of all images */
	uint32_t nr_images;                       /* of them, those that have a source */
	uint32_t nr_sources;                      /* different ones */
	uint32_t nr_busy_sources;                 /* of them, those that have fills in work */
	uint32_t nr_active;                       /* fills in work */
	bool is_watched; /* a thread looks now and then whether the others are stuck */
	struct fln_log_limit log_limit;
	_Atomic uint64_t starved; /* waiters that found no free fill; changed under lock */
	uint32_t nr_demand;       /* fills of faults that are queued */
	struct fln_filler_thread *threads;
	uint32_t nr_started;
	uint32_t nr_running;
};

int fln_filler_init(struct fln_filler *filler, const struct fln_filler_opts *opts);
void fln_filler_deinit(struct fln_filler *filler);

/*
 * A fill for the image of @queue; or NULL, and @waiter is kicked when one comes free: told of
 * FLN_CHANGE_FILLS where it was one of this image's, which it may have again before others.
 *
 * Each image has a reserve, and beside others it takes no more of the pool than it leaves
 * free: whatever one image does, another has its reserve at least (I7).  Half of either
 * is for faults of this process alone.
 */
struct fln_fill *fln_filler_alloc(struct fln_filler *filler, struct fln_fill_queue *queue,
				  uint32_t waiter, enum fln_fill_use use);
void fln_filler_free(struct fln_filler *filler, struct fln_fill_queue *queue,
		     struct fln_fill *fill);

/* Has @waiter found no free fill, and has none come free since?  It will be kicked. */
static inline bool fln_filler_starves(const struct fln_filler *filler, uint32_t waiter)
{
	return atomic_load_explicit(&filler->starved, memory_order_acquire) &
	       fln_waiter_bit(waiter);
}

/* Tell @waiters that of the images of @set something has changed, and kick them. */
void fln_filler_tell(struct fln_filler *filler, uint64_t waiters, enum fln_change what,
		     uint32_t set);

/* @source: NULL for an image that has none.  Return: 0; -ENOMEM. */
int fln_filler_add_queue(struct fln_filler *filler, struct fln_fill_queue *queue,
			 const struct fln_source *source);
/* Nothing is queued in it any more, and nothing in work. */
void fln_filler_remove_queue(struct fln_filler *filler, struct fln_fill_queue *queue);

void fln_filler_submit(struct fln_filler *filler, struct fln_fill_queue *queue,
		       struct fln_fill *fill);

/* A fault waits for @page: if a fill in the queue covers it, that goes with those of faults. */
void fln_filler_promote(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t page);

/*
 * Take all fills out of @queue, so that no thread begins one; they are linked
 * by next.  Fills in work go on.
 */
struct fln_fill *fln_filler_withdraw(struct fln_filler *filler, struct fln_fill_queue *queue);

/* The first queue in line that may begin a fill, or NULL.  filler->lock held, as for those below. */
struct fln_fill_queue *fln_filler_pick(const struct fln_filler *filler);

/* All threads but one work, and there are fills that may begin once those turn out to be stuck. */
bool fln_filler_must_watch(const struct fln_filler *filler);

/* Its first fill is in work, until fln_filler_end(); another thread is woken if there is more. */
struct fln_fill *fln_filler_begin(struct fln_filler *filler, struct fln_fill_queue *queue)
	FLN_REQUIRES(filler->lock);
void fln_filler_end(struct fln_filler *filler, struct fln_fill_queue *queue)
	FLN_REQUIRES(filler->lock);

/* Wait until no thread works on @queue; false when that has taken @limit_ns. */
bool fln_filler_drain(struct fln_filler *filler, struct fln_fill_queue *queue, uint64_t limit_ns);

#endif
