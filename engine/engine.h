/* SPDX-License-Identifier: MIT */
/*
 * The engine and the life cycle of what belongs to it, seen from inside.
 */
#ifndef FLN_ENGINE_ENGINE_H
#define FLN_ENGINE_ENGINE_H

#include "base/lock.h"
#include "base/log.h"
#include "engine/shard.h"
#include "engine/worker.h"
#include "numa/placement.h"
#include "sources/filler.h"

#include <faultlane/engine.h>

struct fln_engine {
	struct fln_engine_opts opts;	/* defaults filled in */
	struct fln_allocator alloc;
	struct fln_log log;
	struct fln_topology *topology;
	uint64_t features;		/* of this kernel and this user */
	struct fln_filler filler;
	struct fln_worker *workers;
	struct fln_lock lock;		/* FLN_RANK_ENGINE */
	struct fln_guest *guests;	/* guarded by lock, as all that follows */
	uint32_t nr_images;
	bool running;
	_Atomic uint64_t nr_stripes;	/* mappings in use by all guests */
	_Atomic uint32_t next_worker;	/* who gets the next guest's first shard */
};

/* Set a share of the budget of mappings aside; give_back undoes it. */
int fln_engine_take_stripes(struct fln_engine *engine, uint64_t nr);
void fln_engine_give_back_stripes(struct fln_engine *engine, uint64_t nr);
uint64_t fln_engine_stripes_left(struct fln_engine *engine);

/* region.c: regions of a guest; guest->lock held by the callers' side. */
void fln_region_release(struct fln_region *region);

/*
 * closing.c: make what was never filled unreadable, and tell workers to leave
 * the region's faults alone.  Afterwards its userfaultfds may be closed or the
 * range unregistered: nobody can read zeros where contents are due (I6).
 */
void fln_region_close(struct fln_region *region);

/* guest.c: make sure that no worker is inside the guest's regions any more. */
void fln_guest_pass_workers(struct fln_guest *guest);

/* directory.c: publish the guest's list of regions anew, less @without. */
int fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
	FLN_REQUIRES(guest->lock);
void fln_directory_destroy(struct fln_guest *guest);

#endif
