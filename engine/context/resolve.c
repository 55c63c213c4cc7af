/* SPDX-License-Identifier: MIT */
/*
 * Resolving a fault on the faulting thread, in a SIGBUS handler.  The interface is
 * <faultlane/context.h>.
 *
 * The signal may have interrupted any code: malloc(), the library itself, or this code.  So the
 * handler takes no lock, allocates nothing, and never waits for a claim, whose owner may be the
 * interrupted code.  A page that is claimed already is mapped without a claim; mapping a page twice
 * does no harm.
 *
 * A thread that waits here for contents holds nothing that filling them needs: after
 * fln_thread_enter() a thread runs no handlers while it holds a lock of the library or is in an
 * RCU read section (base/signals.h).  Nor does it wait in a read section of its own: each round
 * below is one, in which no other handler runs, and all waiting is between rounds.  So each round
 * looks the region up anew, as it may have been removed in between.
 *
 * A region that is being closed is still served: filled pages are mapped, and faults on unfilled
 * pages are passed on.  It leaves the registry only when every page is inaccessible or served by
 * the kernel, so that no access is lost in between.
 */
#include <faultlane/advice.h>
#include <faultlane/context.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/blockmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/page.h"
#include "base/rcu.h"
#include "base/signals.h"
#include "engine/advised.h"
#include "engine/block.h"
#include "engine/context/registry.h"
#include "engine/context/shards.h"
#include "engine/context/thread.h"
#include "engine/failure.h"
#include "engine/install.h"
#include "engine/lift.h"
#include "engine/region_map.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/wanted.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "engine/wanted.h"
#include "engine/whole.h"
#include "sharding/stripes.h"
#include "sources/image.h"
#include "sources/image_cache.h"

#include <errno.h>
#include <pthread.h>

#define AGAIN_NS (50 * FLN_NS_PER_US) /* pause for an unread event, or for memory */
#define AGAIN_LONG_NS FLN_NS_PER_MS   /* the same after AGAIN_SHORT_ROUNDS */
#define AGAIN_SHORT_ROUNDS 20u
#define NOT_STARTED_NS FLN_NS_PER_MS /* pause while the guest is not started, or no slot is free */

/*
 * The last fault of this thread outside any region, and how many regions had been removed by then
 * (fln_context_nr_left()).
 */
static _Thread_local struct {
	uint64_t addr, nr_left;
} stranger __attribute__((tls_model("initial-exec")));

/* The same for faults within a region on a page that was not registered; found: there was one. */
static _Thread_local struct {
	uint64_t addr, nr_left;
	bool found, closing;
} gone __attribute__((tls_model("initial-exec")));

/* A faulting access, over all its rounds. */
struct access {
	uint64_t addr; /* of its page */
	uint64_t t0_ns;
	uint64_t starved_since_ns; /* since when there is no memory to map it; 0: there is some */
	uint64_t looked_ns;        /* up to then, starved_since_ns leaves out time spent stopped */
	bool counted;              /* a worker has been asked, and counts the end of its fault */
	bool failed;               /* its page has failed */
	bool again;                /* not the first round */
	struct fln_wanted *wanted;
};

enum round {
	ROUND_DONE,    /* return from the handler: the access is repeated */
	ROUND_PASS_ON, /* not ours, or its page has failed */
	ROUND_AGAIN,   /* another round soon */
	ROUND_LATER,   /* another round after a longer pause */
	ROUND_WAIT,    /* wait for a->wanted, then another round */
};

static void end_fault(const struct fln_block_round *b, const struct access *a,
		      struct fln_context_ending ending)
{
	if (a->counted)
		return;
	fln_context_begin_fault(b->in.shard);
	fln_context_end_fault(b->in.shard, ending, a->t0_ns);
}

/* Ask a worker to fill the page or, with @hole_pages, to note that it is a hole. */
static enum round ask(struct fln_block_round *b, struct access *a, uint32_t page,
		      uint32_t hole_pages)
{
	struct fln_shard *shard = b->in.shard;
	struct fln_worker *w = atomic_load_explicit(&shard->helper, memory_order_acquire);
	struct fln_wanted *s = w ? fln_wanted_take() : NULL;

	if (!s)
		return ROUND_LATER;
	s->region = b->in.region;
	s->shard = shard;
	s->image_page = fln_region_image_page(b->in.region, b->in.block_page + page);
	s->fault = (struct fln_fault){ .addr = a->addr, .t0_ns = a->t0_ns, .nr = 1 };
	/* The source timeout begins now, because the source has not been asked before. */
	s->fault.since_ns = fln_now_ns();
	s->hole_pages = hole_pages;
	s->counts = !a->counted;
	if (!a->counted)
		fln_context_begin_fault(shard);
	a->counted = true;
	a->wanted = s;
	fln_wanted_submit(w, s);
	return ROUND_WAIT;
}

/*
 * The page's range is not registered: either not yet, and the fault comes from an earlier region
 * at this place; or no longer, as the block is being released or the region closed.  In all cases
 * the kernel serves the page, so the access is repeated.  If it faults again, the range was unmapped
 * or mapped over (deny.c), or the signal is the kernel's own, and it is passed on.
 */
static enum round serve_gone(const struct fln_block_round *b, const struct access *a)
{
	bool closing = atomic_load_explicit(&b->in.region->closing, memory_order_acquire);
	uint64_t nr_left = fln_context_nr_left();
	struct fln_context_ending ending = { .poisoned = closing, .failed = !closing };

	if (!gone.found || gone.addr != a->addr || gone.nr_left != nr_left ||
	    gone.closing != closing) {
		gone.found = true;
		gone.addr = a->addr;
		gone.nr_left = nr_left;
		gone.closing = closing;
		return ROUND_DONE;
	}
	end_fault(b, a, ending);
	return ROUND_PASS_ON;
}

static enum round poison(struct fln_block_round *b, struct access *a, uint32_t page,
			 struct fln_mask *poisoned)
{
	fln_install_poison(&b->in, &b->in.faulting, poisoned);
	if (fln_mask_test(poisoned, page))
		fln_failure_tell(b->in.region, a->addr, -EIO);
	if (fln_mask_test(&b->in.present, page)) {
		/* Mapped meanwhile; or poisoned by another thread that had no claim. */
		fln_block_look(b);
		if (fln_mask_test(&b->filled, page) || fln_mask_test(&b->zero, page))
			return ROUND_AGAIN;
		b->in.present = fln_mask_andnot(&b->in.present, &b->in.faulting);
		*poisoned = fln_mask_or(poisoned, &b->in.faulting);
	}
	if (fln_mask_test(&b->in.gone, page))
		return serve_gone(b, a);
	if (fln_mask_test(poisoned, page) || fln_mask_test(&b->in.broken, page)) {
		end_fault(b, a, (struct fln_context_ending){ .poisoned = true });
		return ROUND_PASS_ON;
	}
	return ROUND_AGAIN;
}

/*
 * Has there been no memory to map the page for longer than the source timeout?  The time begins
 * with the first call.
 */
static bool is_late(const struct fln_block_round *b, struct access *a)
{
	uint64_t limit = b->in.region->guest->engine->opts.source_timeout_ns;

	if (a->starved_since_ns == 0)
		a->starved_since_ns = a->looked_ns = fln_now_ns();
	/* As of looked_ns, not of now: the process may have been stopped in between. */
	return limit != UINT64_MAX && fln_is_over(a->starved_since_ns, a->looked_ns, limit);
}

/*
 * In a region that is being closed no worker is asked, because the region may be gone before the
 * worker looks.  A FILLED page that is not in the cache was punched out: it reads zero, as it will
 * when the kernel serves it.  The image need not be told, as the cache shows the hole.
 */
static void zero_hole(struct fln_block_round *b, uint32_t page)
{
	const struct fln_region *r = b->in.region;
	uint64_t image_page = fln_region_image_page(r, b->in.block_page + page);

	b->in.hole = fln_mask_andnot(&b->in.hole, &b->in.faulting);
	/* The page may have been written again, and zeros would hide that in a private mapping. */
	if (r->is_private && fln_image_hole(r->image, image_page, 1) == 0)
		return;
	fln_install_zero(&b->in, &b->in.faulting);
}

/* The outcome of a round's installs for the touched page. */
static enum round judge(struct fln_block_round *b, struct access *a, uint32_t page,
			struct fln_mask *poisoned)
{
	bool closing = atomic_load_explicit(&b->in.region->closing, memory_order_acquire);
	struct fln_context_ending ending = { .failed = false };
	uint32_t hole_end;

	if (closing && fln_mask_test(&b->in.hole, page))
		zero_hole(b, page);
	if (fln_mask_test(&b->in.present, page)) {
		ending.zero = fln_block_is_zero(b, page);
		end_fault(b, a, ending);
		return ROUND_DONE;
	}
	if (fln_mask_test(&b->in.gone, page))
		return serve_gone(b, a);
	if (fln_mask_test(&b->in.hole, page)) {
		hole_end = fln_mask_next_clear(&b->in.hole, page);
		return ask(b, a, page, hole_end - page);
	}
	if (fln_mask_test(&b->in.broken, page))
		return poison(b, a, page, poisoned);
	if (fln_mask_test(&b->in.starved, page) && is_late(b, a))
		return poison(b, a, page, poisoned);
	if (b->in.stop || fln_mask_test(&b->filled, page) || fln_mask_test(&b->zero, page))
		return ROUND_AGAIN;
	if (closing) {
		ending.poisoned = true;
		end_fault(b, a, ending);
		return ROUND_PASS_ON;
	}
	/* A worker carries out on_failure; FLN_WANTED_FAILED then says to poison the page. */
	if (!a->failed && !atomic_load_explicit(&b->in.region->guest->failed, memory_order_relaxed))
		return ask(b, a, page, 0);
	return fln_lift_too_late(b->in.region, b->block, page) ? ROUND_AGAIN
							       : poison(b, a, page, poisoned);
}

/* Map the window.  Zeros take memory, so only those next to the touched page are mapped. */
static void install(struct fln_block_round *b, uint32_t page)
{
	uint32_t lo = (uint32_t)fln_align_down(page, FLN_FRONT_PAGES);
	struct fln_mask front = fln_mask_range(lo, lo + FLN_FRONT_PAGES), zero;

	fln_block_install(b, false);
	zero = fln_mask_and(&b->claimed, &b->zero);
	zero = fln_mask_and(&zero, &front);
	zero = fln_mask_andnot(&zero, &b->in.present);
	fln_install_zero(&b->in, &zero);
}

/*
 * The map calls the page POISONED, but a discard may have dropped the poison before the map learns
 * of it.  Unlike a fault read from a userfaultfd, one that arrives as a signal does not prove that:
 * it can be older than the poison, and some kernels raise the same signal for poison.  Poison
 * cannot be seen in a huge page, nor where PROT_NONE replaces it.
 */
static bool was_lifted(const struct fln_block_round *b, const struct access *a)
{
	struct fln_uffd *u = &b->in.shard->uffd;

	return !fln_block_is_huge(b) && fln_uffd_can_poison(u) && fln_uffd_is_empty(u, a->addr);
}

/* Was the page discarded, with its poison still in the page tables?  Then zeros go over it. */
static bool was_given_up(const struct fln_block_round *b, uint32_t page)
{
	struct fln_mask one = fln_mask_range(page, page + 1);

	one = fln_lift_due(b->in.region, b->block, &one);
	return !fln_mask_empty(&one);
}

/* One round for an access to region @r.  RCU read lock held. */
static enum round serve(struct fln_region *r, struct access *a)
{
	uint64_t first = fln_region_page_of(r, a->addr);
	struct fln_fault fault = { .addr = a->addr, .nr = 1, .held = a->counted, .kept = a->again };
	struct fln_block_round b = { .block = first / FLN_BLOCK_PAGES, .in_context = true };
	struct fln_mask poisoned = { { 0 } }, known, own;
	const struct fln_range *range;
	enum round round;
	uint32_t page;

	b.in.region = r;
	b.in.shard = fln_region_shard(r, fln_stripe_shard(&r->plan, a->addr));
	b.in.block_page = b.block * FLN_BLOCK_PAGES;
	b.in.block_addr = fln_region_addr_of(r, b.in.block_page);
	page = (uint32_t)(first - b.in.block_page);
	page = fln_block_fault(&b, page);
	/* A worker may be acting on an event which says that mremap() has moved memory here. */
	if (!fln_strays_are_known(r->guest))
		return ROUND_AGAIN;
	/* mremap() has moved other memory there. */
	if (fln_region_is_stray(r, a->addr)) {
		end_fault(&b, a, (struct fln_context_ending){ .failed = true });
		return ROUND_PASS_ON;
	}
	/* The signal is older than the release: the kernel serves the access when it is repeated. */
	if (fln_region_is_released(&r->map, b.block))
		return serve_gone(&b, a);
	b.chunk = fln_blockmap_chunk(&r->map, b.block);
	/* Or it was released just now. */
	if (!b.chunk && fln_region_is_released(&r->map, b.block))
		return serve_gone(&b, a);
	/* No read-ahead: submitting it takes a lock. */
	range = fln_advice_at(r->guest, a->addr);
	b.advice = range ? (enum fln_advice)range->what : FLN_ADVICE_NORMAL;
	if (b.chunk) {
		known = fln_chunk_load(b.chunk, FLN_PLANE_POISONED);
		if (fln_mask_test(&known, page) && !was_lifted(&b, a) && !was_given_up(&b, page)) {
			end_fault(&b, a, (struct fln_context_ending){ .poisoned = true });
			return ROUND_PASS_ON;
		}
		fln_block_claim(&b, &fault, 1, &page);
	} else {
		/* No chunk is free: have workers free some; wait if any is on its way back. */
		fln_context_kick_all(r->guest);
		if (fln_blockmap_chunks_return(&r->map))
			return ROUND_AGAIN;
		fln_block_go_without(&b, &fault, 1);
	}
	/* Never wait for another thread's claim: map the page without one. */
	own = b.claimed;
	b.claimed = fln_mask_or(&b.claimed, &b.in.faulting);
	fln_block_look(&b);
	install(&b, page);
	round = judge(&b, a, page, &poisoned);
	b.claimed = own;
	fln_block_settle(&b, &poisoned);
	a->again = true;
	return round;
}

/*
 * The address is in no region.  But the fault may come from a region that was removed since, so
 * the access is repeated; it succeeds if the page is filled.  If the fault was never ours it comes
 * again, and is passed on then.
 */
static enum round serve_stranger(const struct access *a)
{
	uint64_t nr_left = fln_context_nr_left();

	if (stranger.nr_left == nr_left && (stranger.addr == a->addr || nr_left == 0))
		return ROUND_PASS_ON;
	stranger.nr_left = nr_left;
	stranger.addr = a->addr;
	return ROUND_DONE;
}

static enum round one_round(struct access *a)
{
	enum round round;
	struct fln_region *r;
	sigset_t before;

	fln_rcu_handler_lock(&before);
	r = fln_context_find(a->addr);
	round = r ? serve(r, a) : serve_stranger(a);
	fln_rcu_handler_unlock(&before);
	return round;
}

static void nap(struct access *a, uint64_t ns)
{
	uint64_t before_ns = a->looked_ns;

	fln_context_nap(ns);
	if (a->starved_since_ns == 0)
		return;
	a->looked_ns = fln_now_ns();
	a->starved_since_ns += fln_stopped_ns(a->looked_ns - before_ns, ns);
}

static enum fln_resolved resolve(struct access *a)
{
	enum fln_wanted_end end;

	for (uint32_t nr_again = 0;;) {
		switch (one_round(a)) {
		case ROUND_DONE:
			return FLN_RESOLVED;
		case ROUND_PASS_ON:
			return FLN_RESOLVED_NOT_OURS;
		case ROUND_AGAIN:
			nap(a, nr_again < AGAIN_SHORT_ROUNDS ? AGAIN_NS : AGAIN_LONG_NS);
			nr_again++;
			break;
		case ROUND_LATER:
			nap(a, NOT_STARTED_NS);
			break;
		case ROUND_WAIT:
			end = fln_wanted_wait(a->wanted);
			a->starved_since_ns = 0;
			if (end == FLN_WANTED_GONE)
				return FLN_RESOLVED; /* unmapped: the access is repeated */
			a->failed = end == FLN_WANTED_FAILED;
			break;
		}
	}
}

enum fln_resolved fln_resolve(const siginfo_t *info)
{
	struct access a = { .addr = 0 };
	int before = errno, cancel = PTHREAD_CANCEL_ENABLE;
	enum fln_resolved result;

	if (!info || info->si_signo != SIGBUS || info->si_code != BUS_ADRERR ||
	    fln_signals_thread.entered == 0 || !fln_thread_on_own_stack() || fln_forked)
		return FLN_RESOLVED_NOT_OURS;
	a.addr = fln_align_down((uintptr_t)info->si_addr, FLN_PAGE_BYTES);
	a.t0_ns = fln_now_ns();
	/* If the thread were cancelled here, it would leak a claim and a read section. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	result = resolve(&a);
	(void)pthread_setcancelstate(cancel, NULL);
	errno = before;
	return result;
}
