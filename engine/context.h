/* SPDX-License-Identifier: MIT */
/*
 * In-context regions, seen from inside: who finds them, and who helps.
 *
 * A region with FLN_DELIVERY_IN_CONTEXT lies on shards of its own, because
 * UFFD_FEATURE_SIGBUS belongs to a whole userfaultfd.  The thread that faults finds
 * it by a registry of all such regions of the process, in a signal handler, and
 * does there what a worker does otherwise (resolve.c).  What it may not do there,
 * because it takes locks, it asks a worker for and waits (wanted.c).
 */
#ifndef FLN_ENGINE_CONTEXT_H
#define FLN_ENGINE_CONTEXT_H

#include "engine/block.h"
#include "engine/shard.h"
#include "engine/worker.h"

/* context_registry.c: let threads find a region, or not any more; waits for readers. */
int fln_context_enter_region(struct fln_region *region);
void fln_context_leave_region(struct fln_region *region);

/* The in-context region at @addr, of any guest, or NULL.  RCU read lock held. */
struct fln_region *fln_context_find(uint64_t addr);

/* How many regions have left so far. */
uint64_t fln_context_nr_left(void);

/*
 * context_shards.c: the shards of a guest's in-context regions.  All in its turn.
 * fln_context_open() makes them if there are none, and gives them to the workers if
 * the guest runs.  Return: 0; -EOPNOTSUPP, -EMFILE, -ENOMEM …
 */
int fln_context_open(struct fln_guest *guest);
int fln_context_attach(struct fln_guest *guest);
void fln_context_detach(struct fln_guest *guest);
void fln_context_close(struct fln_guest *guest);

/* Note that a block may be whole, in a signal handler; and what a worker does with it. */
void fln_context_note_whole(const struct fln_block_round *b);
void fln_context_collapse(struct fln_shard *shard);

/* The same for those of a worker's @shards where it is time.  True: some are left. */
bool fln_context_collapse_due(struct fln_shard *shards, bool due);

/* Chunks have run out: let workers look for blocks that are whole. */
void fln_context_kick_all(const struct fln_guest *guest);

/* What became of a page that somebody waits for in context. */
enum fln_wanted_end {
	FLN_WANTED_FREE,   /* the slot is nobody's */
	FLN_WANTED_OPEN,   /* a worker has it */
	FLN_WANTED_READY,  /* look again */
	FLN_WANTED_FAILED, /* it cannot be had: to be poisoned */
	FLN_WANTED_CLOSED, /* the region is being closed */
	FLN_WANTED_GONE,   /* its place was unmapped */
};

/*
 * wanted.c: a page that a thread waits for in its own context.  The thread takes a
 * slot, hands it to a worker and sleeps on @state; the worker ends it, and the fault
 * with it (I4), for the thread may not find the region any more when it wakes.
 */
struct fln_wanted {
	_Alignas(64) _Atomic uint32_t state; /* enum fln_wanted_end; a futex */
	uint32_t hole_pages;                 /* it is FILLED, and so many have no page */
	bool counts;                         /* its end is the end of a fault */
	struct fln_wanted *next;
	struct fln_region *region;
	struct fln_shard *shard;
	uint64_t image_page;
	struct fln_fault fault; /* the worker's; held: it is registered with the image */
};

/* A free slot, or NULL: try later. */
struct fln_wanted *fln_wanted_take(void);

/* Hand it to @w.  In the read section in which the region was found, and not closing. */
void fln_wanted_submit(struct fln_worker *w, struct fln_wanted *wanted);

/* Wait for its end, and give it back.  No read section. */
enum fln_wanted_end fln_wanted_wait(struct fln_wanted *wanted);

/* The worker's part: look at all that it has. */
void fln_serve_wanted(struct fln_worker *w);

/* Of what has been unmapped: as fln_drop_unmapped(), in worker.h. */
void fln_wanted_drop(struct fln_worker *w, const struct fln_shard *shard, uint64_t start,
		     uint64_t end);

/* A fault that was resolved in context has ended; with @begun it was counted before. */
struct fln_context_ending {
	bool poisoned, failed; /* else resumed */
	bool zero, waited;
};
void fln_context_begin_fault(struct fln_shard *shard);
void fln_context_end_fault(struct fln_shard *shard, struct fln_context_ending ending,
			   uint64_t t0_ns);

/* A short sleep that a signal handler may do; it is no cancellation point. */
void fln_context_nap(uint64_t ns);

#endif
