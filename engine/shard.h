/* SPDX-License-Identifier: MIT */
/*
 * The objects of a guest, seen from inside: regions, shards, and the guest.
 *
 * Who owns what: the embedder's calls own the guest and its regions, under
 * guest->lock.  A shard belongs to its worker from ATTACH to DETACH: nobody
 * else reads its messages or changes its tables.  Regions are found by workers
 * in the guest's directory, a sorted array that is replaced under RCU.
 */
#ifndef FLN_ENGINE_SHARD_H
#define FLN_ENGINE_SHARD_H

#include "base/blockmap.h"
#include "base/lock.h"
#include "base/log.h"
#include "engine/uffd.h"
#include "engine/window.h"
#include "sharding/stripes.h"
#include "sources/image.h"

#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_worker;

#define FLN_MAX_CHILDREN 16u
#define FLN_MAX_MOVES 64u

struct fln_region {
	struct fln_guest *guest;
	struct fln_image *image;
	uint64_t addr;
	uint64_t len_bytes;
	uint64_t base_addr;		/* addr, down to a block: page 0 of the map */
	uint64_t image_page;		/* the image's page at addr */
	uint32_t page_bytes;
	enum fln_discard discard;
	bool foreign;
	bool mapped_by_us;
	_Atomic bool closing;		/* workers leave its faults alone */
	struct fln_stripe_plan plan;
	struct fln_blockmap map;
	struct fln_region *next;	/* of the guest; guarded by guest->lock */
};

/* Regions by address; replaced as a whole, freed after a grace period. */
struct fln_directory {
	uint32_t nr;
	struct fln_region *regions[];
};

/* Written by the shard's worker only; anybody may read. */
struct fln_shard_counters {
	_Atomic uint64_t faults, minor, major, zero, invalid, refaults;
	_Atomic uint64_t resumed, poisoned, failed;
	_Atomic uint64_t pages_installed, pages_raced, reads, events, again;
	_Atomic uint64_t held_full, no_chunk;
	struct fln_histogram service;
};

/* A stripe that mremap() has moved: faults come at the new place. */
struct fln_move {
	uint64_t from, to, len_bytes;
};

struct fln_shard {
	struct fln_uffd uffd;
	struct fln_guest *guest;
	struct fln_worker *worker;	/* set while attached */
	uint32_t index;
	bool is_child;			/* the shard of a forked child: no map of its own */
	uint32_t nr_held;		/* faults in worker->held; the worker's */
	bool overflowed;		/* in worker->overflowed; the worker's */
	struct fln_shard *next_overflowed;
	_Atomic uint32_t nr_moves;	/* appended to by the worker; who closes reads */
	struct fln_move moves[FLN_MAX_MOVES];
	struct fln_shard_counters count;
};

struct fln_guest {
	struct fln_engine *engine;
	char name[32];
	struct fln_lock lock;		/* FLN_RANK_GUEST */
	_Atomic(struct fln_directory *) directory;
	struct fln_region *regions;	/* guarded by lock */
	struct fln_window_policy window;
	bool foreign;
	bool follow_fork;
	bool running, stopped;		/* guarded by lock */
	uint32_t nr_shards;
	struct fln_shard *shards;
	struct fln_shard *children;	/* FLN_MAX_CHILDREN, with follow_fork */
	_Atomic uint32_t nr_children;
	struct fln_log_limit log_limit;
	struct fln_guest *next;		/* of the engine; guarded by engine->lock */
};

static inline void fln_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter,
			      atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* The region at @addr, or NULL.  RCU read lock held. */
struct fln_region *fln_directory_find(const struct fln_guest *guest, uint64_t addr);

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
