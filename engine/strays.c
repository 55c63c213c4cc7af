/* SPDX-License-Identifier: MIT */
/*
 * Strays: memory of regions that mremap() or fork() has carried elsewhere.  It is not served there:
 * no thread may read zeros from it, the embedder is told, and the guest is served on elsewhere.
 *
 * mremap() takes the registration along, so a moved page faults on its shard's userfaultfd, at an
 * address in no region: such faults are poisoned one by one (serve.c), as long as the shard is
 * read.  For the time after that, moved memory of our own process is made PROT_NONE as soon as the
 * event is read, and that of a foreign process is poisoned when the guest ends.  If no descriptors
 * or VMAs are left the PROT_NONE fails: that is noted, and retried whenever a region ends, and for
 * a while when the guest does; if it still fails the userfaultfd stays open.  Memory that
 * lands on a part of a region is marked there: its contents are not the region's, and no window
 * may reach across it.
 *
 * Our own mappings are kept out of children (MADV_DONTFORK).  A foreign process may fork all the
 * same: with UFFD_FEATURE_EVENT_FORK its child has a userfaultfd of its own, which comes with the
 * event.  If that were closed at once the child would read zeros; if it were kept the child would
 * wait for ever.  So the ender poisons the pages that the child lacks, which takes as long as the
 * guest is large, and closes it then.
 *
 * Tested by unit.events, unit.resolve, integration.strays.
 */
#include "engine/strays.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/directory.h"
#include "engine/event_queue.h"
#include "engine/mapping.h"
#include "engine/owners.h"
#include "engine/released.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/turn.h"
#include "engine/uffd.h"
#include "engine/uffd_open.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS (200 * FLN_NS_PER_MS)
#define NAP_NS (200 * FLN_NS_PER_US)
#define READING_LOOKS 500u

/* Mark [lo, hi) of the region as not its own memory.  If the table is full its last entry grows. */
static void mark(struct fln_region *r, uint64_t lo, uint64_t hi)
{
	uint32_t nr;

	fln_lock(&r->guest->lock);
	nr = atomic_load_explicit(&r->nr_strays, memory_order_relaxed);
	if (nr == FLN_MAX_REGION_STRAYS) {
		nr--;
		if (atomic_load_explicit(&r->strays[nr].lo, memory_order_relaxed) < lo)
			lo = atomic_load_explicit(&r->strays[nr].lo, memory_order_relaxed);
		if (atomic_load_explicit(&r->strays[nr].hi, memory_order_relaxed) > hi)
			hi = atomic_load_explicit(&r->strays[nr].hi, memory_order_relaxed);
	}
	atomic_store_explicit(&r->strays[nr].lo, lo, memory_order_release);
	atomic_store_explicit(&r->strays[nr].hi, hi, memory_order_release);
	atomic_store_explicit(&r->nr_strays, nr + 1, memory_order_release);
	fln_unlock(&r->guest->lock);
}

/* Mark [start, end) in all regions.  Returns where the next region begins, or UINT64_MAX. */
static uint64_t mark_regions(struct fln_guest *guest, uint64_t start, uint64_t end)
{
	for (;;) {
		struct fln_region *r;
		uint64_t hi;

		fln_rcu_read_lock();
		r = fln_directory_next(guest, start);
		fln_rcu_read_unlock();
		if (!r || r->addr >= end)
			return r ? r->addr : UINT64_MAX;
		hi = r->addr + r->len_bytes;
		mark(r, r->addr > start ? r->addr : start, hi < end ? hi : end);
		start = hi;
	}
}

/* Making @u inaccessible has failed with @rc: note it for a retry, or keep its userfaultfd open. */
static void note_undenied(struct fln_guest *guest, const struct fln_undenied *u, int rc)
{
	bool noted = false;

	fln_lock(&guest->lock);
	if (fln_is_for_now(rc) && guest->nr_undenied < FLN_MAX_UNDENIED &&
	    !fln_planted(FLN_BUG_STRAY_ONCE)) {
		guest->undenied[guest->nr_undenied++] = *u;
		noted = true;
	}
	fln_unlock(&guest->lock);
	if (!noted)
		atomic_store_explicit(&u->shard->keep_open, true, memory_order_relaxed);
}

/* The first region that begins at @addr or later, or UINT64_MAX. */
static uint64_t next_begin(const struct fln_guest *guest, uint64_t addr)
{
	const struct fln_region *r;

	fln_rcu_read_lock();
	r = fln_directory_next(guest, addr);
	if (r && r->addr < addr)
		r = fln_directory_next(guest, r->addr + r->len_bytes);
	fln_rcu_read_unlock();
	return r ? r->addr : UINT64_MAX;
}

/*
 * Retry to make @u inaccessible, except where regions have been added meanwhile, which are served.
 * Regions do not change while this thread has the guest's turn.
 */
static int deny_again(struct fln_guest *guest, const struct fln_undenied *u)
{
	uint64_t lo = u->lo, limit = u->hi;
	enum fln_uffd_place place = fln_uffd_place(&u->shard->uffd, limit);
	int rc = 0;

	/* If memory behind it is registered it has grown there; else it is the embedder's. */
	if (place == FLN_UFFD_PLACE_UNKNOWN && u->shard->worker)
		return -EAGAIN;
	if (place != FLN_UFFD_PLACE_NONE)
		limit = next_begin(guest, limit);
	do {
		uint64_t next = UINT64_MAX, stop;
		const struct fln_region *r;

		fln_rcu_read_lock();
		r = fln_directory_next(guest, lo);
		fln_rcu_read_unlock();
		if (r && r->addr > lo)
			next = r->addr;
		else if (r)
			next = r->addr + r->len_bytes;
		stop = next < u->hi ? next : u->hi;
		if (!r || r->addr > lo || fln_region_is_stray(r, lo))
			rc = fln_mapping_deny(&u->due, lo, stop, stop < u->hi ? stop : limit, true);
		lo = next;
	} while (rc == 0 && lo < u->hi);
	return rc;
}

bool fln_strays_deny_again(struct fln_guest *guest)
{
	struct fln_undenied todo[FLN_MAX_UNDENIED];
	uint32_t nr;
	bool done;
	int rc;

	fln_guest_assert_turn(guest);
	fln_lock(&guest->lock);
	nr = guest->nr_undenied;
	memcpy(todo, guest->undenied, nr * sizeof(*todo));
	guest->nr_undenied = 0;
	fln_unlock(&guest->lock);
	for (uint32_t i = 0; i < nr; i++) {
		rc = deny_again(guest, &todo[i]);
		if (rc)
			note_undenied(guest, &todo[i], rc);
	}
	fln_lock(&guest->lock);
	done = guest->nr_undenied == 0;
	fln_unlock(&guest->lock);
	return done;
}

void fln_strays_give_up(struct fln_guest *guest)
{
	fln_lock(&guest->lock);
	for (uint32_t i = 0; i < guest->nr_undenied; i++)
		atomic_store_explicit(&guest->undenied[i].shard->keep_open, true,
				      memory_order_relaxed);
	guest->nr_undenied = 0;
	fln_unlock(&guest->lock);
}

static void report_moved(const struct fln_region *r, uint64_t lo, uint64_t hi, uint64_t moved)
{
	struct fln_engine *engine = r->guest->engine;
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_MEMORY_MOVED;
	event.error = -EFAULT;
	event.guest = r->guest;
	event.image = r->image;
	event.value = lo;
	fln_event_post(&engine->events, &event);
	fln_log_limited(&engine->log, &r->guest->moved_limit, FLN_LOG_ERROR,
			"guest %s: mremap() has moved %" PRIu64 " bytes from 0x%" PRIx64
			" to 0x%" PRIx64 ", where they are not served and cannot be read; do not "
			"move guest memory, or remove the region first and add one there",
			r->guest->name, hi - lo, lo, lo + moved);
}

/* mremap() has moved [lo, hi) of a region by @moved: make it inaccessible. */
static void close_moved(struct fln_shard *shard, struct fln_region *r, uint64_t lo, uint64_t hi,
			uint64_t moved, uint64_t limit)
{
	struct fln_undenied u = { .shard = shard, .lo = lo + moved, .hi = hi + moved };
	int rc = 0;

	u.due = fln_mapping_due(r, moved);
	/* The event is posted after it is done, or noted. */
	if (!r->foreign)
		rc = fln_mapping_deny(&u.due, u.lo, u.hi, limit, false);
	if (rc)
		note_undenied(shard->guest, &u, rc);
	report_moved(r, lo, hi, moved);
}

void fln_stray_add(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes)
{
	uint64_t end = from + len_bytes, limit = mark_regions(shard->guest, to, to + len_bytes);

	atomic_store(&shard->guest->has_strays, true);
	if (shard->nr_strays < FLN_MAX_STRAYS)
		shard->strays[shard->nr_strays++] =
			(struct fln_stray){ .addr = to, .len_bytes = len_bytes };
	else if (shard->guest->foreign)
		atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
	while (from < end) {
		struct fln_region *r;
		uint64_t lo, hi;

		fln_rcu_read_lock();
		r = fln_directory_next(shard->guest, from);
		fln_rcu_read_unlock();
		if (!r || r->addr >= end)
			break;
		lo = r->addr > from ? r->addr : from;
		hi = r->addr + r->len_bytes;
		hi = hi < end ? hi : end;
		close_moved(shard, r, lo, hi, to - (end - len_bytes), limit);
		from = hi;
	}
}

/*
 * The region's last block is released: what is there behind it?  If it is still registered the
 * mapping had grown before; what has grown since is the embedder's.
 */
static enum fln_uffd_place place_behind(struct fln_shard *shard, uint64_t end)
{
	enum fln_uffd_place place = FLN_UFFD_PLACE_UNKNOWN;
	uint64_t until = fln_now_ns() + PATIENCE_NS;

	if (shard->uffd.fd < 0)
		return FLN_UFFD_PLACE_NONE;
	/* Unknown while an event is unread, and without a mapping for the probe. */
	while (place == FLN_UFFD_PLACE_UNKNOWN && fln_now_ns() < until) {
		place = fln_uffd_place(&shard->uffd, end);
		if (place == FLN_UFFD_PLACE_UNKNOWN)
			fln_sleep_ns(NAP_NS);
	}
	return place;
}

void fln_region_deny_grown(struct fln_region *r)
{
	uint64_t end = r->addr + r->len_bytes, limit;
	struct fln_undenied u = { .lo = end, .hi = end };
	enum fln_uffd_place place = FLN_UFFD_PLACE_SMALL;
	bool released;
	int rc;

	if (r->foreign || fln_planted(FLN_BUG_STRAY_LEFT))
		return;
	limit = next_begin(r->guest, end);
	u.shard = fln_region_shard_at(r, end - FLN_PAGE_BYTES);
	u.due = fln_mapping_due(r, 0);
	released = fln_released_at(r, end - FLN_PAGE_BYTES);
	if (limit != end && released)
		place = place_behind(u.shard, end);
	/* Asked again before the userfaultfd is closed. */
	if (limit != end && place == FLN_UFFD_PLACE_UNKNOWN)
		note_undenied(r->guest, &u, -EAGAIN);
	if (limit == end || place == FLN_UFFD_PLACE_UNKNOWN || place == FLN_UFFD_PLACE_NONE ||
	    place == FLN_UFFD_PLACE_GONE)
		return;
	rc = fln_mapping_deny(&u.due, end, end, limit, released);
	/* /proc/self/maps cannot be read: a part that has grown is registered, like the rest. */
	if (rc && fln_uffd_place(&u.shard->uffd, end) != FLN_UFFD_PLACE_NONE)
		note_undenied(r->guest, &u, rc);
}

struct fln_mask fln_region_stray_pages(const struct fln_region *r, uint64_t block_addr)
{
	uint32_t nr = atomic_load_explicit(&r->nr_strays, memory_order_acquire);
	struct fln_mask pages = { { 0 } };

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t lo = atomic_load_explicit(&r->strays[i].lo, memory_order_acquire);
		uint64_t hi = atomic_load_explicit(&r->strays[i].hi, memory_order_acquire);

		lo = lo > block_addr ? lo - block_addr : 0;
		hi = hi > block_addr ? hi - block_addr : 0;
		hi = hi < FLN_BLOCK_BYTES ? hi : FLN_BLOCK_BYTES;
		if (lo < hi)
			fln_mask_set_range(&pages, (uint32_t)fln_bytes_to_pages(lo),
					   (uint32_t)fln_bytes_to_pages(hi));
	}
	return pages;
}

void fln_strays_reading_begin(struct fln_shard *shard)
{
	if (shard->in_context)
		(void)atomic_fetch_add(&shard->guest->nr_reading, 1);
}

void fln_strays_reading_end(struct fln_shard *shard)
{
	if (shard->in_context)
		(void)atomic_fetch_sub(&shard->guest->nr_reading, 1);
}

bool fln_strays_are_known(const struct fln_guest *guest)
{
	for (uint32_t i = 0; atomic_load(&guest->nr_reading) > 0; i++) {
		if (i == READING_LOOKS)
			return false;
		fln_cpu_relax(); /* mostly no longer than a read() takes */
	}
	return true;
}

void fln_child_forked(struct fln_guest *guest, int fd)
{
	struct fln_engine *engine = guest->engine;
	uint32_t nr;

	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fln_lock(&guest->lock);
	nr = atomic_load_explicit(&guest->nr_children, memory_order_relaxed);
	if (nr < FLN_MAX_CHILDREN) {
		guest->children[nr] = fd;
		atomic_store_explicit(&guest->nr_children, nr + 1, memory_order_release);
	}
	fln_unlock(&guest->lock);
	if (nr < FLN_MAX_CHILDREN)
		fln_log_limited(&engine->log, &guest->moved_limit, FLN_LOG_WARNING,
				"guest %s: its process has forked; children are not served: one "
				"that touches a page it lacks gets SIGBUS; let children call "
				"exec()",
				guest->name);
	else /* kept open, so its faults wait: once closed they would read zeros (I6) */
		fln_log_limited(&engine->log, &guest->moved_limit, FLN_LOG_ERROR,
				"guest %s: its process has more than %u children whose memory has "
				"not been made unreadable yet; another one will block for ever on "
				"pages that it lacks",
				guest->name, FLN_MAX_CHILDREN);
	fln_guard_call(&engine->guard);
}

/*
 * Has a child's process ended?  UNREGISTER is tried on an address that no userfaultfd serves, that
 * of this code: only if the process is gone does it fail with ENOMEM.
 */
static bool child_is_gone(struct fln_uffd *child)
{
	uint64_t addr = fln_align_down((uintptr_t)&fln_child_forked, FLN_PAGE_BYTES);

	return fln_uffd_unregister(child, addr, FLN_PAGE_BYTES) == -ENOMEM;
}

/* Read the events that make installs fail with EAGAIN.  False: memory was moved. */
static bool read_events(struct fln_guest *guest, struct fln_uffd *child)
{
	struct uffd_msg msgs[16];
	bool moved = false;
	ssize_t nr;

	while ((nr = fln_uffd_read(child, msgs, 16)) > 0) {
		for (ssize_t i = 0; i < nr; i++) {
			if (msgs[i].event == UFFD_EVENT_FORK)
				fln_child_forked(guest, (int)msgs[i].arg.fork.ufd);
			moved |= msgs[i].event == UFFD_EVENT_REMAP;
		}
	}
	return !moved;
}

/* Poison the unmapped pages in [at, end) of another process.  False: some could not be poisoned. */
static bool poison_missing(struct fln_guest *guest, struct fln_uffd *u, uint64_t at, uint64_t end,
			   uint64_t page_bytes)
{
	uint64_t until = fln_now_ns() + PATIENCE_NS;
	bool by_page = false;

	while (at < end) {
		uint64_t stop = by_page ? at + page_bytes : fln_block_end(at, end), done;
		enum fln_uffd_result result;

		result = fln_uffd_poison(u, at, stop - at, &done);
		at += done;
		by_page = by_page && at % FLN_BLOCK_BYTES != 0;
		if (result == FLN_UFFD_OK)
			continue;
		if (result == FLN_UFFD_PRESENT || (result == FLN_UFFD_GONE && by_page)) {
			at += page_bytes;
		} else if (result == FLN_UFFD_GONE) {
			if (atomic_load_explicit(&u->process_gone, memory_order_relaxed))
				return true;
			by_page = true; /* a part of the block is not mapped there */
		} else {
			if (result != FLN_UFFD_AGAIN || !read_events(guest, u) ||
			    fln_now_ns() > until)
				return false;
			fln_sleep_ns(NAP_NS);
		}
	}
	return true;
}

/* Poison what a child lacks.  True: its userfaultfd may be closed, and no thread reads zeros. */
static bool poison_child(struct fln_guest *guest, int fd)
{
	bool done = true;
	struct fln_uffd child = { .fd = -1 };

	fln_uffd_adopt(&child, fd);
	if (child_is_gone(&child) || fln_planted(FLN_BUG_STRAY_LEFT))
		return true;
	for (const struct fln_region *r = guest->regions; done && r; r = r->next)
		done = poison_missing(guest, &child, r->addr, r->addr + r->len_bytes,
				      r->page_bytes);
	return done || child_is_gone(&child);
}

void fln_strays_close(struct fln_shard *shard)
{
	struct fln_guest *guest = shard->guest;
	uint64_t page_bytes = guest->regions ? guest->regions->page_bytes : FLN_PAGE_BYTES;

	for (uint32_t i = 0; guest->foreign && i < shard->nr_strays; i++) {
		const struct fln_stray *s = &shard->strays[i];

		if (!poison_missing(guest, &shard->uffd, s->addr, s->addr + s->len_bytes,
				    page_bytes))
			atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
	}
}

void fln_children_close(struct fln_guest *guest)
{
	uint32_t nr_kept = 0, nr;
	int fd;

	fln_guest_assert_turn(guest);
	/* Forks that are read meanwhile append children of children. */
	while (nr_kept < atomic_load_explicit(&guest->nr_children, memory_order_acquire)) {
		fln_lock(&guest->lock);
		fd = guest->children[nr_kept];
		fln_unlock(&guest->lock);
		if (!poison_child(guest, fd)) {
			nr_kept++;
			continue;
		}
		fln_lock(&guest->lock);
		nr = atomic_load_explicit(&guest->nr_children, memory_order_relaxed) - 1;
		guest->children[nr_kept] = guest->children[nr];
		atomic_store_explicit(&guest->nr_children, nr, memory_order_release);
		fln_unlock(&guest->lock);
		(void)close(fd);
	}
}
