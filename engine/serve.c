/* SPDX-License-Identifier: MIT */
/*
 * Serving a shard: from userfaultfd messages to the faults of each block.
 *
 * One read() takes a batch.  Its events are acted upon first.  Its faults are sorted, so that all
 * faults of one 2 MiB block of a region are served together (serve_block.c).
 */
#include "engine/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/block.h"
#include "engine/directory.h"
#include "engine/events.h"
#include "engine/failure.h"
#include "engine/foreign.h"
#include "engine/held.h"
#include "engine/region_map.h"
#include "engine/released.h"
#include "engine/serve_block.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/uffd.h"
#include "engine/watch.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_ready.h"
#include "sources/reading.h"

#include <errno.h>
#include <faultlane/base.h>
#include <stdatomic.h>
#include <stdbool.h>

/* End a fault in a region that is being closed: the closer wakes its thread (closing.c). */
static void leave_to_closer(struct fln_shard *shard, struct fln_region *region,
			    const struct fln_fault *fault)
{
	uint64_t page = fln_region_page_of(region, fault->addr);
	enum fln_image_page state =
		fln_image_due(region->image, fln_region_image_page(region, page));
	bool zero = state == FLN_IMAGE_ZERO || fln_region_given_up(&region->map, page);
	bool readable = state == FLN_IMAGE_FILLED || zero;

	fln_end_fault(shard, fault,
		      readable && !region->foreign ? FLN_ENDED_RESUMED : FLN_ENDED_POISONED, zero,
		      fln_now_ns());
}

/* Shell sort: batches are small and often nearly sorted, and nothing may be allocated (I5). */
void fln_sort_faults(struct fln_fault *f, uint32_t nr)
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

/* Does any region of the guest reach into the block at @block_addr?  RCU read lock held. */
static bool block_has_region(const struct fln_guest *guest, uint64_t block_addr)
{
	const struct fln_region *r = fln_directory_next(guest, block_addr);

	return r && r->addr < block_addr + FLN_BLOCK_BYTES;
}

/*
 * Make a page in no region inaccessible that cannot be poisoned (Linux before 6.6).  In our own
 * memory only, and only while the page is registered with the shard: else it is the embedder's.
 */
static enum fln_uffd_result take_access(struct fln_shard *shard, uint64_t addr)
{
	uint64_t len = FLN_PAGE_BYTES;

	switch (fln_uffd_place(&shard->uffd, addr)) {
	case FLN_UFFD_PLACE_SMALL:
		break;
	case FLN_UFFD_PLACE_HUGE:
		len = FLN_BLOCK_BYTES;
		break;
	case FLN_UFFD_PLACE_LARGE:
		return FLN_UFFD_PRESENT;
	case FLN_UFFD_PLACE_UNKNOWN:
		return FLN_UFFD_AGAIN;
	default:
		return FLN_UFFD_GONE;
	}
	addr = fln_align_down(addr, len);
	if (shard->guest->foreign || fln_uffd_deny(&shard->uffd, addr, len) != 0)
		return FLN_UFFD_ERROR;
	fln_uffd_wake(&shard->uffd, addr, len);
	return FLN_UFFD_OK;
}

/*
 * The fault's thread can get neither a page nor a signal, and woken it would only fault again: it
 * waits, beyond the end of the guest.
 */
static void hold_for_ever(struct fln_worker *w, struct fln_shard *shard,
			  const struct fln_fault *fault)
{
	atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
	if (fln_guest_fail(shard->guest, -EOPNOTSUPP))
		fln_log(&w->opts.log, FLN_LOG_ERROR,
			"guest %s has failed: a fault at 0x%llx, which is in no region, and its page "
			"cannot be made unreadable; add regions for all registered memory, or use "
			"Linux 6.6 or later",
			shard->guest->name, (unsigned long long)fault->addr);
	fln_hold(w, shard, fault, FLN_HELD_STUCK);
}

/*
 * End a fault in no region: there are no contents to map, so its page is poisoned.  Its thread must
 * not hang, and must not just be woken, because it would fault again for ever.  The fault may have
 * been read before the event that says what was moved there: until that event is read the kernel
 * refuses to poison (EAGAIN), and the fault is held.
 */
static void end_outside_regions(struct fln_worker *w, struct fln_shard *shard,
				struct fln_fault *fault)
{
	uint64_t huge = fln_align_down(fault->addr, FLN_BLOCK_BYTES), done;
	enum fln_uffd_result result = FLN_UFFD_ERROR;

	/* A foreign process may touch memory it has registered before the region is added. */
	if (shard->guest->foreign && fln_foreign_await_region(w, shard, fault))
		return;
	if (fln_uffd_can_poison(&shard->uffd))
		result = fln_uffd_poison(&shard->uffd, fault->addr, FLN_PAGE_BYTES, &done);
	/*
	 * Outside of regions the page may be part of a huge page, which is poisoned as a whole;
	 * but not if a region reaches into the block: its pages are small, and have contents.
	 */
	if (result == FLN_UFFD_ERROR && fln_uffd_can_poison(&shard->uffd) &&
	    !block_has_region(shard->guest, huge))
		result = fln_uffd_poison_huge(&shard->uffd, fault->addr);
	if (result == FLN_UFFD_ERROR)
		result = take_access(shard, fault->addr);
	/* Without room it would be put back with the kernel, which wakes by region (held.c). */
	if (result == FLN_UFFD_AGAIN && fln_may_hold(w, shard)) {
		fln_hold(w, shard, fault, FLN_HELD_AGAIN);
		return;
	}
	if (result == FLN_UFFD_ERROR) {
		hold_for_ever(w, shard, fault);
		return;
	}
	if (result != FLN_UFFD_AGAIN)
		fln_log_limited(
			&w->opts.log, &shard->guest->log_limit, FLN_LOG_ERROR,
			"guest %s: a fault at 0x%llx, which is in no region; its page is poisoned",
			shard->guest->name, (unsigned long long)fault->addr);
	if (result == FLN_UFFD_OK)
		fln_failure_tell_stray(shard->guest, fault->addr);
	else
		fln_uffd_wake(&shard->uffd, fault->addr, FLN_PAGE_BYTES);
	fln_end_fault(shard, fault, FLN_ENDED_FAILED, false, fln_now_ns());
}

/* Count faults whose memory is on another node than this worker: each once. */
static void count_remote(const struct fln_worker *w, struct fln_shard *shard,
			 const struct fln_region *region, struct fln_fault *f, uint32_t nr)
{
	if (region->node_index == FLN_NODE_ANY || region->node_index == w->opts.node_index)
		return;
	for (uint32_t i = 0; i < nr; i++) {
		if (f[i].fresh)
			fln_count(&shard->count.remote, f[i].nr);
		f[i].fresh = false;
	}
}

/* Is the region being closed, so that protection is the closer's to lift (life/deny_kernel.c)? */
static bool is_closers(const struct fln_region *region)
{
	return region && !region->foreign &&
	       atomic_load_explicit(&region->closing, memory_order_acquire);
}

void fln_serve_faults(struct fln_worker *w, struct fln_shard *shard, struct fln_fault *f,
		      uint32_t nr)
{
	fln_sort_faults(f, nr);
	fln_rcu_read_lock();
	for (uint32_t i = 0, end; i < nr; i = end) {
		struct fln_region *region = fln_directory_find(shard->guest, f[i].addr);
		uint64_t stop;

		end = i + 1;
		if (f[i].kind == FLN_FAULT_PROTECTED && !is_closers(region) &&
		    !(region && fln_released_at(region, f[i].addr)) &&
		    fln_foreign_flagged(w, shard, NULL, &f[i]))
			continue;
		if (!region || fln_region_is_stray(region, f[i].addr)) {
			end_outside_regions(w, shard, &f[i]);
			continue;
		}
		if (fln_released_at(region, f[i].addr)) {
			fln_released_end_faults(shard, region, &f[i], 1);
			continue;
		}
		if (atomic_load_explicit(&region->closing, memory_order_acquire)) {
			leave_to_closer(shard, region, &f[i]);
			continue;
		}
		if (f[i].kind == FLN_FAULT_MINOR && fln_foreign_flagged(w, shard, region, &f[i]))
			continue;
		/* Serve together with it all faults that follow in this block and region. */
		stop = fln_block_end(f[i].addr, region->addr + region->len_bytes);
		while (end < nr && f[end].addr < stop && f[end].kind == FLN_FAULT_MISSING &&
		       !fln_region_is_stray(region, f[end].addr))
			end++;
		count_remote(w, shard, region, &f[i], end - i);
		fln_serve_block(w, shard, region, &f[i], end - i);
	}
	fln_rcu_read_unlock();
}

static enum fln_fault_kind kind_of(const struct fln_shard *shard, const struct uffd_msg *m)
{
	if (m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
		return FLN_FAULT_PROTECTED;
	if ((m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) && shard->guest->foreign)
		return FLN_FAULT_MINOR;
	return FLN_FAULT_MISSING;
}

/*
 * A descriptor that could not be read stays unreadable: faults wait in the kernel, and nothing will
 * report them.  So the guest has to end.
 */
static void give_up_reading(struct fln_worker *w, struct fln_shard *shard, int err)
{
	struct fln_guest *guest = shard->guest;

	fln_worker_unwatch(w, shard);
	atomic_store(&shard->unreadable, true);
	fln_log(&w->opts.log, FLN_LOG_ERROR,
		"guest %s: shard %u cannot be read (errno %d), so the guest is stopped; hand over "
		"a userfaultfd on which UFFDIO_API was called, and do not close descriptors of the "
		"engine",
		guest->name, shard->index, err);
	fln_guard_end_guest(guest, -err);
}

/*
 * To read the event of a foreign process's fork() takes a free descriptor.  Until there is one the
 * forking process waits, and so does this worker.
 */
static bool may_read_later(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM;
}

/* Outside fln_filler_reading_begin() and _end(): fills that have written pages wait for that. */
static void read_later(struct fln_worker *w, struct fln_shard *shard)
{
	fln_log_limited(
		&w->opts.log, &shard->guest->log_limit, FLN_LOG_ERROR,
		"guest %s: shard %u: an event cannot be read, as no descriptor or memory is "
		"left; raise RLIMIT_NOFILE (tried again)",
		shard->guest->name, shard->index);
	fln_sleep_ns(FLN_NS_PER_MS);
}

/*
 * [start, end) has been unmapped, and to act on the event wakes the threads that wait there: end
 * their faults in w->faults, which were read before it.  Returns how many of the @nr are left.
 */
static uint32_t end_unmapped(struct fln_worker *w, struct fln_shard *shard, uint32_t nr,
			     uint64_t start, uint64_t end)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (fln_fault_is_unmapped(shard, &w->faults[i], start, end))
			fln_end_fault(shard, &w->faults[i], FLN_ENDED_FAILED, false, fln_now_ns());
		else
			w->faults[left++] = w->faults[i];
	}
	return left;
}

/* The number of messages up to and including the last UFFD_EVENT_REMAP; 0: there is none. */
static ssize_t last_move(const struct uffd_msg *msgs, ssize_t nr)
{
	while (nr > 0 && msgs[nr - 1].event != UFFD_EVENT_REMAP)
		nr--;
	return nr > 0 ? nr : 0;
}

/*
 * Read a batch, act upon its events, and gather its faults in w->faults; returns their number.
 * *err: why the shard could not be read, or 0.
 */
static uint32_t read_batch(struct fln_worker *w, struct fln_shard *shard, int *err)
{
	uint32_t nr_faults = 0, nr_counted = 0;
	ssize_t nr, nr_moving;
	uint64_t now;

	fln_strays_reading_begin(shard);
	nr = fln_uffd_read(&shard->uffd, w->msgs, w->opts.batch_max);
	*err = nr < 0 ? (int)-nr : 0;
	nr_moving = shard->in_context ? last_move(w->msgs, nr) : 0;
	if (nr_moving == 0)
		fln_strays_reading_end(shard);
	if (nr <= 0)
		return 0;
	now = fln_now_ns();
	fln_count(&shard->count.reads, 1);
	for (ssize_t i = 0; i < nr; i++) {
		const struct uffd_msg *m = &w->msgs[i];
		struct fln_fault *f;

		if (m->event == UFFD_EVENT_UNMAP && nr_faults > 0) {
			fln_count(&shard->count.faults, nr_faults - nr_counted);
			nr_faults = end_unmapped(w, shard, nr_faults, m->arg.remove.start,
						 m->arg.remove.end);
			nr_counted = nr_faults;
		}
		if (m->event != UFFD_EVENT_PAGEFAULT) {
			fln_count(&shard->count.events, 1);
			fln_shard_event(shard, w, m);
			if (i + 1 == nr_moving)
				fln_strays_reading_end(shard);
			continue;
		}
		f = &w->faults[nr_faults++];
		*f = (struct fln_fault){ .t0_ns = now, .nr = 1 };
		f->addr = fln_align_down(m->arg.pagefault.address, FLN_PAGE_BYTES);
		f->kind = kind_of(shard, m);
		f->fresh = true;
	}
	fln_count(&shard->count.faults, nr_faults - nr_counted);
	return nr_faults;
}

void fln_serve_shard(struct fln_worker *w, struct fln_shard *shard)
{
	uint32_t nr_faults;
	int err;

	/* Fills must not publish from before the read until its discards have been acted upon. */
	fln_filler_reading_begin(w->opts.filler, w->opts.index);
	nr_faults = read_batch(w, shard, &err);
	fln_filler_reading_end(w->opts.filler, w->opts.index);
	if (err && may_read_later(err))
		read_later(w, shard);
	else if (err)
		give_up_reading(w, shard, err);
	fln_serve_faults(w, shard, w->faults, nr_faults);
}

/* Is a held fault to be served again?  RCU read lock held. */
static bool is_due(struct fln_worker *w, const struct fln_held *h, uint64_t now_ns)
{
	struct fln_region *region;
	enum fln_image_page state;
	uint64_t page;

	if (h->reason == FLN_HELD_AGAIN || h->reason == FLN_HELD_STUCK)
		return true;
	if (h->reason == FLN_HELD_FILL ? fln_fault_is_late(w, &h->fault)
				       : h->fault.not_before_ns <= now_ns)
		return true;
	if (atomic_load_explicit(&h->shard->guest->failed, memory_order_relaxed))
		return true;
	region = fln_directory_find(h->shard->guest, h->fault.addr);
	if (h->reason == FLN_HELD_REGION)
		return region;
	if (!region || atomic_load_explicit(&region->closing, memory_order_acquire) ||
	    fln_released_at(region, h->fault.addr))
		return true;
	if (h->reason == FLN_HELD_MEMORY)
		return false;
	page = fln_region_page_of(region, h->fault.addr);
	if (fln_region_given_up(&region->map, page))
		return true; /* discarded meanwhile: zeros are due */
	state = fln_image_due(region->image, fln_region_image_page(region, page));
	/* While it pauses its page may have been pushed, or filled for another fault. */
	return h->reason == FLN_HELD_FILL ? !fln_fill_will_tell(region->image, &h->fault, state)
					  : state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO;
}

void fln_serve_held(struct fln_worker *w)
{
	struct fln_held *old = w->held;
	uint32_t nr_old = w->nr_held, nr = 0;
	struct fln_shard *shard = NULL;
	uint64_t now = fln_now_ns();

	/* Faults that stay held go into the other table, in order. */
	w->held = w->held_spare;
	w->held_spare = old;
	w->nr_held = 0;
	w->nr_again = 0;
	w->next_due_ns = UINT64_MAX;
	fln_held_clear_index(w);
	for (uint32_t i = 0; i < nr_old; i++) {
		struct fln_held *h = &old[i];
		bool due;

		fln_rcu_read_lock();
		due = is_due(w, h, now);
		fln_rcu_read_unlock();
		fln_held_forget(w, h);
		if (!due) {
			fln_hold(w, h->shard, &h->fault, h->reason);
			continue;
		}
		if (nr > 0 && (h->shard != shard || nr == w->opts.batch_max)) {
			fln_serve_faults(w, shard, w->faults, nr);
			nr = 0;
		}
		shard = h->shard;
		if (h->reason == FLN_HELD_REGION)
			h->fault.since_ns = now; /* its source is asked only now */
		w->faults[nr++] = h->fault;
	}
	if (nr > 0)
		fln_serve_faults(w, shard, w->faults, nr);
}
