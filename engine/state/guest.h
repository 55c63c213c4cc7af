/* SPDX-License-Identifier: MIT */
/*
 * The structs of guests, regions and shards.  Each field, or group of fields, says who writes it.
 *
 * Embedder calls change a guest and its regions in the guest's turn (struct fln_turn).  A shard
 * belongs to its worker from ATTACH to DETACH: only that worker reads its messages and changes its
 * tables.  Workers find regions in the guest's directory, a sorted array that is replaced under
 * RCU.
 */
#ifndef FLN_ENGINE_STATE_GUEST_H
#define FLN_ENGINE_STATE_GUEST_H

#include "base/blockmap.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "engine/block_policy.h"
#include "engine/state/advised.h"
#include "engine/state/job.h"
#include "engine/uffd.h"
#include "engine/window.h"
#include "sharding/stripes.h"
#include "sources/filler.h"

#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fln_denial;
struct fln_density;
struct fln_engine;
struct fln_image;
struct fln_worker;

#define FLN_MAX_CHILDREN 64u     /* forked children of a foreign guest that are not closed yet */
#define FLN_MAX_REGION_STRAYS 4u /* ranges of a region onto which mremap() has moved memory */
#define FLN_MAX_STRAYS 16u       /* ranges that mremap() has moved away from a shard */
#define FLN_MAX_UNDENIED 32u     /* moved ranges of a guest that are still accessible */
#define FLN_GUEST_DEFAULT_VCPUS 64u
/*
 * Chunks of a region's map in addition to one per block, for chunks that wait for a grace period
 * after they were freed.  Chunks only take address space until they are used.
 */
#define FLN_CHUNKS_SPARE 1024u
/* The number of chunks where the address space has no room for all of them. */
#define FLN_CHUNKS_FEW 65536u

/*
 * Serialises life-cycle calls on one object.  Not a lock, because these calls make system calls,
 * wait for workers and write to the log (I2).
 */
struct fln_turn {
	bool taken; /* guarded by the object's lock */
	pthread_cond_t given;
};

/* A range in which a private region's end has mapped zeros over discarded pages. */
struct fln_zeroed {
	uint64_t addr, end;
};

struct fln_region {
	/* Set before any other thread can find the region, and constant from then on. */
	struct fln_guest *guest;
	struct fln_image *image;
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t base_addr;  /* addr, rounded down to a block: page 0 of the map */
	uint64_t image_page; /* the image's page at addr */
	uint32_t page_bytes;
	enum fln_discard discard;
	enum fln_release release; /* the default filled in */
	bool foreign;
	bool is_private;     /* MAP_PRIVATE: writes and discards affect only this guest */
	bool in_context;     /* its shards raise SIGBUS and queue nothing */
	uint32_t node_index; /* index in the topology; FLN_NODE_ANY: any */
	struct fln_stripe_plan plan;

	/* Only in the guest's turn. */
	bool mapped_by_us;         /* the engine made the mapping */
	bool kept_from_children;   /* by the library's MADV_DONTFORK */
	bool closed;               /* fln_region_close() was called, even if it failed */
	bool restored;             /* the image was mapped over what an earlier end had left */
	bool sealed;               /* some pages are inaccessible but still map the image */
	bool vacate_later;         /* some of those are mapped over once it is unregistered */
	uint64_t max_denial_runs;  /* limit of the last walk of deny.c; 0: none so far */
	bool unsafe;               /* some unfilled pages could not be made inaccessible */
	uint64_t close_waited_ns;  /* retry budget that closing has used up (closing.c) */
	uint64_t nr_registered;    /* stripes that are registered, counted from the first */
	struct fln_denial *denial; /* during a walk of deny.c */
	int (*denial_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	struct fln_zeroed *zeroed; /* ranges in which zeros were mapped */
	uint64_t nr_zeroed, max_zeroed;
	uint64_t nr_denial_maps; /* mappings taken from the engine's budget */

	/* Set once, in the guest's turn; read by workers and in signal handlers. */
	_Atomic bool closing; /* workers leave its faults alone */

	/* Set in the guest's turn: all of it is registered, so a part of it can be released. */
	_Atomic bool is_open;

	/* Set by readers of events: the embedder has unmapped or moved a part. */
	_Atomic bool has_gaps;

	/* Beyond the plan's stripes, taken from the engine's budget; guarded by release.lock. */
	int64_t nr_release_maps;
	int64_t nr_failed_maps; /* of these, for a split that a failed UNREGISTER may have left */
	uint64_t counted_ns;    /* when the mappings were counted last */
	uint64_t release_lo, release_hi; /* the run that is being released; guarded likewise */
	int release_error;               /* of a piece of it */

	/* A page is changed by the thread that has set its CLAIMED bit. */
	struct fln_blockmap map;

	/*
	 * Foreign: blocks whose PRESENT bits may be wrong.  Bits are set by the reader of the
	 * shard's events.  NULL: PRESENT is always right.
	 */
	_Atomic uint64_t *doubted;

	/* Ranges with other memory (strays.c).  Written under guest->lock, read by any thread. */
	_Atomic uint32_t nr_strays;
	struct {
		_Atomic uint64_t lo, hi;
	} strays[FLN_MAX_REGION_STRAYS];

	/* In the guest's list: written in its turn under guest->lock, read with either. */
	struct fln_region *next;
};

/* Regions by address.  Replaced as a whole, and freed after a grace period. */
struct fln_directory {
	uint32_t nr, capacity;
	struct fln_directory *next; /* in the list of retired directories */
	struct fln_region *regions[];
};

/*
 * A worker's note of a shard's oldest fault.  Written only by the worker; readers repeat until
 * two reads agree.
 */
struct fln_oldest {
	_Atomic uint64_t t0_ns; /* 0: no fault waits */
	_Atomic uint64_t addr;
	_Atomic uint32_t waits_for, worker;
};

/* Written by the shard's worker, in context by any thread; read by any thread. */
struct fln_shard_counters {
	_Atomic uint64_t faults, minor, major, zero, invalid, refaults, in_context;
	_Atomic uint64_t resumed, poisoned, failed;
	_Atomic uint64_t pages_installed, pages_raced, reads, events, again;
	_Atomic uint64_t held_full, no_chunk, no_memory, remote, populated;
	_Atomic uint64_t released_bytes, released_faults;
	struct fln_histogram service;
};

/*
 * Blocks that threads have wholly mapped in context.  Their chunks can be freed, which a signal
 * handler must not do, so the shard's worker does it from time to time.
 */
#define FLN_NR_WHOLE 64u /* a power of two */

struct fln_whole_blocks {
	_Atomic uint64_t addr[FLN_NR_WHOLE]; /* 0: free */
	_Atomic uint32_t nr;
	_Atomic bool hurry; /* chunks have run out */
};

/* A range to which mremap() has moved memory of a region. */
struct fln_stray {
	uint64_t addr, len_bytes;
};

/* How /proc/self/maps shows a region's pages; also valid after the region has gone. */
struct fln_mapping_due {
	uint64_t inode, device;
	uint64_t offset_less_addr; /* modulo 2^64 */
	bool is_private;
};

/* Moved pages in [lo, hi) that are still to be made inaccessible (strays.c). */
struct fln_undenied {
	struct fln_shard *shard;
	struct fln_mapping_due due;
	uint64_t lo, hi;
};

/* Scratch of the worker while it finds the oldest fault (oldest.c). */
struct fln_oldest_next {
	bool noted; /* the shard is in worker->noted */
	struct fln_shard *shard;
	uint64_t t0_ns, addr;
	uint32_t waits_for;
};

struct fln_shard {
	/* Set before it is attached; the descriptor stays open until the guest has ended. */
	struct fln_uffd uffd;
	struct fln_guest *guest;
	uint32_t index;
	bool in_context; /* raises SIGBUS, queues no faults */

	/*
	 * Written by the worker on ATTACH and DETACH.  Read while attached, or by the thread that
	 * has issued these commands.
	 */
	struct fln_worker *worker;

	/* Only the worker, while attached. */
	uint32_t nr_held;                        /* its faults in worker->held */
	uint32_t nr_outside;                     /* of those entries, FLN_HELD_REGION */
	bool overflowed;                         /* it is in worker->overflowed */
	uint64_t overflowed_ns, overflowed_addr; /* time and address of the first such fault */
	struct fln_shard *next_overflowed;
	struct fln_shard *next_in_context, *next_of_worker;
	struct fln_oldest_next next_oldest;
	/*
	 * The sum of release.c before the last look.  Blocks become ready only as it grows: pages
	 * are never undone, a region that goes lowers it, and one that comes has nr_looks grow.
	 */
	uint64_t release_seen;
	uint64_t release_passed; /* guest->release.nr_passes of the last sweep */
	bool release_left;       /* some of it could not be released for now */
	bool release_edge;       /* some block of it becomes whole before one of the image does */
	bool release_restless;   /* some whole block of it was not quiet */
	uint64_t release_faults; /* that it had had when its quiet blocks were last looked for */
	uint32_t release_looks;  /* for its quiet blocks, before its first fault */
	bool release_gone;       /* no worker looks at it; guarded by release.lock */

	/*
	 * Written by the reader of its events: the worker, or while it is detached the thread with
	 * the guest's turn.  A stray that finds no room sets keep_open (strays.c).
	 */
	uint32_t nr_strays;
	struct fln_stray strays[FLN_MAX_STRAYS];

	struct fln_shard_counters count;

	/*
	 * In context: the worker that fills pages for threads; NULL while the guest is not running.
	 * Written in the guest's turn.
	 */
	_Atomic(struct fln_worker *) helper;

	/* In context: added to by any thread, emptied by the worker. */
	struct fln_whole_blocks whole;

	/* Set by any thread, and never cleared; read when the guest ends. */
	_Atomic bool
		keep_open; /* if the userfaultfd were closed, unfilled pages would read zeros */

	/* Written only by the worker; read by any thread. */
	_Atomic bool unreadable; /* read() has failed for good */
	struct fln_oldest oldest;
};

/* What kept a block from being released (release_run.c). */
enum fln_fate {
	FLN_FATE_DONE,
	FLN_FATE_READY, /* it can be released */
	FLN_FATE_UNFILLED,
	FLN_FATE_FAILED,
	FLN_FATE_KEPT,
	FLN_FATE_LIMITED,
	FLN_FATE_BUSY,
	FLN_FATE_NR
};

/* A guest's state of release. */
struct fln_guest_release {
	struct fln_lock lock; /* FLN_RANK_LEAF; held while mappings are counted and unregistered */
	pthread_cond_t passed;
	_Atomic uint64_t nr_looks;  /* how often blocks may have become ready for other reasons */
	_Atomic uint64_t nr_passes; /* asked for by fln_guest_release(), in the guest's turn */
	uint32_t
		nr_pending; /* shards that the last of these is still to look at; guarded by lock */
	_Atomic uint64_t bytes[FLN_FATE_NR]; /* what that pass has found */
	_Atomic bool has_begun;              /* some shard has had a fault, or none for long */
	_Atomic uint32_t nr_not_joined; /* blocks in a row whose entries the kernel did not join */
	_Atomic bool is_due;            /* all is released: the ender closes the userfaultfds */
	int64_t nr_maps; /* foreign: sum of its regions' nr_release_maps; guarded by lock */
	/* In the guest's turn. */
	bool closed;      /* the userfaultfds were closed */
	bool told;        /* FLN_EVENT_GUEST_RELEASED was posted, and no region was added since */
	bool is_complete; /* foreign: no region is to come, as fln_guest_release() has said */
};

/* A guest's share of one worker.  Only that worker uses it. */
struct fln_guest_at {
	uint32_t nr_shards; /* the guest's shards that it serves */
	uint32_t nr_held;   /* the guest's faults in worker->held */
};

struct fln_guest {
	struct fln_engine *engine;
	char name[32];
	uint64_t id;          /* 1, 2, … in order of creation; for statistics */
	struct fln_lock lock; /* FLN_RANK_GUEST */
	struct fln_turn turn;
	_Atomic(struct fln_directory *) directory;
	struct fln_directory *spare;   /* makes removing a region infallible; guarded by lock */
	struct fln_directory *retired; /* awaiting a grace period; guarded by lock */
	struct fln_region *regions;    /* changed in the guest's turn, under lock */
	struct fln_window_policy window;
	/* Foreign: replaces @window, or NULL.  Only the worker of the one shard uses it. */
	struct fln_density *density;
	struct fln_jobs jobs;
	struct fln_advised advised;
	struct fln_guest_release release;
	struct fln_turnout turnout;
	enum fln_release release_default; /* of its regions */
	bool foreign;
	uint32_t on_failure;   /* as in struct fln_guest_opts, with the default filled in */
	uint32_t max_failures; /* at least 1 */
	fln_ask_fn ask;
	void *ask_ctx;
	_Atomic bool found_pages;    /* foreign: pages were there that the engine had not copied */
	_Atomic bool failed;         /* unfilled pages are poisoned when touched; never cleared */
	_Atomic bool told_whole;     /* FLN_EVENT_GUEST_WHOLE has been posted */
	_Atomic bool has_strays;     /* mremap() has moved some of it; never cleared */
	_Atomic bool must_stop;      /* the ender is to stop it */
	_Atomic uint32_t nr_reading; /* workers that are reading events of in-context shards */
	uint64_t told_t0_ns,
		told_addr;     /* the last stalled fault reported; guarded by engine->lock */
	bool running, stopped; /* set in the guest's turn, under lock */
	int stop_result;
	struct fln_log_limit log_limit, poison_limit, late_limit, moved_limit;
	uint32_t nr_planned; /* regions whose stripes were planned so far; in the guest's turn */
	uint32_t nr_shards;
	uint32_t turn_no; /* shards of earlier guests: spreads guests over the workers */
	struct fln_shard *shards;
	/* Userfaultfds of forked children, until they are closed (strays.c); guarded by lock. */
	_Atomic uint32_t nr_children;
	int children[FLN_MAX_CHILDREN];
	uint32_t nr_undenied; /* guarded by lock */
	struct fln_undenied undenied[FLN_MAX_UNDENIED];
	/* nr_shards more, once there is an in-context region; set in the guest's turn. */
	_Atomic(struct fln_shard *) context_shards;
	struct fln_guest_at at[FLN_MAX_WAITERS]; /* by worker */
	struct fln_guest *next;                  /* in the engine's list; guarded by engine->lock */
	uint32_t nr_pins;                        /* see pins.h; guarded by engine->lock */
	bool leaves;                    /* the ender destroys it; guarded by engine->lock */
	struct fln_guest *next_leaving; /* in the ender's list; guarded by ender->lock */
	uint64_t cookie;                /* for FLN_EVENT_GUEST_DESTROYED; guarded by ender->lock */
};

/*
 * Release: a reader that sees the end of a fault also sees its beginning (stats.c).  Counters of
 * in-context shards are written by many threads.
 */
static inline void fln_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_release);
}

static inline struct fln_shard *fln_context_shards(const struct fln_guest *guest)
{
	return atomic_load_explicit(&guest->context_shards, memory_order_acquire);
}

/* The shard that a region's stripe plan calls @index. */
static inline struct fln_shard *fln_region_shard(const struct fln_region *r, uint32_t index)
{
	return r->in_context ? &fln_context_shards(r->guest)[index] : &r->guest->shards[index];
}

/*
 * Does the region's own map record discards?  The page cache does so only for shared regions: a
 * foreign guest has none of ours, and in a private region a discard leaves it alone.
 */
static inline bool fln_region_keeps_discards(const struct fln_region *r)
{
	return (r->foreign || r->is_private) && r->discard != FLN_DISCARD_IMAGE;
}

/* The default number of chunks of a region of @nr_blocks blocks. */
static inline uint64_t fln_region_nr_chunks(uint64_t nr_blocks)
{
	return nr_blocks + nr_blocks / 8 + FLN_CHUNKS_SPARE;
}

/* Conversions between addresses, the region's pages and the image's pages. */
static inline uint64_t fln_region_page_of(const struct fln_region *r, uint64_t addr)
{
	return fln_bytes_to_pages(addr - r->base_addr);
}

static inline uint64_t fln_region_addr_of(const struct fln_region *r, uint64_t page)
{
	return r->base_addr + fln_pages_to_bytes(page);
}

/* The image's page behind a page of the region.  @page must not lie before the region's first. */
static inline uint64_t fln_region_image_page(const struct fln_region *r, uint64_t page)
{
	return r->image_page + (page - r->map.lead_pages);
}

#endif
