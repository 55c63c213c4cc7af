/* SPDX-License-Identifier: MIT */
/*
 * Held faults, and how a fault ends.
 *
 * A fault whose contents are not there is held: the image has been asked to
 * fill the page, and the worker has gone on.  When it is kicked it looks at all
 * that it holds; the image's states say what is to be done, so that a kick
 * carries no message that could be lost or come twice.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/worker.h"

void fln_hold(struct fln_worker *w, struct fln_shard *shard, const struct fln_fault *fault,
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

/* A fault has ended: count how, and of which class it was (I4). */
void fln_end_fault(struct fln_shard *shard, const struct fln_fault *fault, enum fln_ending ending,
		      bool zero, uint64_t now_ns)
{
	struct fln_shard_counters *c = &shard->count;

	if (ending == FLN_ENDED_FAILED)
		fln_count(&c->invalid, 1);
	else if (zero)
		fln_count(&c->zero, 1);
	else
		fln_count(fault->held ? &c->major : &c->minor, 1);
	fln_count(ending == FLN_ENDED_RESUMED    ? &c->resumed
		  : ending == FLN_ENDED_POISONED ? &c->poisoned
					     : &c->failed, 1);
	fln_histogram_record(&c->service, now_ns - fault->t0_ns);
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
			fln_hold(w, h->shard, &h->fault, h->reason);
			continue;
		}
		if (nr > 0 && (h->shard != shard || nr == w->opts.batch_max)) {
			fln_serve_faults(w, shard, w->faults, nr);
			nr = 0;
		}
		shard = h->shard;
		w->faults[nr++] = h->fault;
	}
	if (nr > 0)
		fln_serve_faults(w, shard, w->faults, nr);
}

void fln_drop_held(struct fln_worker *w, struct fln_shard *shard)
{
	uint32_t kept = 0;

	w->nr_again = 0;
	for (uint32_t i = 0; i < w->nr_held; i++) {
		struct fln_held *h = &w->held[i];

		if (h->shard == shard) {
			fln_end_fault(shard, &h->fault, FLN_ENDED_POISONED, false, fln_now_ns());
			continue;
		}
		if (h->reason == FLN_HELD_AGAIN)
			w->nr_again++;
		w->held[kept++] = *h;
	}
	w->nr_held = kept;
	shard->nr_held = 0;
}
