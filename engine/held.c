/* SPDX-License-Identifier: MIT */
/*
 * The worker's table of held faults, and how a fault ends.
 *
 * A fault on an unfilled page is held: the image has been asked to fill the page, and the worker
 * goes on to other faults.  A worker that is kicked looks at all faults that it holds.  The page
 * states of the image say what to do, so a kick carries no message that could be lost or arrive
 * twice.  Faults are also held for other reasons (enum fln_held_reason).
 */
#include "engine/held.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "sources/image.h"

#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* The index has twice as many slots as the table has entries, so that probing is short. */
static uint32_t index_slots(const struct fln_worker *w)
{
	return w->opts.held_max * 2;
}

void fln_held_clear_index(struct fln_worker *w)
{
	memset(w->held_index, 0, index_slots(w) * sizeof(*w->held_index));
}

/* The index slot that a page's entry has or would get. */
static uint32_t *find_slot(struct fln_worker *w, const struct fln_shard *shard, uint64_t addr)
{
	uint64_t hash = fln_hash(fln_bytes_to_pages(addr) ^ ((uintptr_t)shard >> 6));
	uint32_t at = (uint32_t)(((hash >> 32) * index_slots(w)) >> 32);

	for (;; at = at + 1 < index_slots(w) ? at + 1 : 0) {
		uint32_t entry = w->held_index[at];

		if (entry == 0 ||
		    (w->held[entry - 1].fault.addr == addr && w->held[entry - 1].shard == shard))
			return &w->held_index[at];
	}
}

/* The guest's entries in the table.  A shard's nr_held counts faults: an entry may hold several. */
static uint32_t *nr_held_of(const struct fln_worker *w, const struct fln_guest *guest)
{
	return (uint32_t *)&guest->at[w->opts.index].nr_held;
}

void fln_held_forget(struct fln_worker *w, const struct fln_held *h)
{
	uint32_t *nr = nr_held_of(w, h->shard->guest);

	FLN_ASSERT(*nr > 0);
	--*nr;
	h->shard->nr_held -= h->fault.nr;
	h->shard->nr_outside -= h->reason == FLN_HELD_REGION;
}

/*
 * A guest may hold at most as many entries as are free.  So one greedy guest ends up with half of
 * the table; n of them end up with 1/(n + 1) each, and as much stays free for newcomers.  A guest
 * that has the worker to itself may fill the table.
 */
bool fln_may_hold(const struct fln_worker *w, const struct fln_shard *shard)
{
	uint32_t nr_free = w->opts.held_max - w->nr_held;

	if (nr_free == 0)
		return false;
	return w->nr_guests < 2 || *nr_held_of(w, shard->guest) < nr_free ||
	       fln_planted(FLN_BUG_HELD_NO_SHARE);
}

/* Is there enough room that faults which were put back would not be put back again at once? */
static bool has_ample_room(const struct fln_worker *w, const struct fln_shard *shard)
{
	uint32_t nr_free = w->opts.held_max - w->nr_held;

	if (w->nr_guests < 2)
		return w->nr_held <= w->opts.held_max / 2;
	return nr_free > 0 && *nr_held_of(w, shard->guest) <= nr_free / 2;
}

/*
 * Leave a fault with the kernel.  The faulting thread sleeps on; once woken it faults again, which
 * counts as another fault.
 */
static void put_back(struct fln_worker *w, struct fln_shard *shard, const struct fln_fault *fault)
{
	fln_count(&shard->count.held_full, fault->nr);
	fln_count(&shard->count.major, fault->nr);
	fln_count(&shard->count.failed, fault->nr);
	if (shard->overflowed)
		return;
	shard->overflowed = true;
	shard->overflowed_ns = fault->t0_ns;
	shard->overflowed_addr = fault->addr;
	shard->next_overflowed = w->overflowed;
	w->overflowed = shard;
}

void fln_hold(struct fln_worker *w, struct fln_shard *shard, const struct fln_fault *fault,
	      enum fln_held_reason reason)
{
	uint32_t *slot = find_slot(w, shard, fault->addr);
	struct fln_held *h;

	if (*slot) {
		/* Another thread on the same page, or the same thread after a signal. */
		w->held[*slot - 1].fault.nr += fault->nr;
		shard->nr_held += fault->nr;
		return;
	}
	/* A fault that was held before keeps its entry, even beyond its guest's share. */
	if (w->nr_held == w->opts.held_max || (!fault->kept && !fln_may_hold(w, shard))) {
		put_back(w, shard, fault);
		return;
	}
	fln_worker_has_waiting(w, fault->t0_ns);
	h = &w->held[w->nr_held++];
	*slot = w->nr_held;
	h->fault = *fault;
	h->fault.kept = true;
	h->fault.held |= reason == FLN_HELD_FILL || reason == FLN_HELD_PAUSE;
	h->shard = shard;
	h->reason = reason;
	shard->nr_held += fault->nr;
	shard->nr_outside += reason == FLN_HELD_REGION;
	++*nr_held_of(w, shard->guest);
	if (reason == FLN_HELD_AGAIN)
		w->nr_again++;
	if ((reason == FLN_HELD_PAUSE || reason == FLN_HELD_MEMORY || reason == FLN_HELD_REGION) &&
	    fault->not_before_ns < w->next_due_ns)
		w->next_due_ns = fault->not_before_ns;
}

void fln_end_fault(struct fln_shard *shard, const struct fln_fault *fault, enum fln_ending ending,
		   bool zero, uint64_t now_ns)
{
	struct fln_shard_counters *c = &shard->count;

	if (ending == FLN_ENDED_FAILED)
		fln_count(&c->invalid, fault->nr);
	else if (zero)
		fln_count(&c->zero, fault->nr);
	else
		fln_count(fault->held ? &c->major : &c->minor, fault->nr);
	fln_count(ending == FLN_ENDED_RESUMED    ? &c->resumed
		  : ending == FLN_ENDED_POISONED ? &c->poisoned
						 : &c->failed,
		  fault->nr);
	if (fln_planted_in(FLN_BUG_COUNTED_TWICE, 256))
		fln_count(&c->resumed, 1);
	for (uint32_t i = 0; i < fault->nr; i++)
		fln_histogram_record(&c->service, now_ns - fault->t0_ns);
}

bool fln_fill_will_tell(const struct fln_image *image, const struct fln_fault *fault,
			enum fln_image_page state)
{
	/* Not if waiters were let go since: a fill begun after that knows nothing of this fault. */
	return state == FLN_IMAGE_FILLING &&
	       atomic_load_explicit(&image->nr_let_go, memory_order_relaxed) == fault->nr_let_go;
}

void fln_fault_credit(struct fln_fault *fault, uint64_t stopped_ns)
{
	fault->since_ns = (fault->since_ns ? fault->since_ns : fault->t0_ns) + stopped_ns;
	fault->stopped_ns += stopped_ns;
	if (fault->again_since_ns)
		fault->again_since_ns += stopped_ns;
}

void fln_held_credit(struct fln_worker *w, uint64_t stopped_ns)
{
	for (uint32_t i = 0; i < w->nr_held; i++)
		fln_fault_credit(&w->held[i].fault, stopped_ns);
	for (struct fln_shard *s = w->overflowed; s; s = s->next_overflowed)
		s->overflowed_ns += stopped_ns;
}

bool fln_fault_is_unmapped(const struct fln_shard *shard, const struct fln_fault *fault,
			   uint64_t start, uint64_t end)
{
	const struct fln_region *r;
	bool closing;

	if (fault->addr < start || fault->addr >= end)
		return false;
	fln_rcu_read_lock();
	r = fln_directory_find(shard->guest, fault->addr);
	closing = r && atomic_load_explicit(&r->closing, memory_order_acquire);
	fln_rcu_read_unlock();
	return !closing;
}

/* End the faults of a shard, all or those unmapped in [start, end), and rebuild the table. */
static void drop(struct fln_worker *w, struct fln_shard *shard, bool all, uint64_t start,
		 uint64_t end)
{
	uint32_t nr = w->nr_held;

	w->nr_held = 0;
	w->nr_again = 0;
	w->next_due_ns = UINT64_MAX;
	fln_held_clear_index(w);
	for (uint32_t i = 0; i < nr; i++) {
		struct fln_held h = w->held[i];

		fln_held_forget(w, &h);
		if (h.shard == shard && (all || fln_fault_is_unmapped(shard, &h.fault, start, end)))
			fln_end_fault(shard, &h.fault, all ? FLN_ENDED_POISONED : FLN_ENDED_FAILED,
				      false, fln_now_ns());
		else
			fln_hold(w, h.shard, &h.fault, h.reason);
	}
}

void fln_drop_unmapped(struct fln_worker *w, struct fln_shard *shard, uint64_t start, uint64_t end)
{
	if (shard->nr_held > 0)
		drop(w, shard, false, start, end);
}

void fln_drop_held(struct fln_worker *w, struct fln_shard *shard)
{
	drop(w, shard, true, 0, 0);
	for (struct fln_shard **at = &w->overflowed; *at; at = &(*at)->next_overflowed) {
		if (*at == shard) {
			*at = shard->next_overflowed;
			shard->overflowed = false;
			break;
		}
	}
}

/* Wake all threads that wait, also those whose faults are held: these are held once more. */
static void wake_shard(struct fln_shard *shard)
{
	const struct fln_directory *d;

	fln_rcu_read_lock();
	d = atomic_load_explicit(&shard->guest->directory, memory_order_acquire);
	for (uint32_t i = 0; d && i < d->nr; i++)
		fln_uffd_wake(&shard->uffd, d->regions[i]->addr, d->regions[i]->len_bytes);
	fln_rcu_read_unlock();
	for (uint32_t i = 0; i < shard->nr_strays; i++)
		fln_uffd_wake(&shard->uffd, shard->strays[i].addr, shard->strays[i].len_bytes);
}

void fln_wake_overflowed(struct fln_worker *w)
{
	struct fln_shard **at = &w->overflowed, *shard;

	while ((shard = *at) != NULL) {
		if (!has_ample_room(w, shard)) {
			at = &shard->next_overflowed;
			continue;
		}
		*at = shard->next_overflowed;
		shard->overflowed = false;
		wake_shard(shard);
	}
}
