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
	_Atomic uint64_t features;   /* of this kernel and this user; 0: refused so far */
	struct fln_uffd asking;      /* is a range somebody else's?  Guarded by asking_lock */
	struct fln_lock asking_lock; /* FLN_RANK_LEAF */
	struct fln_event_queue events;
	struct fln_filler filler;
	struct fln_guard guard;
	uint64_t close_patience_ns;          /* 0: the default; see closing.c */
	const struct fln_memory_ops *memory; /* NULL: the kernel's; see deny.h */
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

/* Set a share of the budget of mappings aside; give_back undoes it. */
int fln_engine_take_stripes(struct fln_engine *engine, uint64_t nr);
void fln_engine_give_back_stripes(struct fln_engine *engine, uint64_t nr);
uint64_t fln_engine_stripes_left(struct fln_engine *engine);

/* engine.c: the end of a pin: who has counted nr_pins up keeps the guest from going until then. */
void fln_engine_unpin(struct fln_engine *engine, struct fln_guest *guest);

/*
 * May this user have userfaultfds, and does the kernel's do what we need?  Return: 0; as
 * fln_uffd_probe(), fln_uffd_check_features().
 */
int fln_engine_check_features(struct fln_engine *engine);

/* engine.c: until when a read of a source that has begun is waited for, from now on. */
uint64_t fln_engine_source_deadline(const struct fln_engine *engine);

typedef int (*fln_mapping_fn)(struct fln_region *region, uint64_t addr, uint64_t len_bytes,
			      uint64_t moved);

struct fln_lock;
struct fln_turn;

void fln_turn_init(struct fln_turn *turn);
void fln_turn_deinit(struct fln_turn *turn);
void fln_turn_take(struct fln_turn *turn, struct fln_lock *lock) FLN_REQUIRES(lock);
void fln_turn_give(struct fln_turn *turn, struct fln_lock *lock) FLN_REQUIRES(lock);

#endif
