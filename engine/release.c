/* SPDX-License-Identifier: MIT */
/*
 * Looking for blocks to release: a worker's sweeps over the stripes of its shards.
 *
 * No message says which block has become whole: a sweep reads the page states, which hold all of
 * that.  A thread that makes a block of an image whole kicks, once, the workers that have asked
 * for that (image->block_waiters).  A worker sets its bit before it looks, so a block that becomes
 * whole after the look kicks it.  The sweep follows a little after the kick, so that neighbouring
 * blocks are released together, in runs.  Sweeps take at most a twentieth of the worker's time,
 * and skip a shard for which nothing has changed (sum_of()).  A block that was ready but could not
 * be released is tried again by the clock, ever more rarely.  So are blocks of which no kick
 * tells: a region need not begin and end at the bounds of a block of its image, and its first and
 * last block may be whole before those blocks of the image are.
 *
 * A sweep is done in slices, after faults and jobs (I7).  In a round that has served faults a slice
 * releases one run at most, because UNREGISTER waits for mmap_lock.
 *
 * Tested by unit.release, unit.release_waits, integration.release, integration.release_life.
 */
#include "engine/release.h"

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/release_ask.h"
#include "engine/release_case.h"
#include "engine/release_run.h"
#include "engine/released.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sharding/stripes.h"
#include "sources/filler.h"
#include "sources/folio.h"
#include "sources/image.h"
#include "sources/image_punch_unfilled.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define TOGETHER_NS (5 * FLN_NS_PER_MS) /* from a change to the sweep: more changes come */
#define PAUSE_NS (10 * FLN_NS_PER_MS)   /* between sweeps, at least */
#define PAUSE_FACTOR 19u                /* and so many times what the last one took */
#define RETRY_NS (20 * FLN_NS_PER_MS)   /* until what was left is tried again, doubled up to */
#define RETRY_MAX_NS FLN_NS_PER_S
#define SLICE_BLOCKS 4096u /* looked at in a slice; a shard or a region counts as one, too */
#define SLICE_BUSY 64u     /* the same while faults come in, after so many rounds: */
#define ROUNDS_BUSY 4u
#define RUN_COST 64u        /* to release a run costs as much as to look at so many blocks */
#define SECTION_BLOCKS 512u /* in one read section, and in one run */

void fln_release_init(struct fln_worker *w)
{
	w->release.at_ns = UINT64_MAX;
	w->release.retry_ns = w->release.edge_ns = RETRY_NS;
}

static void spend(uint32_t *budget, uint32_t nr)
{
	*budget -= nr < *budget ? nr : *budget;
}

/* Changes when blocks of the guest may have become ready.  RCU read lock held. */
static uint64_t sum_of(const struct fln_guest *guest)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);
	uint64_t sum = atomic_load_explicit(&guest->release.nr_looks, memory_order_acquire);

	for (uint32_t i = 0; d && i < d->nr; i++)
		sum += atomic_load_explicit(&d->regions[i]->image->nr_done, memory_order_relaxed);
	return sum;
}

/* Ask to be kicked for blocks of the guest that become whole from now on.  RCU read lock held. */
static bool wait_for_blocks(const struct fln_worker *w, const struct fln_guest *guest)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);
	bool wanted = false;

	for (uint32_t i = 0; d && i < d->nr; i++) {
		struct fln_region *r = d->regions[i];

		if (r->release != FLN_RELEASE_AUTO || fln_region_all_released(r) ||
		    !fln_release_is_possible(r))
			continue;
		fln_release_tell_image(r);
		(void)atomic_fetch_or(&r->image->block_waiters, fln_waiter_bit(w->opts.index));
		wanted = true;
	}
	return wanted;
}

static uint32_t nr_regions(const struct fln_guest *guest)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);

	return d ? d->nr : 0;
}

/* fln_guest_release() waits no longer for the shard. */
static void end_pass(struct fln_shard *shard, uint64_t pass)
	FLN_REQUIRES(shard->guest->release.lock)
{
	struct fln_guest_release *release = &shard->guest->release;

	if (shard->release_passed >= pass)
		return;
	shard->release_passed = pass;
	FLN_ASSERT(release->nr_pending > 0);
	if (--release->nr_pending == 0)
		(void)pthread_cond_broadcast(&release->passed);
}

/* Does the shard need a look? */
static bool begin_shard(struct fln_worker *w, struct fln_shard *shard, uint32_t *budget)
{
	struct fln_release_sweep *s = &w->release;
	bool wanted, grown;

	s->addr = 0;
	s->pass = atomic_load(&shard->guest->release.nr_passes);
	s->forced = s->pass > shard->release_passed;
	fln_rcu_read_lock();
	wanted = wait_for_blocks(w, shard->guest);
	s->seen = sum_of(shard->guest);
	spend(budget, 1 + nr_regions(shard->guest));
	fln_rcu_read_unlock();
	grown = s->seen != shard->release_seen;
	s->wanted |= wanted;
	s->restless |= wanted && shard->release_restless;
	s->edge |= wanted && shard->release_edge;
	if (wanted && grown && shard->release_edge)
		s->edge_ns = RETRY_NS;
	if (!s->forced && !(wanted && (grown || shard->release_left ||
				       (s->quiet_look && shard->release_restless))))
		return false;
	shard->release_left = shard->release_edge = false;
	if (s->quiet_look)
		shard->release_restless = false;
	return true;
}

/* Go on to the next shard that needs a look.  False: there is none, or the budget is spent. */
static bool next_shard(struct fln_worker *w, uint32_t *budget)
{
	struct fln_release_sweep *s = &w->release;

	while (s->next && *budget > 0) {
		s->shard = s->next;
		s->next = s->shard->next_of_worker;
		s->quiet_addr = UINT64_MAX;
		if (begin_shard(w, s->shard, budget))
			return true;
		s->shard = NULL;
	}
	return false;
}

/* Note what became of blocks [block, end). */
static void note_fate(struct fln_worker *w, const struct fln_region *r, uint64_t block,
		      uint64_t end, enum fln_fate fate)
{
	struct fln_release_sweep *s = &w->release;

	if (fate == FLN_FATE_LIMITED || fate == FLN_FATE_BUSY)
		s->shard->release_left = true;
	if (s->forced)
		(void)atomic_fetch_add_explicit(&r->guest->release.bytes[fate],
						fln_release_bytes(r, block, end),
						memory_order_relaxed);
}

/*
 * May the block become whole before a block of the image does?  That is the first and the last one
 * of a region, unless the region has all of the image's blocks that they are in.
 */
static bool is_at_an_edge(const struct fln_region *r, uint64_t block)
{
	struct fln_mask valid = fln_blockmap_valid(&r->map, block);
	uint64_t first = r->image_page, end = first + fln_bytes_to_pages(r->len_bytes);
	uint64_t nr = fln_bytes_to_pages(r->image->len_bytes);
	uint64_t lo =
		fln_region_image_page(r, block * FLN_BLOCK_PAGES + fln_mask_next_set(&valid, 0));
	uint64_t hi = fln_align_up(lo + fln_mask_count(&valid), FLN_BLOCK_PAGES);

	hi = hi < nr ? hi : nr;
	return fln_align_down(lo, FLN_BLOCK_PAGES) < first || hi > end;
}

/* To ask whether a block is quiet changes the answer, so it is asked once in a sweep. */
static bool is_quiet(struct fln_release_sweep *s, const struct fln_region *r, uint64_t block)
{
	uint64_t addr = fln_region_addr_of(r, block * FLN_BLOCK_PAGES);

	if (!s->quiet_look)
		return false;
	if (s->quiet_addr != addr) {
		s->was_quiet = fln_release_is_quiet(s->shard, r, block);
		s->quiet_addr = addr;
	}
	return s->was_quiet;
}

/* What should become of a block; without fln_guest_release() only regions with AUTO are asked. */
static enum fln_fate look_at_block(struct fln_worker *w, struct fln_region *r, uint64_t block)
{
	struct fln_release_sweep *s = &w->release;
	enum fln_fate fate = fln_release_look(r, block);
	struct fln_block_case c;

	if (fate != FLN_FATE_READY && fate != FLN_FATE_UNFILLED)
		return fate;
	if (fate == FLN_FATE_UNFILLED && !r->foreign && is_at_an_edge(r, block))
		s->shard->release_edge = true;
	c = fln_release_case(r, block);
	c.asked = s->forced;
	if (fate == FLN_FATE_UNFILLED && (!c.has_spare || !fln_folio_must_trim(&r->image->folios)))
		return fate;
	c.quiet = is_quiet(s, r, block);
	if (fate == FLN_FATE_UNFILLED && fln_policy_trims(&c)) {
		if (!fln_image_ask_trim(r->image,
					fln_region_image_page(r, block * FLN_BLOCK_PAGES)))
			s->shard->release_restless = true;
		return fate;
	}
	if (fate == FLN_FATE_READY && fln_policy_releases(&c)) {
		fln_release_note_turnout(r, block, &c);
		return fate;
	}
	s->shard->release_restless = true;
	return fate == FLN_FATE_READY ? FLN_FATE_KEPT : fate;
}

/* Look at blocks [block, end) of one stripe, as far as the budget permits.  Returns how far. */
static uint64_t look_at_stripe(struct fln_worker *w, struct fln_region *r, uint64_t block,
			       uint64_t end, uint32_t *budget)
{
	bool wanted = w->release.forced ? r->release != FLN_RELEASE_NEVER
					: r->release == FLN_RELEASE_AUTO;
	uint64_t last = block + SECTION_BLOCKS;

	end = end < last ? end : last;
	if (!wanted || !fln_release_is_possible(r)) {
		spend(budget, 1);
		note_fate(w, r, block, end, FLN_FATE_KEPT);
		return end;
	}
	while (*budget > 0 && block < end) {
		enum fln_fate fate = look_at_block(w, r, block);
		uint64_t most = *budget < SECTION_BLOCKS ? *budget : SECTION_BLOCKS;
		uint64_t stop = block + 1;

		if (fate == FLN_FATE_READY) {
			while (stop < end && stop - block < most &&
			       look_at_block(w, r, stop) == FLN_FATE_READY)
				stop++;
			fate = fln_release_run(w, w->release.shard, r, block, &stop);
			spend(budget, RUN_COST);
		}
		spend(budget, (uint32_t)(stop - block));
		note_fate(w, r, block, stop, fate);
		block = stop;
	}
	return block;
}

/* Look at what comes next of the sweep's shard.  False: nothing does. */
static bool look_at_next(struct fln_worker *w, uint32_t *budget)
{
	struct fln_release_sweep *s = &w->release;
	struct fln_region *r = fln_directory_next(s->shard->guest, s->addr);
	uint64_t addr, len, first, at, stop, index;
	uint32_t shard;

	if (!r)
		return false;
	at = s->addr > r->addr ? s->addr : r->addr;
	s->addr = r->addr + r->len_bytes;
	spend(budget, 1);
	/* While a region is added workers find it, and a stripe could still be registered after this. */
	if (r->in_context != s->shard->in_context ||
	    !atomic_load_explicit(&r->is_open, memory_order_acquire) ||
	    atomic_load_explicit(&r->closing, memory_order_acquire))
		return true;
	index = fln_stripe_next_of(&r->plan, fln_stripe_index(&r->plan, at), s->shard->index);
	if (!fln_stripe_get(&r->plan, index, &addr, &len, &shard))
		return true;
	at = at > addr ? at : addr;
	first = fln_region_page_of(r, at) / FLN_BLOCK_PAGES;
	stop = (fln_region_page_of(r, addr + len) + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	first = look_at_stripe(w, r, first, stop, budget);
	s->addr = first < stop ? fln_region_addr_of(r, first * FLN_BLOCK_PAGES) : addr + len;
	return true;
}

static void end_shard(struct fln_worker *w)
{
	struct fln_release_sweep *s = &w->release;

	s->shard->release_seen = s->seen;
	s->left |= s->shard->release_left;
	s->edge |= s->shard->release_edge;
	s->restless |= s->shard->release_restless;
	if (s->quiet_look)
		fln_release_note_faults(s->shard);
	if (s->forced) {
		fln_lock(&s->shard->guest->release.lock);
		end_pass(s->shard, s->pass);
		fln_unlock(&s->shard->guest->release.lock);
	}
	s->shard = NULL;
}

/* The next sweep is due @now_ns at the earliest. */
static void plan_next(struct fln_release_sweep *s, uint64_t now_ns)
{
	uint64_t pause = s->busy_ns * PAUSE_FACTOR;

	s->not_before_ns = now_ns + (pause > PAUSE_NS ? pause : PAUSE_NS);
	if (s->left) {
		uint64_t retry = now_ns + s->retry_ns;

		s->at_ns = retry < s->at_ns ? retry : s->at_ns;
		s->retry_ns = s->retry_ns < RETRY_MAX_NS / 2 ? s->retry_ns * 2 : RETRY_MAX_NS;
	} else {
		s->retry_ns = RETRY_NS;
	}
	if (s->edge) {
		uint64_t look = now_ns + s->edge_ns;

		s->at_ns = look < s->at_ns ? look : s->at_ns;
		s->edge_ns = s->edge_ns < RETRY_MAX_NS / 2 ? s->edge_ns * 2 : RETRY_MAX_NS;
	}
	if (s->restless && s->quiet_at_ns < s->at_ns)
		s->at_ns = s->quiet_at_ns;
	if (s->at_ns < s->not_before_ns)
		s->at_ns = s->not_before_ns;
}

static void slice(struct fln_worker *w, uint32_t budget)
{
	struct fln_release_sweep *s = &w->release;
	uint64_t begun = fln_now_ns();

	while (budget > 0 && s->active) {
		bool more;

		if (!s->shard && !next_shard(w, &budget)) {
			s->active = s->next != NULL;
			break;
		}
		/* Short sections: grace periods wait for them. */
		fln_rcu_read_lock();
		more = look_at_next(w, &budget);
		fln_rcu_read_unlock();
		if (!more)
			end_shard(w);
	}
	s->busy_ns += fln_now_ns() - begun;
	if (!s->active)
		plan_next(s, fln_now_ns());
}

/* Is a sweep under way, or to be begun? */
static bool is_due(struct fln_worker *w, bool kicked)
{
	struct fln_release_sweep *s = &w->release;
	uint64_t now;

	if (atomic_load_explicit(&w->release_asked, memory_order_relaxed) &&
	    atomic_exchange_explicit(&w->release_asked, false, memory_order_acquire))
		s->asked = true;
	if (!s->active && !s->asked && s->at_ns == UINT64_MAX && !(kicked && s->wanted))
		return false;
	now = fln_now_ns();
	if (kicked && s->wanted) {
		uint64_t at = now + TOGETHER_NS;

		at = at > s->not_before_ns ? at : s->not_before_ns;
		s->at_ns = at < s->at_ns ? at : s->at_ns;
	}
	if (s->active)
		return true;
	if (!s->asked && now < s->at_ns)
		return false;
	s->active = true;
	s->asked = s->wanted = s->left = s->edge = s->restless = false;
	s->quiet_look = now >= s->quiet_at_ns;
	if (s->quiet_look)
		s->quiet_at_ns = now + FLN_QUIET_NS;
	s->at_ns = UINT64_MAX;
	s->busy_ns = 0;
	s->shard = NULL;
	s->next = w->shards;
	return true;
}

void fln_release_round(struct fln_worker *w, bool served, bool kicked)
{
	struct fln_release_sweep *s = &w->release;

	if (!is_due(w, kicked)) {
		s->nr_put_off = 0;
		return;
	}
	if ((served || w->nr_later > 0) && s->nr_put_off < ROUNDS_BUSY) {
		s->nr_put_off++;
		return;
	}
	s->nr_put_off = 0;
	slice(w, served ? SLICE_BUSY : SLICE_BLOCKS);
}

int64_t fln_release_patience(const struct fln_worker *w, int64_t timeout_ns)
{
	const struct fln_release_sweep *s = &w->release;
	uint64_t now;
	int64_t left;

	if (s->active || s->asked)
		return 0;
	if (s->at_ns == UINT64_MAX)
		return timeout_ns;
	now = fln_now_ns();
	left = s->at_ns > now ? (int64_t)(s->at_ns - now) : 0;
	return timeout_ns < 0 || left < timeout_ns ? left : timeout_ns;
}

void fln_release_forget(struct fln_worker *w, struct fln_shard *shard)
{
	struct fln_release_sweep *s = &w->release;

	if (s->shard == shard)
		s->shard = NULL;
	if (s->next == shard)
		s->next = shard->next_of_worker;
	fln_lock(&shard->guest->release.lock);
	shard->release_gone = true;
	end_pass(shard, atomic_load(&shard->guest->release.nr_passes));
	fln_unlock(&shard->guest->release.lock);
}

void fln_release_enter(struct fln_shard *shard)
{
	struct fln_guest_release *release = &shard->guest->release;

	fln_lock(&release->lock);
	shard->release_gone = false;
	shard->release_passed = atomic_load(&release->nr_passes);
	fln_unlock(&release->lock);
}

/* The shards that a worker looks at: one that cannot be read belongs to none any more. */
static uint32_t nr_watched(const struct fln_guest *guest, const struct fln_shard *shards)
	FLN_REQUIRES(guest->release.lock)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; shards && i < guest->nr_shards; i++)
		nr += shards[i].worker && !shards[i].release_gone;
	return nr;
}

void fln_release_pass(struct fln_guest *guest)
{
	struct fln_guest_release *release = &guest->release;

	for (uint32_t i = 0; i < FLN_FATE_NR; i++)
		atomic_store_explicit(&release->bytes[i], 0, memory_order_relaxed);
	fln_lock(&guest->release.lock);
	release->nr_pending =
		nr_watched(guest, guest->shards) + nr_watched(guest, fln_context_shards(guest));
	(void)atomic_fetch_add(&release->nr_passes, 1);
	fln_unlock(&guest->release.lock);
	fln_release_ask_workers(guest);
	fln_lock(&guest->release.lock);
	while (release->nr_pending > 0)
		fln_cond_wait(&release->passed, &guest->release.lock);
	fln_unlock(&guest->release.lock);
}
