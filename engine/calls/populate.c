/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_populate(), fln_guest_lock() and fln_guest_unlock(): the caller's side of a job.
 *
 * The job is allocated, and lives until all its parts have ended.  The workers fill and map, while
 * the calling thread waits and reports progress.
 *
 * Tested by integration.populate.
 */
#include "engine/calls/populate.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/calls/verify.h"
#include "engine/command.h"
#include "engine/confirm.h"
#include "engine/directory.h"
#include "engine/jobs.h"
#include "engine/ranges.h"
#include "engine/released.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/turn.h"
#include "sources/image.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEFAULT_INTERVAL_NS (100 * FLN_NS_PER_MS)
#define RELEASED_PIECE (UINT64_C(64) << 20)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

static int submit(struct fln_guest *guest, struct fln_job *job)
{
	bool entered;
	int rc;

	fln_guest_take_turn(guest);
	rc = fln_range_check(guest, job->addr, job->end - job->addr);
	entered = fln_rcu_enter();
	if (rc == 0 && (!guest->running || !fln_job_submit(job)))
		rc = fln_fail(ESHUTDOWN, "guest %s does not run; start it first", guest->name);
	fln_rcu_leave(entered);
	fln_guest_give_turn(guest);
	return rc;
}

static void cancel(struct fln_job *job)
{
	atomic_store_explicit(&job->cancelled, true, memory_order_relaxed);
	fln_jobs_look(job->guest);
	for (uint32_t i = 0; i < job->nr_parts; i++)
		fln_worker_kick(&job->guest->engine->workers[i]);
}

/* Wait for the job and report progress.  True: the embedder has cancelled it. */
static bool watch(struct fln_job *job, const struct fln_populate_opts *o)
{
	uint64_t interval = o->interval_ns ? o->interval_ns : DEFAULT_INTERVAL_NS;
	uint64_t len = job->end - job->addr;
	bool cancelled = false;

	while (!fln_job_wait(job, o->progress ? fln_now_ns() + interval : UINT64_MAX)) {
		uint64_t done = fln_pages_to_bytes(atomic_load(&job->nr_done));

		/* nr_done counts whole huge pages, also where the range covers part of one. */
		if (cancelled || !o->progress ||
		    o->progress(o->progress_ctx, done < len ? done : len, len) == 0)
			continue;
		cancelled = true;
		cancel(job);
	}
	return cancelled;
}

static int result(struct fln_guest *guest, struct fln_job *job, bool cancelled)
{
	int rc = atomic_load(&job->error);

	switch (rc) {
	case -EIO:
		return fln_fail(EIO,
				"guest %s: the page at 0x%" PRIx64
				" has failed, and perhaps others "
				"above it; repair the source, then use FLN_ADVICE_DONTNEED there",
				guest->name, atomic_load(&job->failed_addr));
	case -ESHUTDOWN:
		return fln_fail(ESHUTDOWN, "guest %s was stopped, or a region of the range removed",
				guest->name);
	default:
		return cancelled ? fln_fail(ECANCELED, "guest %s: populate was cancelled",
					    guest->name)
				 : rc;
	}
}

static int populate_with(struct fln_guest *guest, struct fln_job *job,
			 const struct fln_populate_opts *o)
{
	uint64_t len_bytes = job->end - job->addr;
	int rc = 0;

	/* The whole range is often mapped: callers pass the same buffers again and again. */
	if (fln_pagemap_verify(guest, job->pagemap_fd, job->addr, job->end) > 0 ||
	    !atomic_load_explicit(&guest->jobs.open, memory_order_acquire)) {
		rc = submit(guest, job);
		if (rc == 0)
			rc = result(guest, job, watch(job, o));
	}
	/* The last report: its result is ignored. */
	if (rc == 0 && o->progress)
		(void)o->progress(o->progress_ctx, len_bytes, len_bytes);
	return rc;
}

static int populate_served(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			   const struct fln_populate_opts *o)
{
	struct fln_job *job = fln_job_alloc(guest);
	int rc;

	if (!job)
		return fln_fail(ENOMEM, "guest %s: no memory to populate a range", guest->name);
	fln_job_init(job, guest, addr, addr + len_bytes);
	job->pagemap_fd = fln_pagemap_open();
	rc = populate_with(guest, job, o);
	if (job->pagemap_fd >= 0)
		(void)close(job->pagemap_fd);
	fln_job_free(guest, job);
	return rc;
}

/* The released blocks in [addr, *end), from @addr on: up to *end.  False: @addr is not in one. */
static bool released_run(struct fln_guest *guest, uint64_t addr, uint64_t *end, int *advice)
{
	bool entered = fln_rcu_enter(), found = false;
	const struct fln_region *r;
	uint64_t at = addr, stop = *end;

	fln_rcu_read_lock();
	r = fln_directory_find(guest, addr);
	if (r && stop > r->addr + r->len_bytes)
		stop = r->addr + r->len_bytes;
	while (r && at < stop && fln_released_at(r, at)) {
		found = true;
		at = fln_block_end(at, stop);
	}
	/* A write would copy the pages of a private mapping, and is refused by a sealed memfd. */
	*advice = r && (r->is_private || r->image->read_only) ? MADV_POPULATE_READ
							      : MADV_POPULATE_WRITE;
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	*end = found ? at : fln_block_end(addr, *end);
	return found;
}

/* False, with errno. */
static bool map_released(void *at, uint64_t len_bytes, int advice)
{
	if (madvise(at, len_bytes, advice) == 0)
		return true;
	/* The embedder has made some of it read-only, which userfaultfd did not mind. */
	return advice == MADV_POPULATE_WRITE && (errno == EINVAL || errno == EFAULT) &&
	       madvise(at, len_bytes, MADV_POPULATE_READ) == 0;
}

/*
 * Map the released blocks in the range, which no worker can: by the kernel, on the caller's thread.
 * A turn for each piece, so that its region stays, and other calls wait for one piece at most.
 */
static int populate_released(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	int rc = 0;

	for (uint64_t stop; rc == 0 && addr < end; addr = stop) {
		int advice;

		stop = end - addr > RELEASED_PIECE ? addr + RELEASED_PIECE : end;
		fln_guest_take_turn(guest);
		if (released_run(guest, addr, &stop, &advice) &&
		    !map_released((void *)(uintptr_t)addr, stop - addr, advice))
			rc = fln_fail(errno == ENOMEM ? ENOMEM : EIO,
				      "guest %s: released memory at 0x%" PRIx64
				      " cannot be mapped: %s",
				      guest->name, addr, strerror(errno));
		fln_guest_give_turn(guest);
	}
	return rc;
}

static int populate(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
		    const struct fln_populate_opts *o)
{
	uint64_t end = addr + len_bytes;
	int rc = fln_range_check(guest, addr, len_bytes);

	if (rc)
		return rc;
	if (!fln_range_all_released(guest, addr, end))
		rc = populate_served(guest, addr, len_bytes, o);
	else if (o->progress)
		(void)o->progress(o->progress_ctx, len_bytes, len_bytes);
	/* Its last block may have been released meanwhile, which ends the guest's jobs. */
	if (rc == -ESHUTDOWN && fln_range_all_released(guest, addr, end))
		rc = 0;
	return rc || guest->foreign ? rc : populate_released(guest, addr, end);
}

int fln_guest_populate(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
		       const struct fln_populate_opts *opts)
{
	FLN_UNCANCELLABLE;
	struct fln_populate_opts o;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	rc = fln_opts_copy(&o, sizeof(o), opts, "fln_populate_opts");
	return rc ? rc : populate(guest, addr, len_bytes, &o);
}

static int lock_error(const struct fln_guest *guest, int err, uint64_t addr, uint64_t len_bytes)
{
	struct rlimit limit = { 0, 0 };

	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	return fln_fail(
		err,
		"guest %s: mlock2() of %" PRIu64 " bytes at 0x%" PRIx64 ": %s; raise "
		"RLIMIT_MEMLOCK (now %llu bytes) or vm.max_map_count, or grant CAP_IPC_LOCK",
		guest->name, len_bytes, addr, strerror(err), (unsigned long long)limit.rlim_cur);
}

/* A failed mlock2() may have locked part of the range.  Keep the locks from before. */
static void undo_lock(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	const struct fln_ranges *locked = guest->advised.locked;
	const struct fln_range *next = fln_ranges_next(locked, addr);

	(void)munlock((void *)(uintptr_t)addr, end - addr);
	for (; next && next < locked->range + locked->nr && next->addr < end; next++) {
		uint64_t lo = next->addr > addr ? next->addr : addr;
		uint64_t hi = next->end < end ? next->end : end;

		(void)mlock2((void *)(uintptr_t)lo, hi - lo, MLOCK_ONFAULT);
	}
}

/* In the guest's turn. */
static int lock_range(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes)
{
	void *at = (void *)(uintptr_t)addr;
	struct fln_ranges *new;
	int rc = fln_range_check(guest, addr, len_bytes), err;

	if (rc)
		return rc;
	if (!guest->running)
		return fln_fail(ESHUTDOWN, "guest %s does not run", guest->name);
	new = fln_ranges_with(guest, guest->advised.locked, addr, addr + len_bytes, 1);
	if (!new)
		return fln_fail(ENOMEM, "guest %s: no memory for its list of locked ranges",
				guest->name);
	/* Before mlock2(), after which the kernel refuses discards under way (residency.c). */
	atomic_store_explicit(&guest->advised.was_locked, true, memory_order_release);
	/* ONFAULT: this thread maps nothing, and pages that are mapped again are locked, too. */
	if (mlock2(at, len_bytes, MLOCK_ONFAULT) != 0) {
		err = errno;
		undo_lock(guest, addr, addr + len_bytes);
		fln_ranges_free(guest, new);
		return lock_error(guest, err == EAGAIN ? ENOMEM : err, addr, len_bytes);
	}
	fln_ranges_free(guest, guest->advised.locked);
	guest->advised.locked = new;
	return 0;
}

int fln_guest_lock(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes)
{
	FLN_UNCANCELLABLE;
	struct fln_populate_opts o = FLN_POPULATE_OPTS_INIT;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	if (guest->foreign)
		return fln_fail(ENOTSUP, "guest %s is another process's; call mlock() there",
				guest->name);
	rc = populate(guest, addr, len_bytes, &o);
	if (rc)
		return rc;
	fln_guest_take_turn(guest);
	rc = lock_range(guest, addr, len_bytes);
	fln_guest_give_turn(guest);
	return rc;
}

/* Unlock the locked ranges within [addr, end).  In the guest's turn. */
static int unlock_range(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	struct fln_ranges *old = guest->advised.locked, *new;
	const struct fln_range *next = fln_ranges_next(old, addr);

	if (!next || next->addr >= end)
		return 0;
	new = fln_ranges_with(guest, old, addr, end, 0);
	if (!new)
		return fln_fail(ENOMEM, "guest %s: no memory for its list of locked ranges",
				guest->name);
	for (; next < old->range + old->nr && next->addr < end; next++) {
		uint64_t lo = next->addr > addr ? next->addr : addr;
		uint64_t hi = next->end < end ? next->end : end;

		(void)munlock((void *)(uintptr_t)lo, hi - lo);
	}
	guest->advised.locked = new;
	fln_ranges_free(guest, old);
	return 0;
}

int fln_guest_unlock(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes)
{
	FLN_UNCANCELLABLE;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	fln_guest_take_turn(guest);
	rc = fln_range_check(guest, addr, len_bytes);
	if (rc == 0)
		rc = unlock_range(guest, addr, addr + len_bytes);
	fln_guest_give_turn(guest);
	return rc;
}

void fln_locked_forget(struct fln_region *region)
{
	(void)unlock_range(region->guest, region->addr, region->addr + region->len_bytes);
}
