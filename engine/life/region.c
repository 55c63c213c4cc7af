/* SPDX-License-Identifier: MIT */
/*
 * fln_region_add() and fln_region_remove(); see region.h.
 *
 * A region is made in steps: check, map, plan stripes, reserve the page-state map, publish,
 * register every stripe with its shard.  If a step fails, those before it are undone in reverse
 * order, so that nothing stays half registered.
 *
 * Tested by integration.regions, integration.adopt, integration.life_add.
 */
#include "engine/life/region.h"

#include "base/alloc.h"
#include "base/blockmap.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/page.h"
#include "engine/block_policy.h"
#include "engine/budget.h"
#include "engine/calls/advice.h"
#include "engine/command.h"
#include "engine/context/registry.h"
#include "engine/context/shards.h"
#include "engine/directory.h"
#include "engine/doubt.h"
#include "engine/foreign.h"
#include "engine/life/closing.h"
#include "engine/life/deny.h"
#include "engine/life/let_go.h"
#include "engine/life/nodes.h"
#include "engine/life/region_mapping.h"
#include "engine/life/region_opts.h"
#include "engine/owners.h"
#include "engine/release_ask.h"
#include "engine/release_case.h"
#include "engine/release_maps.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/turn.h"
#include "engine/uffd.h"
#include "sharding/stripes.h"
#include "sources/folio.h"
#include "sources/image.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/guest.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

/* Enough stripes per shard to spread hot ranges; larger regions get more, one per ENOUGH_BYTES. */
#define ENOUGH_PER_SHARD 64u
#define ENOUGH_BYTES (UINT64_C(64) << 20)

/*
 * Register every stripe with its shard.  What was registered is counted, also on failure.
 * A caller's mapping is emptied once more, at the last moment: a page that was touched
 * since fln_region_take_over() would never fault.
 */
static int register_stripes(struct fln_region *r)
{
	uint64_t need = (UINT64_C(1) << _UFFDIO_CONTINUE) | (UINT64_C(1) << _UFFDIO_WAKE);
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0; fln_stripe_get(&r->plan, i, &addr, &len, &shard); i++) {
		struct fln_uffd *u = &fln_region_shard(r, shard)->uffd;
		int rc;

		if (!r->mapped_by_us)
			(void)madvise((void *)(uintptr_t)addr, len, MADV_DONTNEED);
		rc = fln_uffd_register(u, addr, len,
				       UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
		if (rc)
			return fln_region_register_error(r, -rc, addr, i);
		r->nr_registered++;
		if ((u->range_ioctls & need) != need)
			return fln_fail(EOPNOTSUPP,
					"region: this kernel offers no CONTINUE for the "
					"mapping at 0x%" PRIx64 "; use 5.14 or newer",
					addr);
	}
	return 0;
}

static int check_overlap(const struct fln_guest *guest, const struct fln_region *r)
{
	for (const struct fln_region *o = guest->regions; o; o = o->next) {
		if (r->addr < o->addr + o->len_bytes && o->addr < r->addr + r->len_bytes)
			return fln_fail(EEXIST,
					"region: [0x%" PRIx64 ", +%" PRIu64 ") overlaps the "
					"region at [0x%" PRIx64 ", +%" PRIu64 ")",
					r->addr, r->len_bytes, o->addr, o->len_bytes);
	}
	return 0;
}

/* Choose the region's stripes, and take them from the engine's budget. */
static int plan_stripes(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;
	uint64_t left = fln_engine_stripes_left(guest->engine);
	uint64_t enough = r->len_bytes / ENOUGH_BYTES;
	uint32_t first, nr;
	uint64_t share;
	int rc;

	fln_region_shards(r, &first, &nr);
	/* Half of what is left, or less near the end, so that later regions get stripes, too. */
	share = left < guest->engine->opts.max_stripes / 4 ? left / 16 : left / 2;
	if (nr == 1)
		share = 1;
	/* No more than are useful, so that the budget serves many small guests. */
	if (enough < (uint64_t)nr * ENOUGH_PER_SHARD)
		enough = (uint64_t)nr * ENOUGH_PER_SHARD;
	if (share > enough)
		share = enough;
	if (share == 0)
		share = 1;
	if (guest->foreign)
		return fln_stripe_plan_init(&r->plan, r->addr, r->len_bytes, 1, 0, 1);
	rc = fln_stripe_plan_init(&r->plan, r->addr, r->len_bytes, nr,
				  fln_stripe_first_shard(guest->nr_planned++, nr), share);
	if (rc == 0)
		fln_stripe_plan_set_base(&r->plan, first);
	return rc ? rc : fln_engine_take_stripes(guest->engine, r->plan.nr_stripes);
}

/*
 * Reserve a chunk for every block, unless max_chunks says otherwise.  Chunks take no memory until
 * they are used; a block without one is mapped page by page.
 */
static int init_map(struct fln_region *r, uint32_t max_chunks)
{
	uint32_t lead = (uint32_t)fln_bytes_to_pages(r->addr % FLN_BLOCK_BYTES);
	uint64_t nr_pages = fln_bytes_to_pages(r->len_bytes);
	uint64_t nr_blocks = (lead + nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	bool must = fln_region_keeps_discards(r); /* discards must find room */
	uint64_t nr_chunks = max_chunks;
	int rc;

	/* Plus some for chunks that wait for a grace period. */
	if (max_chunks && !must)
		nr_chunks += nr_chunks / 8 + 8;
	else
		nr_chunks = fln_region_nr_chunks(nr_blocks);
	FLN_ASSERT(nr_blocks < UINT32_MAX / 2); /* of what a region can have */
	if (nr_chunks >= UINT32_MAX)
		nr_chunks = UINT32_MAX - 1;
	r->base_addr = fln_align_down(r->addr, FLN_BLOCK_BYTES);
	rc = fln_blockmap_init(&r->map, lead, nr_pages, (uint32_t)nr_chunks, 0);
	/* Under strict overcommit or a limit of the address space fewer will do, but slower. */
	if (rc == -ENOMEM && !must && nr_chunks > FLN_CHUNKS_FEW)
		rc = fln_blockmap_init(&r->map, lead, nr_pages, FLN_CHUNKS_FEW, 0);
	return rc;
}

/* Remove a region that is closed, or was never served, from the guest's list and directory. */
static void take_out(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;
	struct fln_region **at;
	int rc;

	if (!r->unsafe)
		fln_region_unregister(r);
	if (r->in_context)
		fln_context_leave_region(r);
	/* While workers can still find it: faults that they have read for it end properly. */
	fln_guest_pass_workers(guest);
	fln_lock(&guest->lock);
	for (at = &guest->regions; *at != r; at = &(*at)->next)
		;
	*at = r->next;
	rc = fln_directory_publish(guest, NULL);
	FLN_ASSERT(rc == 0); /* there is a spare */
	fln_unlock(&guest->lock);
	fln_directory_reap(guest);
	/* After this no worker is handling an event that has found the region. */
	fln_guest_pass_workers(guest);
}

static int publish_region(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;
	int rc = fln_directory_prepare(guest);

	if (rc)
		return rc;
	fln_lock(&guest->lock);
	r->next = guest->regions;
	guest->regions = r;
	rc = fln_directory_publish(guest, NULL);
	if (rc)
		guest->regions = r->next;
	fln_unlock(&guest->lock);
	fln_directory_reap(guest);
	return rc;
}

/*
 * Publish the region before its first fault can come, then register it.  If that fails half-way,
 * faults may have been served already; take_out() wakes the waiters.
 */
static int open_region(struct fln_region *r)
{
	int rc;

	/* First, workers finish with events at this place from before the region. */
	fln_guest_pass_workers(r->guest);
	rc = publish_region(r);
	if (rc)
		return rc;
	if (r->in_context)
		rc = fln_context_enter_region(r);
	if (r->foreign) {
		r->nr_registered = r->plan.nr_stripes;
		/* Faults may be held since before the region was added. */
		if (r->guest->shards[0].worker)
			fln_worker_kick(r->guest->shards[0].worker);
	} else if (rc == 0) {
		rc = r->mapped_by_us ? 0 : fln_region_restore(r);
		rc = rc ? rc : register_stripes(r);
	}
	/* Only now make the engine's own mapping accessible: touches fault, and are served. */
	if (rc == 0 && !r->foreign)
		rc = fln_region_allow(r);
	if (rc == 0) {
		atomic_store_explicit(&r->is_open, true, memory_order_release);
		return 0;
	}
	atomic_store_explicit(&r->closing, true, memory_order_release);
	take_out(r);
	fln_region_undo_restore(r);
	return rc;
}

/* All steps that can fail, and their undoing.  In the guest's turn. */
static int build_region(struct fln_guest *guest, struct fln_region *r, uint32_t max_chunks)
{
	int rc;

	rc = r->in_context ? fln_context_open(guest) : 0;
	if (rc == 0 && r->addr == 0)
		rc = fln_region_map(r);
	if (rc)
		return rc;
	rc = check_overlap(guest, r);
	if (rc == 0 && r->foreign)
		rc = fln_foreign_check_region(r);
	if (rc == 0 && !r->foreign && !r->mapped_by_us)
		rc = fln_region_take_over(r);
	if (rc)
		goto unmap;
	rc = r->foreign ? 0 : fln_region_keep_from_children(r);
	if (rc)
		goto unmap;
	rc = plan_stripes(r);
	if (rc)
		goto unmap;
	rc = init_map(r, max_chunks);
	if (rc)
		goto give_back;
	fln_region_bind(r);
	rc = fln_region_doubt_init(r);
	if (rc == 0)
		rc = open_region(r);
	if (rc == 0)
		return 0;
	fln_region_deny_free(r);
	fln_blockmap_deinit(&r->map);
give_back:
	if (!r->foreign)
		fln_engine_give_back_stripes(guest->engine, r->plan.nr_stripes);
unmap:
	fln_region_unmap(r);
	return rc;
}

/* All that is left of the guest may be released. */
static void let_go_again(struct fln_guest *guest)
{
	if (!fln_guest_let_go(guest))
		atomic_store(&guest->release.is_due, true); /* the ender tries again */
}

int fln_region_add(struct fln_guest *guest, const struct fln_region_opts *opts,
		   struct fln_region **out)
{
	FLN_UNCANCELLABLE;
	struct fln_region_opts o;
	struct fln_region *r;
	uint32_t node_index;
	int rc = FLN_CALL_REFUSED(guest, opts, out);

	if (rc)
		return rc;
	rc = fln_opts_copy(&o, sizeof(o), opts, "fln_region_opts");
	if (rc == 0)
		rc = fln_region_check_opts(guest, &o);
	if (rc == 0)
		rc = fln_nodes_find(guest->engine, o.node, &node_index);
	if (rc)
		return rc;
	r = fln_zalloc(&guest->engine->alloc, sizeof(*r), FLN_NODE_ANY);
	if (!r)
		return fln_fail(ENOMEM, "no memory for a region");
	r->guest = guest;
	r->image = o.image;
	r->addr = o.addr;
	r->len_bytes = o.len_bytes;
	r->image_page = fln_bytes_to_pages(o.image_offset_bytes);
	r->page_bytes = o.image->page_bytes;
	r->discard = fln_region_discard(guest, &o);
	r->release = fln_release_option((enum fln_release)o.release, guest->release_default);
	r->foreign = guest->foreign;
	r->is_private = o.sharing == FLN_SHARING_PRIVATE;
	r->in_context = o.delivery == FLN_DELIVERY_IN_CONTEXT;
	r->node_index = node_index;
	atomic_fetch_add(&r->image->nr_users, 1);
	fln_guest_take_turn(guest);
	if (guest->stopped)
		rc = fln_fail(EINVAL, "guest %s was stopped; make a new one", guest->name);
	else
		rc = fln_guest_take_back(guest);
	if (rc == 0)
		rc = build_region(guest, r, o.max_chunks);
	if (rc == 0) {
		guest->release.told = guest->release.is_complete = false;
		fln_release_tell_image(r);
		fln_release_look_now(guest);
	} else {
		let_go_again(guest); /* if it was taken back in vain */
	}
	fln_guest_give_turn(guest);
	if (rc) {
		atomic_fetch_sub(&r->image->nr_users, 1);
		fln_free(&guest->engine->alloc, r, sizeof(*r), FLN_NODE_ANY);
		return rc;
	}
	*out = r;
	return 0;
}

void *fln_region_addr(const struct fln_region *region)
{
	return (void *)(uintptr_t)region->addr;
}

void fln_region_release(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;

	fln_advised_forget(region);
	fln_region_unmap(region);
	fln_region_deny_free(region);
	fln_release_end_maps(region);
	/* Sweeps of other regions tell the image that they trim it. */
	fln_folio_set_trimmed(&region->image->folios, false);
	fln_blockmap_deinit(&region->map);
	atomic_fetch_sub(&region->image->nr_users, 1);
	fln_free(&guest->engine->alloc, region, sizeof(*region), FLN_NODE_ANY);
}

int fln_region_remove(struct fln_region *region)
{
	FLN_UNCANCELLABLE;
	struct fln_guest *guest;
	int rc = 0;

	if (!region)
		return 0;
	if (fln_forked)
		return fln_fork_refused("fln_region_remove");
	guest = region->guest;
	fln_guest_take_turn(guest);
	if (!guest->stopped)
		rc = fln_region_close(region);
	if (rc == 0) {
		take_out(region);
		if (!region->mapped_by_us)
			fln_region_vacate(region);
		fln_region_release(region);
		let_go_again(guest);
	}
	fln_guest_give_turn(guest);
	return rc;
}
