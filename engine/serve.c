/* SPDX-License-Identifier: MIT */
/*
 * Serving faults: from messages to mapped pages.
 *
 * One read takes a batch.  Events are acted upon first.  Faults are sorted, so
 * that all faults of one 2 MiB block are served together: their windows are
 * claimed in the map, the faulting pages (with a few neighbours) are mapped and
 * their threads let go, and only then the rest of the windows follows, so that
 * a large window does not make the longest wait longer.
 *
 * A fault whose contents are not there is held: the image is asked to fill the
 * page, and the worker goes on.  When it is kicked it looks at what it holds;
 * the image's states say what is to be done, so that a kick carries no message
 * that could be lost or come twice.
 *
 * The map is a hint.  A fault on a page that it calls PRESENT is installed again
 * (and finds EEXIST, and is woken, or finds that the page was taken away).
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/install.h"
#include "engine/region_map.h"
#include "engine/worker.h"

/*
 * How many pages around a fault are mapped before its thread is let go; mapping
 * them in the same call costs little more than the call.
 */
#define FRONT_PAGES 8u

/* The faults of one block, and what is known of its pages. */
struct block_round {
	struct fln_install in;
	struct fln_chunk *chunk;	/* NULL: a child's, or the pool is empty */
	uint64_t block;
	struct fln_mask claimed;	/* ours */
	struct fln_mask lost;		/* somebody else's */
	struct fln_mask filled, zero;	/* what may be installed */
};

static void hold(struct fln_worker *w, struct fln_shard *shard, const struct fln_fault *fault,
		 enum fln_held_reason reason)
{
	struct fln_held *h = &w->held[w->nr_held++];

	FLN_ASSERT(w->nr_held <= w->opts.held_max);
	h->fault = *fault;
	h->fault.held |= reason == FLN_HELD_FILL;
	h->shard = shard;
	h->reason = reason;
	shard->nr_held++;
	if (reason == FLN_HELD_AGAIN)
		w->nr_again++;
}

enum ending { ENDED_RESUMED, ENDED_POISONED, ENDED_FAILED };

/* A fault has ended: count how, and of which class it was (I4). */
static void end_fault(struct fln_shard *shard, const struct fln_fault *fault, enum ending ending,
		      bool zero, uint64_t now_ns)
{
	struct fln_shard_counters *c = &shard->count;

	if (ending == ENDED_FAILED)
		fln_count(&c->invalid, 1);
	else if (zero)
		fln_count(&c->zero, 1);
	else
		fln_count(fault->held ? &c->major : &c->minor, 1);
	fln_count(ending == ENDED_RESUMED    ? &c->resumed
		  : ending == ENDED_POISONED ? &c->poisoned
					     : &c->failed, 1);
	fln_histogram_record(&c->service, now_ns - fault->t0_ns);
}

/* Shift a mask towards higher pages. */
static struct fln_mask mask_up(const struct fln_mask *m, uint32_t by)
{
	struct fln_mask out = { { 0 } };
	uint32_t lo = 0, hi;

	if (by == 0)
		return *m;
	for (; fln_mask_next_run(m, &lo, &hi) && lo + by < FLN_BLOCK_PAGES; lo = hi)
		fln_mask_set_range(&out, lo + by,
				   hi + by < FLN_BLOCK_PAGES ? hi + by : FLN_BLOCK_PAGES);
	return out;
}

/* What of the block the image has. */
static void look_at_image(struct block_round *b)
{
	const struct fln_region *r = b->in.region;
	uint32_t lead = b->block == 0 ? r->map.lead_pages : 0;

	fln_image_ready(r->image, fln_region_image_page(r, b->in.block_page + lead),
			FLN_BLOCK_PAGES - lead, &b->filled, &b->zero);
	b->filled = mask_up(&b->filled, lead);
	b->zero = mask_up(&b->zero, lead);
	if (b->chunk) {
		/* Given up in memory that is not ours: zeros are due, not the image. */
		struct fln_mask discarded = fln_chunk_load(b->chunk, FLN_PLANE_DISCARDED);

		b->filled = fln_mask_andnot(&b->filled, &discarded);
		b->zero = fln_mask_or(&b->zero, &discarded);
	} else if (fln_blockmap_uniform(&r->map, b->block) & (1 << FLN_PLANE_DISCARDED)) {
		b->zero = fln_mask_range(0, FLN_BLOCK_PAGES);
		memset(&b->filled, 0, sizeof(b->filled));
	}
}

/* Claim the windows of the block's faults, and the faulting pages in any case. */
static void claim_windows(struct block_round *b, const struct fln_fault *faults, uint32_t nr,
			  const uint32_t *pages)
{
	struct fln_guest *guest = b->in.shard->guest;
	struct fln_mask present = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);
	struct fln_mask poisoned = fln_chunk_load(b->chunk, FLN_PLANE_POISONED);
	struct fln_mask valid = fln_blockmap_valid(&b->in.region->map, b->block);
	struct fln_mask known = fln_mask_or(&present, &poisoned);
	struct fln_mask want = { { 0 } }, again;
	uint32_t before = atomic_fetch_add_explicit(&b->chunk->nr_faults, nr,
						    memory_order_relaxed);

	(void)faults;
	again = fln_mask_and(&known, &b->in.faulting);
	if (!fln_mask_empty(&again)) {
		fln_count(&b->in.shard->count.refaults, fln_mask_count(&again));
		fln_region_forget(b->chunk, &again);
	}
	for (uint32_t i = 0; i < nr; i++) {
		struct fln_window win = fln_window_for(&guest->window, before + i, pages[i]);

		fln_mask_set_range(&want, win.lo, win.hi);
	}
	want = fln_mask_andnot(&want, &known);
	want = fln_mask_and(&want, &valid);
	want = fln_mask_or(&want, &b->in.faulting);
	b->claimed = fln_region_claim(b->chunk, &want);
	b->lost = fln_mask_andnot(&b->in.faulting, &b->claimed);
}

/* Map what is there: first what somebody waits for, then the rest of the windows. */
static void install_block(struct block_round *b)
{
	struct fln_mask filled = fln_mask_and(&b->claimed, &b->filled);
	struct fln_mask zero = fln_mask_and(&b->claimed, &b->zero);
	struct fln_mask front = { { 0 } };

	zero = fln_mask_and(&zero, &b->in.faulting);
	for (uint32_t p = fln_mask_next_set(&b->in.faulting, 0); p < FLN_BLOCK_PAGES;
	     p = fln_mask_next_set(&b->in.faulting, p + 1)) {
		uint32_t lo = (uint32_t)fln_align_down(p, FRONT_PAGES);

		fln_mask_set_range(&front, lo, lo + FRONT_PAGES);
	}
	front = fln_mask_and(&front, &filled);
	filled = fln_mask_andnot(&filled, &front);
	fln_install_filled(&b->in, &front);
	fln_install_zero(&b->in, &zero);
	fln_install_filled(&b->in, &filled);
}

static void poison_page(struct fln_worker *w, struct block_round *b, uint32_t page,
			struct fln_mask *poisoned)
{
	struct fln_mask one = fln_mask_range(page, page + 1);

	fln_install_poison(&b->in, &one, poisoned);
	if (fln_mask_test(poisoned, page))
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
				"guest %s: the page at 0x%llx cannot be had and is poisoned",
				b->in.shard->guest->name,
				(unsigned long long)(b->in.block_addr + fln_pages_to_bytes(page)));
}

/*
 * A faulting page that is not filled: ask for it.  True when it can never be
 * had: its source failed, or has not answered in time.
 */
static bool must_poison(struct fln_worker *w, struct block_round *b,
			const struct fln_fault *fault, uint32_t page, uint64_t now_ns,
			enum fln_held_reason *reason)
{
	uint64_t image_page = fln_region_image_page(b->in.region, b->in.block_page + page);

	if (fault->held && w->opts.source_timeout_ns != UINT64_MAX &&
	    now_ns - fault->t0_ns > w->opts.source_timeout_ns) {
		fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
				"guest %s: image %s: page %llu was not delivered in %llu ms",
				b->in.shard->guest->name, b->in.region->image->name,
				(unsigned long long)image_page,
				(unsigned long long)((now_ns - fault->t0_ns) / FLN_NS_PER_MS));
		return true;
	}
	switch (fln_image_request(b->in.region->image, image_page, w->opts.index)) {
	case FLN_IMAGE_IS_FAILED:
		return true;
	case FLN_IMAGE_IS_READY:
		*reason = FLN_HELD_AGAIN;
		return false;
	default:
		*reason = FLN_HELD_FILL;
		return false;
	}
}

/* What became of each fault of the block. */
static void settle_faults(struct fln_worker *w, struct block_round *b,
			  const struct fln_fault *faults, uint32_t nr, const uint32_t *pages)
{
	struct fln_shard *shard = b->in.shard;
	struct fln_mask ready = fln_mask_or(&b->filled, &b->zero);
	struct fln_mask poisoned = { { 0 } };
	uint64_t now = fln_now_ns();

	for (uint32_t i = 0; i < nr; i++) {
		enum fln_held_reason reason = FLN_HELD_AGAIN;
		uint32_t p = pages[i];
		bool untried = !fln_mask_test(&b->in.present, p) &&
			       !fln_mask_test(&b->in.again, p) &&
			       !fln_mask_test(&b->in.gone, p) && !fln_mask_test(&b->lost, p) &&
			       !fln_mask_test(&poisoned, p);

		if ((untried && fln_mask_test(&b->in.broken, p)) ||
		    (untried && !fln_mask_test(&ready, p) &&
		     must_poison(w, b, &faults[i], p, now, &reason)))
			poison_page(w, b, p, &poisoned);
		if (fln_mask_test(&b->in.present, p)) {
			end_fault(shard, &faults[i], ENDED_RESUMED,
				  fln_mask_test(&b->in.zeroed, p), now);
		} else if (fln_mask_test(&poisoned, p)) {
			end_fault(shard, &faults[i], ENDED_POISONED, false, now);
		} else if (fln_mask_test(&b->in.gone, p)) {
			/* Nobody else tells those who wait that their range has gone. */
			fln_uffd_wake(&shard->uffd, faults[i].addr, FLN_PAGE_BYTES);
			end_fault(shard, &faults[i], ENDED_FAILED, false, now);
		} else {
			hold(w, shard, &faults[i], reason);
		}
	}
	if (b->chunk) {
		struct fln_mask present = fln_mask_and(&b->claimed, &b->in.present);
		struct fln_mask rest = fln_mask_andnot(&b->claimed, &present);

		poisoned = fln_mask_and(&poisoned, &rest);
		rest = fln_mask_andnot(&rest, &poisoned);
		fln_region_settle(b->chunk, &present, FLN_PAGE_PRESENT);
		fln_chunk_clear(b->chunk, FLN_PLANE_DISCARDED, &present);
		fln_region_settle(b->chunk, &poisoned, FLN_PAGE_POISONED);
		fln_region_settle(b->chunk, &rest, FLN_PAGE_ABSENT);
		(void)fln_region_collapse(&b->in.region->map, b->block, b->chunk);
	}
}

/* Serve faults that lie in one block of one region. */
static void serve_block(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
			uint64_t home_addr, const struct fln_fault *faults, uint32_t nr)
{
	uint64_t first_page = fln_region_page_of(region, home_addr);
	struct block_round b = { .block = first_page / FLN_BLOCK_PAGES };
	uint32_t pages[FLN_BATCH_LIMIT];

	FLN_DEBUG_ASSERT(nr > 0 && nr <= FLN_BATCH_LIMIT);
	b.in.shard = shard;
	b.in.region = region;
	b.in.block_page = b.block * FLN_BLOCK_PAGES;
	b.in.block_addr = faults[0].addr - fln_pages_to_bytes(first_page - b.in.block_page);
	for (uint32_t i = 0; i < nr; i++) {
		pages[i] = (uint32_t)fln_bytes_to_pages(faults[i].addr - b.in.block_addr);
		FLN_DEBUG_ASSERT(pages[i] < FLN_BLOCK_PAGES);
		fln_mask_set(&b.in.faulting, pages[i]);
	}
	if (!shard->is_child)
		b.chunk = fln_blockmap_chunk(&region->map, b.block);
	if (b.chunk) {
		claim_windows(&b, faults, nr, pages);
	} else {
		b.claimed = b.in.faulting;
		if (!shard->is_child)
			fln_count(&shard->count.no_chunk, nr);
	}
	look_at_image(&b);
	install_block(&b);
	settle_faults(w, &b, faults, nr, pages);
}

/* The closer of a region wakes everybody in it; see closing.c. */
static void leave_to_closer(struct fln_shard *shard, struct fln_region *region,
			    const struct fln_fault *fault)
{
	uint64_t home = fln_shard_unmove(shard, fault->addr);
	uint64_t page = fln_region_image_page(region, fln_region_page_of(region, home));
	enum fln_image_page state = fln_image_state(region->image, page);
	bool readable = state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO;

	end_fault(shard, fault, readable && !region->foreign ? ENDED_RESUMED : ENDED_POISONED,
		  state == FLN_IMAGE_ZERO, fln_now_ns());
}

/* Shell sort: batches are small, nearly sorted often, and nothing may allocate (I5). */
static void sort_faults(struct fln_fault *f, uint32_t nr)
{
	static const uint32_t gaps[] = { 57, 23, 10, 4, 1 };

	for (uint32_t g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++) {
		uint32_t gap = gaps[g];

		for (uint32_t i = gap; i < nr; i++) {
			struct fln_fault x = f[i];
			uint32_t at = i;

			for (; at >= gap && f[at - gap].addr > x.addr; at -= gap)
				f[at] = f[at - gap];
			f[at] = x;
		}
	}
}

/* An address of no region: there is nothing to map.  Never a hang, never silent. */
static void end_invalid(struct fln_worker *w, struct fln_shard *shard,
			const struct fln_fault *fault)
{
	fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
			"guest %s: a fault at 0x%llx, where no region is; its thread is let go",
			shard->guest->name, (unsigned long long)fault->addr);
	fln_uffd_wake(&shard->uffd, fault->addr, FLN_PAGE_BYTES);
	end_fault(shard, fault, ENDED_FAILED, false, fln_now_ns());
}

static void serve_faults(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *f,
			 uint32_t nr)
{
	sort_faults(f, nr);
	fln_rcu_read_lock();
	for (uint32_t i = 0, end; i < nr; i = end) {
		uint64_t home = fln_shard_unmove(shard, f[i].addr);
		struct fln_region *region = fln_directory_find(shard->guest, home);
		uint64_t offset, stop;

		end = i + 1;
		if (!region) {
			end_invalid(w, shard, &f[i]);
			continue;
		}
		if (atomic_load_explicit(&region->closing, memory_order_acquire)) {
			leave_to_closer(shard, region, &f[i]);
			continue;
		}
		/* All that follows in the same block, in the same region, unmoved alike. */
		offset = f[i].addr - home;
		stop = fln_align_down(home, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES;
		if (stop > region->addr + region->len_bytes)
			stop = region->addr + region->len_bytes;
		while (end < nr) {
			uint64_t next = fln_shard_unmove(shard, f[end].addr);

			if (next >= stop || next < home || f[end].addr - next != offset)
				break;
			end++;
		}
		serve_block(w, shard, region, home, &f[i], end - i);
	}
	fln_rcu_read_unlock();
}

void fln_serve_shard(struct fln_worker *w, struct fln_shard *shard)
{
	uint32_t nr_faults = 0;
	uint64_t now;
	ssize_t nr;

	if (w->nr_held + w->opts.batch_max > w->opts.held_max) {
		fln_count(&shard->count.held_full, 1);
		return;
	}
	nr = fln_uffd_read(&shard->uffd, w->msgs, w->opts.batch_max);
	if (nr <= 0) {
		if (nr < 0)
			fln_log_limited(&w->opts.log, &w->log_limit, FLN_LOG_ERROR,
					"guest %s: reading shard %u: errno %d",
					shard->guest->name, shard->index, (int)-nr);
		return;
	}
	now = fln_now_ns();
	fln_count(&shard->count.reads, 1);
	for (ssize_t i = 0; i < nr; i++) {
		const struct uffd_msg *m = &w->msgs[i];
		struct fln_fault *f = &w->faults[nr_faults];

		if (m->event != UFFD_EVENT_PAGEFAULT) {
			fln_count(&shard->count.events, 1);
			fln_event(w, shard, m);
			continue;
		}
		f->addr = fln_align_down(m->arg.pagefault.address, FLN_PAGE_BYTES);
		f->t0_ns = now;
		f->missing = !(m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR);
		f->held = false;
		nr_faults++;
	}
	fln_count(&shard->count.faults, nr_faults);
	serve_faults(w, shard, w->faults, nr_faults);
}

/* Is there anything new about a held fault? */
static bool is_due(struct fln_worker *w, const struct fln_held *h, uint64_t now_ns)
{
	struct fln_region *region;
	uint64_t home;

	if (h->reason == FLN_HELD_AGAIN)
		return true;
	if (w->opts.source_timeout_ns != UINT64_MAX &&
	    now_ns - h->fault.t0_ns > w->opts.source_timeout_ns)
		return true;
	home = fln_shard_unmove(h->shard, h->fault.addr);
	region = fln_directory_find(h->shard->guest, home);
	if (!region || atomic_load_explicit(&region->closing, memory_order_acquire))
		return true;
	return fln_image_state(region->image,
			       fln_region_image_page(region, fln_region_page_of(region, home))) !=
	       FLN_IMAGE_FILLING;
}

void fln_serve_held(struct fln_worker *w)
{
	struct fln_held *old = w->held;
	uint32_t nr_old = w->nr_held, nr = 0;
	struct fln_shard *shard = NULL;
	uint64_t now = fln_now_ns();

	/* What stays goes into the other table, in order. */
	w->held = w->held_spare;
	w->held_spare = old;
	w->nr_held = 0;
	w->nr_again = 0;
	for (uint32_t i = 0; i < nr_old; i++) {
		struct fln_held *h = &old[i];
		bool due;

		fln_rcu_read_lock();
		due = is_due(w, h, now);
		fln_rcu_read_unlock();
		h->shard->nr_held--;
		if (!due) {
			hold(w, h->shard, &h->fault, h->reason);
			continue;
		}
		if (nr > 0 && (h->shard != shard || nr == w->opts.batch_max)) {
			serve_faults(w, shard, w->faults, nr);
			nr = 0;
		}
		shard = h->shard;
		w->faults[nr++] = h->fault;
	}
	if (nr > 0)
		serve_faults(w, shard, w->faults, nr);
}

void fln_drop_held(struct fln_worker *w, struct fln_shard *shard)
{
	uint32_t kept = 0;

	w->nr_again = 0;
	for (uint32_t i = 0; i < w->nr_held; i++) {
		struct fln_held *h = &w->held[i];

		if (h->shard == shard) {
			end_fault(shard, &h->fault, ENDED_POISONED, false, fln_now_ns());
			continue;
		}
		if (h->reason == FLN_HELD_AGAIN)
			w->nr_again++;
		w->held[kept++] = *h;
	}
	w->nr_held = kept;
	shard->nr_held = 0;
}
