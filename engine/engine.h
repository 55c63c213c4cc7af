/* SPDX-License-Identifier: MIT */
/*
 * The engine and the life cycle of what belongs to it, seen from inside.
 */
#ifndef FLN_ENGINE_ENGINE_H
#define FLN_ENGINE_ENGINE_H

#include "base/lock.h"
#include "base/log.h"
#include "engine/event_queue.h"
#include "engine/guard.h"
#include "engine/shard.h"
#include "engine/worker.h"
#include "numa/placement.h"
#include "numa/plan.h"
#include "sources/filler.h"

#include <faultlane/engine.h>

/* What shards of guests that are gone have counted on a node. */
struct fln_node_counts {
	uint64_t faults, pages_installed, remote;
};

struct fln_engine {
	struct fln_engine_opts opts; /* defaults filled in */
	struct fln_allocator alloc;
	struct fln_log log;
	struct fln_thread_hooks hooks; /* opts.thread_hooks points here, or is NULL */
	struct fln_topology *topology;
	struct fln_plan *plan;
	uint64_t features; /* of this kernel and this user */
	struct fln_event_queue events;
	struct fln_filler filler;
	struct fln_guard guard;
	uint64_t close_patience_ns; /* 0: the default; see closing.c */
	struct fln_worker *workers;
	struct fln_lock lock;             /* FLN_RANK_ENGINE */
	struct fln_turn turn;             /* of start and stop */
	pthread_cond_t unpinned;          /* some guest's nr_pins has come to 0 */
	struct fln_guest *guests;         /* guarded by lock, as all that follows */
	struct fln_node_counts *departed; /* by node */
	uint32_t nr_images;
	uint64_t nr_guests_made;
	bool running, stopping;
	_Atomic uint64_t nr_stripes;  /* mappings in use by all guests */
	_Atomic uint32_t next_worker; /* who gets the next guest's first shard */
	_Atomic bool said_unpinned, said_nice, said_unbound;
};

/* nodes.c: plan the machine with the engine's options, fill in nr_workers. */
int fln_nodes_init(struct fln_engine *engine);
void fln_nodes_deinit(struct fln_engine *engine);

/* nodes.c: whether workers are pinned: wanted, and the topology is this machine's. */
bool fln_engine_pins(const struct fln_engine *engine);

/*
 * nodes.c: the index of a node that an embedder gave as the kernel's number plus one.
 * Return: 0, FLN_NODE_ANY for 0; -EINVAL with the nodes that there are.
 */
int fln_nodes_find(const struct fln_engine *engine, uint32_t node_plus_one, uint32_t *out);

/* nodes.c: who serves a shard of a guest: a worker of the shard's node. */
struct fln_worker *fln_guest_worker(const struct fln_guest *guest, uint32_t shard);

/* nodes.c: the guest's shards that a region's stripes go to. */
void fln_region_shards(const struct fln_region *r, uint32_t *first, uint32_t *nr);

/* nodes.c: have its part of the image, and its map, lie on its node, if it has one. */
void fln_region_bind(const struct fln_region *r);

/* nodes.c: keep what a guest that leaves has counted. */
void fln_nodes_depart(struct fln_engine *engine, const struct fln_guest *guest)
	FLN_REQUIRES(engine->lock);

/* Set a share of the budget of mappings aside; give_back undoes it. */
int fln_engine_take_stripes(struct fln_engine *engine, uint64_t nr);
void fln_engine_give_back_stripes(struct fln_engine *engine, uint64_t nr);
uint64_t fln_engine_stripes_left(struct fln_engine *engine);

/* engine.c: the end of a pin: who has counted nr_pins up keeps the guest from going until then. */
void fln_engine_unpin(struct fln_engine *engine, struct fln_guest *guest);

/* engine.c: until when a read of a source that has begun is waited for, from now on. */
uint64_t fln_engine_source_deadline(const struct fln_engine *engine);

/* region_opts.c: may such a region be?  Return: 0; -EINVAL, -EOPNOTSUPP. */
int fln_region_check_opts(const struct fln_guest *guest, const struct fln_region_opts *o);

/* region_opts.c: what the region's discards mean. */
enum fln_discard fln_region_discard(const struct fln_guest *guest, const struct fln_region_opts *o);

/* region.c: free a region that nobody uses any more.  In the guest's turn. */
void fln_region_release(struct fln_region *region);

/*
 * closing.c: make what was never filled unreadable, and tell workers to leave
 * the region's faults alone.  Afterwards its userfaultfds may be closed or the
 * range unregistered: nobody can read zeros where contents are due (I6).
 * Return: 0; -EIO when that could not be done: then they may not.
 * In the guest's turn, as all of closing.c.
 */
int fln_region_close(struct fln_region *region);

/*
 * The same once more for what mremap() has moved while the region was being
 * closed, and for events that nobody had read.  No worker has the guest's shards.
 */
int fln_region_close_rest(struct fln_region *region);

/* closing.c: pages of a block that may not be left to the kernel.  Empty: covered. */
struct fln_mask fln_region_unsafe(const struct fln_region *region, uint64_t block);

/*
 * cover.c: make long runs of blocks of which nothing is filled unreadable at once, where
 * that can be done; what it does not do is to be poisoned.  The workers leave the region
 * alone, but for its events.  fln_region_is_covered(): was it done there?
 */
void fln_region_cover(struct fln_region *region);
bool fln_region_is_covered(const struct fln_region *region, uint64_t block);
void fln_region_cover_free(struct fln_region *region);

/* Take a closed region's ranges from their userfaultfds, and let go who waits there. */
void fln_region_unregister(struct fln_region *region);

/*
 * mapping.c: is all of the region a mapping of its image, shared or private as it
 * should be?  Return: 0; or
 * -EINVAL with the sentence that says what is there.
 */
int fln_mapping_check(const struct fln_region *region);

typedef int (*fln_mapping_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes,
			      uint64_t moved);

/*
 * Call @fn for each piece of [start, end) that is still a mapping of the region's
 * image at its place, or was covered.  @moved: how far mremap() has carried it.  Return: what the
 * first call of @fn returned that did not return 0.
 */
int fln_mapping_each(struct fln_region *region, uint64_t start, uint64_t end, uint64_t moved,
		     fln_mapping_fn fn);

/* The same; nothing is called, and -errno returned, where /proc/self/maps cannot be read. */
int fln_mapping_each_seen(struct fln_region *region, uint64_t start, uint64_t end, uint64_t moved,
			  fln_mapping_fn fn);

/* guest.c: life-cycle calls on one guest and its regions go one after the other. */
void fln_guest_take_turn(struct fln_guest *guest);
void fln_guest_give_turn(struct fln_guest *guest);

/* guest.c: all that workers were doing with the guest's regions is done. */
void fln_guest_pass_workers(struct fln_guest *guest);

/*
 * events.c: the guest gave [start, end) up.  By who reads the shard's events: its
 * worker, or in the guest's turn when it has none.  Not in a read section.
 */
void fln_shard_removed(struct fln_shard *shard, uint64_t start, uint64_t end);

/*
 * directory.c: memory for one region more, so that fln_directory_publish() needs none: a
 * worker may want guest->lock, and somebody who has the allocator's the worker.  In the
 * guest's turn.  Return: 0; -ENOMEM.
 */
int fln_directory_prepare(struct fln_guest *guest);

/*
 * directory.c: publish the guest's list of regions anew, less @without.  To leave
 * one out cannot fail, if the one before was followed by fln_directory_reap().
 */
int fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
	FLN_REQUIRES(guest->lock);
/* Free what nobody can see any more; waits for a grace period, with no lock held. */
void fln_directory_reap(struct fln_guest *guest);
void fln_directory_destroy(struct fln_guest *guest);

#endif
