/* SPDX-License-Identifier: MIT */
/*
 * The objects of a guest, seen from inside: regions, shards, and the guest.
 *
 * Owners: the embedder's calls own the guest and its regions, under
 * guest->lock.  A shard belongs to its worker from ATTACH to DETACH: nobody
 * else reads its messages or changes its tables.  Regions are found by workers
 * in the guest's directory, a sorted array that is replaced under RCU.
 */
#ifndef FLN_ENGINE_STATE_GUEST_H
#define FLN_ENGINE_STATE_GUEST_H

#include "base/blockmap.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
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

#define FLN_MAX_CHILDREN 64u /* of a foreign guest's process, until they are closed */
#define FLN_MAX_REGION_STRAYS 4u
#define FLN_MAX_STRAYS 16u /* of a shard that are kept in mind to its end */
#define FLN_MAX_UNDENIED 32u
#define FLN_GUEST_DEFAULT_VCPUS 64u
/*
 * Chunks of a region's map besides one for each block: those that are on their way back.  Of
 * address space only, as all of them, until they are used.
 */
#define FLN_CHUNKS_SPARE 1024u
/* As many are enough to begin with where the address space has no room for all. */
#define FLN_CHUNKS_FEW 65536u

/*
 * Whose turn it is: life-cycle calls on one object go one after the other.  No
 * lock, because they make system calls, wait for workers and write to the log (I2).
 */
struct fln_turn {
	bool taken; /* guarded by the object's lock */
	pthread_cond_t given;
};

/* Zeros that were mapped where a private region's guest had given pages up. */
struct fln_zeroed {
	uint64_t addr, end;
};

struct fln_region {
	/* Set before a worker or another thread can find it, and the same to its end. */
	struct fln_guest *guest;
	struct fln_image *image;
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t base_addr;  /* addr, down to a block: page 0 of the map */
	uint64_t image_page; /* the image's page at addr */
	uint32_t page_bytes;
	enum fln_discard discard;
	bool foreign;
	bool is_private;     /* MAP_PRIVATE: writes, and discards, are the guest's alone */
	bool in_context;     /* its shards raise SIGBUS and queue nothing */
	uint32_t node_index; /* of the topology, FLN_NODE_ANY: any */
	struct fln_stripe_plan plan;

	/* In the guest's turn alone. */
	bool mapped_by_us;
	bool kept_from_children;   /* by MADV_DONTFORK of ours */
	bool closed;               /* fln_region_close() has been called, whatever came of it */
	bool restored;             /* the image was mapped where an earlier end had taken it away */
	bool sealed;               /* some pages were made unreadable, and still map the image */
	bool vacate_later;         /* of them, some until the range is registered no more */
	uint64_t max_denial_runs;  /* that the last walk was allowed; 0: there was none */
	bool unsafe;               /* some should have been, and could not */
	uint64_t close_waited_ns;  /* for calls that the kernel put off */
	uint64_t nr_registered;    /* stripes, from the first on */
	struct fln_denial *denial; /* while deny.c is at it */
	int (*denial_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes);
	struct fln_zeroed *zeroed; /* where zeros of the process's own were mapped */
	uint64_t nr_zeroed, max_zeroed;
	uint64_t nr_denial_maps; /* taken from the engine's budget */

	/* Set in the guest's turn, once; read by workers and in signal handlers. */
	_Atomic bool closing; /* workers leave its faults alone */

	/* By each page's owner, which has its CLAIMED bit: a worker, or a thread in context. */
	struct fln_blockmap map;

	/*
	 * By the reader of events, which sets bits: of a foreign region the blocks in which the map
	 * may be wrong about PRESENT.  NULL: it is believed.
	 */
	_Atomic uint64_t *doubted;

	/* Where something else lies (strays.c): under guest->lock; read by anybody. */
	_Atomic uint32_t nr_strays;
	struct {
		_Atomic uint64_t lo, hi;
	} strays[FLN_MAX_REGION_STRAYS];

	struct fln_region *next; /* of the guest: in its turn, and under guest->lock */
};

/* Regions by address; replaced as a whole, freed after a grace period. */
struct fln_directory {
	uint32_t nr, capacity;
	struct fln_directory *next; /* of those that are retired */
	struct fln_region *regions[];
};

/*
 * What a shard's worker has noted of its oldest fault.  Written by the worker
 * alone; readers read until they have read the same twice.
 */
struct fln_oldest {
	_Atomic uint64_t t0_ns; /* 0: nobody waits */
	_Atomic uint64_t addr;
	_Atomic uint32_t waits_for, worker;
};

/* Written by the shard's worker, in context by any thread; anybody may read. */
struct fln_shard_counters {
	_Atomic uint64_t faults, minor, major, zero, invalid, refaults, in_context;
	_Atomic uint64_t resumed, poisoned, failed;
	_Atomic uint64_t pages_installed, pages_raced, reads, events, again;
	_Atomic uint64_t held_full, no_chunk, no_memory, remote, populated;
	struct fln_histogram service;
};

/*
 * Blocks that threads have mapped wholly in their own context: their chunks are to
 * be given back, which a signal handler must not do.  A worker does it, from time to time.
 */
#define FLN_NR_WHOLE 64u /* a power of two */

struct fln_whole_blocks {
	_Atomic uint64_t addr[FLN_NR_WHOLE]; /* 0: free */
	_Atomic uint32_t nr;
	_Atomic bool hurry; /* chunks have run out */
};

/* Where mremap() has put memory of a region. */
struct fln_stray {
	uint64_t addr, len_bytes;
};

/* A region's pages as /proc/self/maps shows them, also when the region has gone. */
struct fln_mapping_due {
	uint64_t inode, device;
	uint64_t offset_less_addr; /* modulo 2^64 */
	bool is_private;
};

/*
 * [lo, hi) where pages lie that are no region's, and what their mapping has behind it.  It is
 * still to be made unreadable (strays.c).
 */
struct fln_undenied {
	struct fln_shard *shard;
	struct fln_mapping_due due;
	uint64_t lo, hi;
};

/* The worker's, while it works out what to note (oldest.c). */
struct fln_oldest_next {
	bool noted; /* in worker->noted */
	struct fln_shard *shard;
	uint64_t t0_ns, addr;
	uint32_t waits_for;
};

struct fln_shard {
	/* Set before it is attached; the descriptor is open until its guest has ended. */
	struct fln_uffd uffd;
	struct fln_guest *guest;
	uint32_t index;
	bool in_context; /* raises SIGBUS, queues no faults */

	/* By the worker, on ATTACH and DETACH; read between them, or by the thread that had them done. */
	struct fln_worker *worker;

	/* The worker's alone, while it is attached. */
	uint32_t nr_held;                        /* faults in worker->held */
	bool overflowed;                         /* in worker->overflowed */
	uint64_t overflowed_ns, overflowed_addr; /* since when, and the first one's address */
	struct fln_shard *next_overflowed;
	struct fln_shard *next_in_context, *next_of_worker;
	struct fln_oldest_next next_oldest;

	/*
	 * By the reader of its events: the worker, or in the guest's turn another thread when it has
	 * none.  Those that found no room keep it open (strays.c).
	 */
	uint32_t nr_strays;
	struct fln_stray strays[FLN_MAX_STRAYS];

	/* By the worker, and in context by any thread; read by anybody. */
	struct fln_shard_counters count;

	/* In context: the worker to be asked for contents; NULL while the guest does not run.  In its turn. */
	_Atomic(struct fln_worker *) helper;

	/* In context: noted by any thread, taken by the worker. */
	struct fln_whole_blocks whole;

	/* Set by any thread, for good; read when the guest ends. */
	_Atomic bool keep_open; /* closed, unfilled pages would read zeros */

	/* By the worker alone; read by anybody. */
	_Atomic bool unreadable; /* read() fails for good */
	struct fln_oldest oldest;
};

/* What a guest has of one of the workers; that worker's. */
struct fln_guest_at {
	uint32_t nr_shards; /* that it serves */
	uint32_t nr_held;   /* entries in worker->held */
};

struct fln_guest {
	struct fln_engine *engine;
	char name[32];
	uint64_t id;          /* 1, 2, … in the order in which they were made; for statistics */
	struct fln_lock lock; /* FLN_RANK_GUEST */
	struct fln_turn turn;
	_Atomic(struct fln_directory *) directory;
	struct fln_directory *spare;   /* so that leaving a region out cannot fail; by lock */
	struct fln_directory *retired; /* wait for a grace period; guarded by lock */
	struct fln_region *regions;    /* changed in the guest's turn, under lock */
	struct fln_window_policy window;
	struct fln_density *density; /* in place of it, or NULL; the worker's of its one shard */
	struct fln_jobs jobs;
	struct fln_advised advised;
	bool foreign;
	uint32_t on_failure;   /* as struct fln_guest_opts, the default filled in */
	uint32_t max_failures; /* at least 1 */
	fln_ask_fn ask;
	void *ask_ctx;
	_Atomic bool found_pages;       /* foreign: some were there that we had not put there */
	_Atomic bool failed;            /* what is not there is poisoned at once; stays so */
	_Atomic bool told_whole;        /* FLN_EVENT_GUEST_WHOLE has been posted */
	_Atomic bool must_stop;         /* to be stopped by the ender */
	_Atomic uint32_t nr_reading;    /* of workers that read events of in-context shards */
	uint64_t told_t0_ns, told_addr; /* of the fault last told of; guarded by engine->lock */
	bool running, stopped;          /* set in the guest's turn, under lock */
	int stop_result;
	struct fln_log_limit log_limit, poison_limit, late_limit, moved_limit;
	uint32_t nr_planned; /* regions that had stripes so far; in the guest's turn */
	uint32_t nr_shards;
	uint32_t turn_no; /* its running number, for the plan */
	struct fln_shard *shards;
	/* Userfaultfds of forked children that are to be closed (strays.c); guarded by lock. */
	_Atomic uint32_t nr_children;
	int children[FLN_MAX_CHILDREN];
	uint32_t nr_undenied; /* guarded by lock */
	struct fln_undenied undenied[FLN_MAX_UNDENIED];
	/* nr_shards more, from the first in-context region on; set in the guest's turn. */
	_Atomic(struct fln_shard *) context_shards;
	struct fln_guest_at at[FLN_MAX_WAITERS]; /* by worker */
	struct fln_guest *next;                  /* of the engine; guarded by engine->lock */
	uint32_t nr_pins;                        /* other users just now; guarded by engine->lock */
	bool leaves;                    /* the guard destroys it; guarded by engine->lock */
	struct fln_guest *next_leaving; /* the guard's, guarded by its lock */
	uint64_t cookie;                /* that is told when it has gone; the same */
};

/*
 * Release: a reader that sees a fault ended sees that it had begun (stats.c).  Shards
 * whose faults are resolved in context are counted on by many threads.
 */
static inline void fln_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_release);
}

static inline struct fln_shard *fln_context_shards(const struct fln_guest *guest)
{
	return atomic_load_explicit(&guest->context_shards, memory_order_acquire);
}

/* The shard of a region's stripes that the plan calls @index. */
static inline struct fln_shard *fln_region_shard(const struct fln_region *r, uint32_t index)
{
	return r->in_context ? &fln_context_shards(r->guest)[index] : &r->guest->shards[index];
}

/*
 * Does the region's own map say what was given up?  Where there is no page cache
 * of ours (foreign), or the cache speaks for others too (private).
 */
static inline bool fln_region_keeps_discards(const struct fln_region *r)
{
	return (r->foreign || r->is_private) && r->discard != FLN_DISCARD_IMAGE;
}

/* Chunks that a region of @nr_blocks has room for, where the caller does not say. */
static inline uint64_t fln_region_nr_chunks(uint64_t nr_blocks)
{
	return nr_blocks + nr_blocks / 8 + FLN_CHUNKS_SPARE;
}

/* Conversions of one region, in one place. */
static inline uint64_t fln_region_page_of(const struct fln_region *r, uint64_t addr)
{
	return fln_bytes_to_pages(addr - r->base_addr);
}

static inline uint64_t fln_region_addr_of(const struct fln_region *r, uint64_t page)
{
	return r->base_addr + fln_pages_to_bytes(page);
}

/* The image's page behind a page of the region, which is not before its beginning. */
static inline uint64_t fln_region_image_page(const struct fln_region *r, uint64_t page)
{
	return r->image_page + (page - r->map.lead_pages);
}

#endif
