/* SPDX-License-Identifier: MIT */
/*
 * Closing a region: failing closed (I6).
 *
 * The kernel goes on serving a mapping whose userfaultfd is closed: what is in
 * the page cache reads its contents, and what is not reads zeros.  So before
 * anything is closed or unregistered, every page whose contents are due and not
 * there is poisoned.  That wakes the threads that wait for these pages, into a
 * SIGBUS; whoever waits for another page is woken when its userfaultfd is closed
 * or its range unregistered, and finds the page in the cache.
 *
 * Workers leave the region alone from the moment that closing is set and a grace
 * period has passed.  Their shards stay attached meanwhile, so that events are
 * read and installs are not put off for ever.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/install.h"
#include "engine/region_map.h"

#include <sched.h>
#include <time.h>

/* Pages of a block that may not be left to the kernel. */
static struct fln_mask unsafe_pages(const struct fln_region *r, uint64_t block)
{
	struct fln_mask valid = fln_blockmap_valid(&r->map, block), safe = { { 0 } }, m;
	uint32_t lo = fln_mask_next_set(&valid, 0), hi = fln_mask_next_clear(&valid, lo);
	struct fln_mask filled, zero;

	m = fln_blockmap_load(&r->map, FLN_PLANE_PRESENT, block);
	safe = fln_mask_or(&safe, &m);
	if (r->foreign) {
		/* Nothing but what is mapped is there; what was discarded is zero. */
		m = fln_blockmap_load(&r->map, FLN_PLANE_DISCARDED, block);
		safe = fln_mask_or(&safe, &m);
		return fln_mask_andnot(&valid, &safe);
	}
	fln_image_ready(r->image, fln_region_image_page(r, block * FLN_BLOCK_PAGES + lo), hi - lo,
			&filled, &zero);
	/* The map may be wrong about PRESENT; the image is not about FILLED. */
	safe = fln_mask_or(&filled, &zero);
	for (uint32_t p = hi; p-- > lo;) {
		if (fln_mask_test(&safe, p - lo))
			fln_mask_clear(&valid, p);
	}
	return valid;
}

/* Nobody reads the events of a guest that does not run: read them here, and forget them. */
static void read_events(struct fln_shard *shard)
{
	struct uffd_msg msgs[16];

	while (fln_uffd_read(&shard->uffd, msgs, 16) > 0)
		;
}

static void wait_a_little(uint32_t round)
{
	struct timespec ts = { .tv_nsec = (long)FLN_NS_PER_MS };

	if (round < 16)
		(void)sched_yield();
	else
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

/*
 * Poison pages of a block through one shard, until it is done.  @moved is how
 * far mremap() has carried them.
 */
static void poison_block(struct fln_region *r, struct fln_shard *shard, uint64_t block,
			 const struct fln_mask *pages, uint64_t moved)
{
	struct fln_mask todo = *pages, poisoned = { { 0 } };

	for (uint32_t round = 0; !fln_mask_empty(&todo); round++) {
		struct fln_install in = { .shard = shard, .region = r };

		in.block_page = block * FLN_BLOCK_PAGES;
		in.block_addr = fln_region_addr_of(r, in.block_page) + moved;
		in.faulting = todo;
		fln_install_poison(&in, &todo, &poisoned);
		/* Not in.again: what came after a call that was put off was not tried at all. */
		todo = fln_mask_andnot(&todo, &poisoned);
		todo = fln_mask_andnot(&todo, &in.present);
		todo = fln_mask_andnot(&todo, &in.gone);
		todo = fln_mask_andnot(&todo, &in.broken);
		if (fln_mask_empty(&todo))
			return;
		if (!shard->worker)
			read_events(shard);
		wait_a_little(round);
	}
}

static void close_block(struct fln_region *r, uint64_t block)
{
	struct fln_guest *guest = r->guest;
	struct fln_mask pages;
	uint64_t addr;
	uint32_t nr_children = 0;

	fln_rcu_read_lock();
	pages = unsafe_pages(r, block);
	fln_rcu_read_unlock();
	if (fln_mask_empty(&pages))
		return;
	addr = fln_region_addr_of(r, block * FLN_BLOCK_PAGES + fln_mask_next_set(&pages, 0));
	poison_block(r, &guest->shards[fln_stripe_shard(&r->plan, addr)], block, &pages, 0);
	if (guest->children)
		nr_children = atomic_load_explicit(&guest->nr_children, memory_order_acquire);
	for (uint32_t i = 0; i < nr_children && i < FLN_MAX_CHILDREN; i++) {
		if (guest->children[i].guest)
			poison_block(r, &guest->children[i], block, &pages, 0);
	}
}

/* The same for what has moved away, where it is now; what moved on is GONE there. */
static void close_moved(struct fln_region *r, struct fln_shard *shard)
{
	uint32_t nr = atomic_load_explicit(&shard->nr_moves, memory_order_acquire);

	for (uint32_t i = 0; i < nr; i++) {
		const struct fln_move *m = &shard->moves[i];
		uint64_t at = m->from > r->addr ? m->from : r->addr;
		uint64_t end = m->from + m->len_bytes, stop;

		if (end > r->addr + r->len_bytes)
			end = r->addr + r->len_bytes;
		for (; at < end; at = stop) {
			uint64_t page = fln_region_page_of(r, at), block = page / FLN_BLOCK_PAGES;
			uint32_t lo = (uint32_t)(page % FLN_BLOCK_PAGES), hi = FLN_BLOCK_PAGES;
			struct fln_mask pages, there;

			stop = fln_align_down(at, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
			if (stop > end) {
				hi = lo + (uint32_t)fln_bytes_to_pages(end - at);
				stop = end;
			}
			there = fln_mask_range(lo, hi);
			fln_rcu_read_lock();
			pages = unsafe_pages(r, block);
			fln_rcu_read_unlock();
			pages = fln_mask_and(&pages, &there);
			if (!fln_mask_empty(&pages))
				poison_block(r, shard, block, &pages, m->to - m->from);
		}
	}
}

static void close_all_moved(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;

	/* An event that was read before the region closed has been acted upon after this. */
	fln_guest_pass_workers(guest);
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		close_moved(r, &guest->shards[i]);
	for (uint32_t i = 0; guest->children && i < FLN_MAX_CHILDREN; i++) {
		if (guest->children[i].guest)
			close_moved(r, &guest->children[i]);
	}
}

void fln_region_close(struct fln_region *region)
{
	bool entered;

	if (atomic_exchange_explicit(&region->closing, true, memory_order_acq_rel))
		return;
	entered = fln_rcu_enter();
	fln_rcu_synchronize();
	for (uint64_t block = 0; block < region->map.nr_blocks; block++)
		close_block(region, block);
	close_all_moved(region);
	fln_rcu_leave(entered);
}
