/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_advise(), on the caller's thread, in the guest's turn.
 *
 * NORMAL, SEQUENTIAL and RANDOM go into a sorted list that the fault path reads under RCU; a guest
 * without advice has no list.  WILLNEED is a background job (jobs.c).  DONTNEED is madvise() by
 * the library itself, whose REMOVE events must not count as discards by the guest.
 *
 * Tested by integration.advice.
 */
#include "engine/calls/advice.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/ahead.h"
#include "engine/calls/populate.h"
#include "engine/command.h"
#include "engine/directory.h"
#include "engine/jobs.h"
#include "engine/mapping.h"
#include "engine/owners.h"
#include "engine/ranges.h"
#include "engine/state/advised.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "engine/turn.h"
#include "sharding/stripes.h"
#include "sources/image.h"
#include "sources/image_want.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

/* Replace the list of advice; frees the old one after a grace period. */
static void publish(struct fln_guest *guest, struct fln_ranges *new)
{
	struct fln_ranges *old;
	bool entered = fln_rcu_enter();

	if (new &&new->nr == 0) {
		fln_ranges_free(guest, new);
		new = NULL;
	}
	old = atomic_exchange_explicit(&guest->advised.advice, new, memory_order_acq_rel);
	if (old)
		fln_rcu_synchronize();
	fln_ranges_free(guest, old);
	fln_rcu_leave(entered);
}

static int store_advice(struct fln_guest *guest, uint64_t addr, uint64_t end, uint32_t advice)
{
	struct fln_ranges *new;
	int rc = 0;

	if (advice == FLN_ADVICE_SEQUENTIAL)
		rc = fln_ahead_prepare(guest);
	if (rc)
		return rc;
	new = fln_ranges_with(guest, atomic_load(&guest->advised.advice), addr, end, advice);
	if (!new)
		return fln_fail(ENOMEM, "guest %s: no memory for its list of advice", guest->name);
	publish(guest, new);
	return 0;
}

/* An idle job that is kept, or a new one, now taken; or NULL with the error in *rc. */
static struct fln_job *take_kept_job(struct fln_guest *guest, int *rc)
{
	struct fln_jobs *jobs = &guest->jobs;
	struct fln_job *job;
	uint32_t nr = 0;

	fln_lock(&jobs->lock);
	for (job = jobs->kept; job && job->taken; job = job->next)
		nr++;
	if (job)
		job->taken = true;
	fln_unlock(&jobs->lock);
	if (job)
		return job;
	if (nr >= FLN_MAX_BACKGROUND) {
		*rc = fln_fail(EBUSY,
			       "guest %s: %u ranges of WILLNEED are under way, the most that are "
			       "possible; try again later",
			       guest->name, nr);
		return NULL;
	}
	job = fln_job_alloc(guest);
	if (!job) {
		*rc = fln_fail(ENOMEM, "guest %s: no memory for WILLNEED", guest->name);
		return NULL;
	}
	job->taken = true;
	fln_lock(&jobs->lock);
	job->next = jobs->kept;
	jobs->kept = job;
	fln_unlock(&jobs->lock);
	return job;
}

static int will_need(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	struct fln_job *job;
	bool entered;
	int rc = 0;

	if (!guest->running)
		return fln_fail(ESHUTDOWN, "guest %s is not running; call fln_guest_start() first",
				guest->name);
	job = take_kept_job(guest, &rc);
	if (!job)
		return rc;
	fln_job_init(job, guest, addr, end);
	job->background = true;
	entered = fln_rcu_enter();
	if (!fln_job_submit(job)) {
		fln_lock(&guest->jobs.lock);
		job->taken = false;
		fln_unlock(&guest->jobs.lock);
	}
	fln_rcu_leave(entered);
	return 0;
}

/* A guest that is released has no worker any more, and needs none. */
static void pass_worker(const struct fln_shard *shard)
{
	if (shard->worker)
		(void)fln_worker_command(shard->worker, FLN_COMMAND_PASS, NULL);
}

/* DONTNEED of a piece of one stripe that is wholly mapped; @moved unused. */
static int drop_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	struct fln_guest *guest = r->guest;
	struct fln_quiet quiet = { .at = addr, .end = addr + len_bytes };
	struct fln_shard *shard = fln_region_shard_at(r, addr);
	struct fln_quiet **at;
	int rc = 0;

	(void)moved;
	fln_lock(&guest->jobs.lock);
	quiet.next = guest->advised.quiet;
	guest->advised.quiet = &quiet;
	fln_unlock(&guest->jobs.lock);
	if (madvise((void *)(uintptr_t)addr, len_bytes, MADV_DONTNEED) != 0)
		rc = -errno;
	/* After this the worker has handled the events that madvise() has waited for. */
	pass_worker(shard);
	fln_lock(&guest->jobs.lock);
	for (at = &guest->advised.quiet; *at != &quiet; at = &(*at)->next)
		;
	*at = quiet.next;
	fln_unlock(&guest->jobs.lock);
	return rc;
}

/* DONTNEED of [addr, end), which lies in one stripe. */
static int drop_stripe(struct fln_region *r, uint64_t addr, uint64_t end)
{
	void *at = (void *)(uintptr_t)addr;

	/* Not marked as quiet: in a private region it counts as a discard (enum fln_discard). */
	if (r->is_private) {
		int rc = madvise(at, end - addr, MADV_DONTNEED) == 0 ? 0 : -errno;

		/* After this the map has forgotten the poison, also for threads in context. */
		pass_worker(fln_region_shard_at(r, addr));
		return rc;
	}
	/* msync(MS_ASYNC) does nothing, but fails if part of the range is not mapped. */
	if (msync(at, end - addr, MS_ASYNC) == 0)
		return drop_piece(r, addr, end - addr, 0);
	return fln_mapping_each(r, addr, end, 0, drop_piece);
}

/* Given part of a huge page, madvise() would drop none of it or all of it. */
static int check_whole_pages(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	int rc = 0;

	for (uint64_t at = addr; at < end && rc == 0;) {
		bool entered = fln_rcu_enter();
		struct fln_region *r;
		uint64_t stop;

		fln_rcu_read_lock();
		r = fln_directory_find(guest, at);
		fln_rcu_read_unlock(); /* it stays: this is the guest's turn */
		fln_rcu_leave(entered);
		FLN_ASSERT(r);
		stop = r->addr + r->len_bytes < end ? r->addr + r->len_bytes : end;
		if (!fln_is_aligned(at, r->page_bytes) || !fln_is_aligned(stop, r->page_bytes))
			rc = fln_fail(EINVAL,
				      "guest %s: DONTNEED of [0x%" PRIx64 ", 0x%" PRIx64
				      ") covers part of a huge page; align both ends to %" PRIu64,
				      guest->name, at, stop, (uint64_t)r->page_bytes);
		at = stop;
	}
	return rc;
}

static int drop(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	const struct fln_range *locked = fln_ranges_next(guest->advised.locked, addr);
	int rc = 0;

	if (guest->foreign)
		return fln_fail(ENOTSUP,
				"guest %s is foreign; call madvise() in the process that owns its "
				"memory",
				guest->name);
	/* No worker would read the events that madvise() waits for. */
	if (!guest->running)
		return fln_fail(ESHUTDOWN, "guest %s is not running; call fln_guest_start() first",
				guest->name);
	if (locked && locked->addr < end)
		return fln_fail(EINVAL,
				"guest %s: [0x%" PRIx64 ", 0x%" PRIx64 ") is locked; call "
				"fln_guest_unlock() first",
				guest->name, locked->addr, locked->end);
	rc = check_whole_pages(guest, addr, end);
	if (rc)
		return rc;
	fln_ahead_forget(guest, addr, end);
	while (addr < end && rc == 0) {
		bool entered = fln_rcu_enter();
		struct fln_region *r;
		uint64_t stripe = 0, len = 0, stop;
		uint32_t shard;

		fln_rcu_read_lock();
		r = fln_directory_find(guest, addr);
		fln_rcu_read_unlock(); /* it stays: this is the guest's turn */
		FLN_ASSERT(r);
		(void)fln_stripe_get(&r->plan, fln_stripe_index(&r->plan, addr), &stripe, &len,
				     &shard);
		stop = stripe + len < end ? stripe + len : end;
		fln_image_forget_failed(r->image,
					fln_region_image_page(r, fln_region_page_of(r, addr)),
					fln_bytes_to_pages(stop - addr));
		fln_rcu_leave(entered);
		rc = drop_stripe(r, addr, stop);
		addr = stop;
	}
	return rc ? fln_fail(-rc,
			     "guest %s: madvise(MADV_DONTNEED) of memory below 0x%" PRIx64 ": %s",
			     guest->name, addr, strerror(-rc))
		  : 0;
}

int fln_guest_advise(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
		     enum fln_advice advice)
{
	FLN_UNCANCELLABLE;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	if ((uint32_t)advice >= FLN_ADVICE_NR)
		return fln_fail(EINVAL, "guest %s: advice is %u; use one of enum fln_advice",
				guest->name, (uint32_t)advice);
	fln_guest_take_turn(guest);
	rc = fln_range_check(guest, addr, len_bytes);
	if (rc == 0) {
		switch (advice) {
		case FLN_ADVICE_WILLNEED:
			rc = will_need(guest, addr, addr + len_bytes);
			break;
		case FLN_ADVICE_DONTNEED:
			rc = drop(guest, addr, addr + len_bytes);
			break;
		default:
			rc = store_advice(guest, addr, addr + len_bytes, advice);
			break;
		}
	}
	fln_guest_give_turn(guest);
	return rc;
}

void fln_advised_forget(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;
	struct fln_ranges *old = atomic_load(&guest->advised.advice), *new;
	uint64_t end = region->addr + region->len_bytes;
	const struct fln_range *next = fln_ranges_next(old, region->addr);

	if (next && next->addr < end) {
		new = fln_ranges_with(guest, old, region->addr, end, FLN_ADVICE_NORMAL);
		if (new) /* without memory the advice stays, and holds for a later region there */
			publish(guest, new);
	}
	fln_locked_forget(region);
}
