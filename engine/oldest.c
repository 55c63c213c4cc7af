/* SPDX-License-Identifier: MIT */
/*
 * The oldest waiting fault: noted by workers, completed by the caller.
 *
 * Only the worker may look at the faults that it holds, so it publishes the oldest of each of
 * its shards after it has looked at all of them, and no more often than it checks deadlines.
 * It publishes only what no other thread can know; the caller finds out the rest, such as what a
 * fill waits for.
 *
 * Tested by unit.guard.
 */
#include "engine/oldest.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/owners.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/wanted.h"
#include "engine/state/worker.h"
#include "sources/image_ready.h"

#include <errno.h>
#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static const char *const names[] = {
	[FLN_WAITS_NOTHING] = "nothing",
	[FLN_WAITS_SOURCE] = "its source, which is being read",
	[FLN_WAITS_FILLER] = "a filler thread",
	[FLN_WAITS_FILL] = "a free fill, as all are in use",
	[FLN_WAITS_PUT] = "its contents to be pushed",
	[FLN_WAITS_OWNER] = "the process that owns its image",
	[FLN_WAITS_RETRY] = "its source to be read again",
	[FLN_WAITS_EVENT] = "the thread that discards, unmaps, moves or forks its memory",
	[FLN_WAITS_CLAIM] = "another thread that is mapping its page",
	[FLN_WAITS_MEMORY] = "the kernel to have memory",
	[FLN_WAITS_ROOM] = "room in the table of held faults",
	[FLN_WAITS_POISON] = "nothing that can come: its page can be neither mapped nor poisoned",
	[FLN_WAITS_WORKER] = "its worker, which does not come back",
	[FLN_WAITS_REGION] = "a region to be added at its address",
};

_Static_assert(sizeof(names) / sizeof(names[0]) == FLN_WAITS_NR, "every reason has a name");

const char *fln_waits_for_name(uint32_t waits_for)
{
	return waits_for < FLN_WAITS_NR ? names[waits_for] : "?";
}

/* Note a fault that waits since @t0_ns if it is the oldest of @shard so far. */
static void note_if_oldest(struct fln_worker *w, struct fln_shard *shard, uint64_t t0_ns,
			   uint64_t addr, uint32_t waits_for)
{
	struct fln_oldest_next *next = &shard->next_oldest;

	if (!next->noted) {
		next->noted = true;
		next->t0_ns = UINT64_MAX;
		next->shard = w->noted;
		w->noted = shard;
	}
	/* Faults of one read() are equally old: the lowest address wins, in whatever order held. */
	if (t0_ns > next->t0_ns || (t0_ns == next->t0_ns && addr >= next->addr))
		return;
	next->t0_ns = t0_ns;
	next->addr = addr;
	next->waits_for = waits_for;
}

static uint32_t reason_of(const struct fln_held *h)
{
	switch (h->reason) {
	case FLN_HELD_FILL:
		return FLN_WAITS_SOURCE; /* find_contents() may find another reason */
	case FLN_HELD_PAUSE:
		return h->fault.next == FLN_NEXT_STARVED ? FLN_WAITS_FILL : FLN_WAITS_RETRY;
	case FLN_HELD_MEMORY:
		return FLN_WAITS_MEMORY;
	case FLN_HELD_STUCK:
		return FLN_WAITS_POISON;
	case FLN_HELD_REGION:
		return FLN_WAITS_REGION;
	default:
		return h->fault.claimed ? FLN_WAITS_CLAIM : FLN_WAITS_EVENT;
	}
}

/* The same for a page that a thread waits for in its own context. */
static uint32_t reason_of_wanted(const struct fln_wanted *s)
{
	switch (s->fault.next) {
	case FLN_NEXT_STARVED:
		return FLN_WAITS_FILL;
	case FLN_NEXT_RETRY:
	case FLN_NEXT_ASK:
		return FLN_WAITS_RETRY;
	default:
		return FLN_WAITS_SOURCE; /* find_contents() may find another reason */
	}
}

static void publish(const struct fln_worker *w, struct fln_shard *shard)
{
	const struct fln_oldest_next *next = &shard->next_oldest;
	struct fln_oldest *o = &shard->oldest;
	uint64_t t0 = next->t0_ns == UINT64_MAX ? 0 : next->t0_ns;

	if (t0) {
		atomic_store_explicit(&o->addr, next->addr, memory_order_relaxed);
		atomic_store_explicit(&o->waits_for, next->waits_for, memory_order_relaxed);
		atomic_store_explicit(&o->worker, w->opts.index, memory_order_relaxed);
	}
	atomic_store_explicit(&o->t0_ns, t0, memory_order_release);
}

/* Time in which the process was stopped does not count: the start moves by it. */
static uint64_t waits_since(const struct fln_fault *fault)
{
	return fault->t0_ns + fault->stopped_ns;
}

void fln_oldest_note(struct fln_worker *w)
{
	struct fln_shard **at = &w->noted;

	for (struct fln_shard *s = w->noted; s; s = s->next_oldest.shard)
		s->next_oldest.t0_ns = UINT64_MAX;
	for (uint32_t i = 0; i < w->nr_held; i++)
		note_if_oldest(w, w->held[i].shard, waits_since(&w->held[i].fault),
			       w->held[i].fault.addr, reason_of(&w->held[i]));
	for (const struct fln_wanted *s = w->wanted; s; s = s->next)
		note_if_oldest(w, s->shard, waits_since(&s->fault), s->fault.addr,
			       reason_of_wanted(s));
	for (struct fln_shard *s = w->overflowed; s; s = s->next_overflowed)
		note_if_oldest(w, s, s->overflowed_ns, s->overflowed_addr, FLN_WAITS_ROOM);
	while (*at) {
		struct fln_shard *s = *at;

		publish(w, s);
		if (s->next_oldest.t0_ns != UINT64_MAX) {
			at = &s->next_oldest.shard;
			continue;
		}
		*at = s->next_oldest.shard;
		s->next_oldest.noted = false;
	}
}

void fln_oldest_forget(struct fln_worker *w, struct fln_shard *shard)
{
	for (struct fln_shard **at = &w->noted; *at; at = &(*at)->next_oldest.shard) {
		if (*at != shard)
			continue;
		*at = shard->next_oldest.shard;
		shard->next_oldest.noted = false;
		break;
	}
	atomic_store_explicit(&shard->oldest.t0_ns, 0, memory_order_release);
}

uint64_t fln_oldest_since(const struct fln_shard *shard)
{
	return atomic_load_explicit(&shard->oldest.t0_ns, memory_order_relaxed);
}

/* A consistent copy of what a shard's worker has published. */
struct note {
	uint64_t t0_ns, addr;
	uint32_t waits_for, worker;
};

static struct note read_once(const struct fln_oldest *o)
{
	struct note n;

	memset(&n, 0, sizeof(n));
	n.t0_ns = atomic_load_explicit(&o->t0_ns, memory_order_acquire);
	n.addr = atomic_load_explicit(&o->addr, memory_order_relaxed);
	n.waits_for = atomic_load_explicit(&o->waits_for, memory_order_relaxed);
	n.worker = atomic_load_explicit(&o->worker, memory_order_relaxed);
	return n;
}

/* For display only: after some attempts a torn copy is accepted. */
static struct note read_note(const struct fln_oldest *o)
{
	struct note a = read_once(o), b;

	for (uint32_t i = 0; i < 4; i++) {
		b = read_once(o);
		if (memcmp(&a, &b, sizeof(a)) == 0)
			break;
		a = b;
	}
	return a;
}

/* Ask the image what the page's contents wait for.  RCU read lock held. */
static void find_contents(const struct fln_region *r, uint64_t addr, uint64_t now_ns,
			  struct fln_oldest_fault *out)
{
	uint64_t page = fln_region_image_page(r, fln_region_page_of(r, addr)), begun_ns = 0;

	out->waits_for = fln_image_waits(r->image, page, &begun_ns);
	if (begun_ns && now_ns > begun_ns)
		out->waits_ns = now_ns - begun_ns;
}

/* Add what the worker has not published: the region, and what the fault waits for beyond it. */
static void complete(struct fln_guest *guest, const struct note *n, uint64_t now_ns,
		     struct fln_oldest_fault *out)
{
	const struct fln_engine *engine = guest->engine;
	uint64_t stalled_ns = 0;
	struct fln_region *r;
	bool entered;

	out->age_ns = fln_oldest_age_ns(n->t0_ns, now_ns);
	out->addr = n->addr;
	out->worker = n->worker;
	out->waits_for = n->waits_for;
	entered = fln_rcu_enter();
	fln_rcu_read_lock();
	r = fln_directory_find(guest, n->addr);
	if (r) {
		out->region = r;
		out->offset_bytes = n->addr - r->addr;
		if (n->waits_for == FLN_WAITS_SOURCE)
			find_contents(r, n->addr, now_ns, out);
	}
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	if (engine->workers && n->worker < engine->opts.nr_workers)
		stalled_ns = atomic_load_explicit(&engine->workers[n->worker].stalled_since_ns,
						  memory_order_relaxed);
	if (stalled_ns) {
		out->waits_for = FLN_WAITS_WORKER;
		out->waits_ns = fln_oldest_age_ns(stalled_ns, now_ns);
	}
}

static void take_if_older(const struct fln_shard *shard, struct note *oldest, uint32_t *index)
{
	struct note n;

	if (fln_oldest_since(shard) == 0)
		return;
	n = read_note(&shard->oldest);
	if (n.t0_ns == 0 || (oldest->t0_ns && n.t0_ns >= oldest->t0_ns))
		return;
	*oldest = n;
	*index = shard->index;
}

/* A stalled worker may have unread messages: it counts as a fault as old as the stall. */
static bool find_stalled(struct fln_guest *guest, uint64_t before_ns, uint64_t now_ns,
			 struct fln_oldest_fault *out, uint64_t *t0_ns)
{
	bool found = false;

	for (uint32_t i = 0; guest->engine->workers && i < guest->nr_shards; i++) {
		const struct fln_worker *w = fln_guest_worker(guest, i);
		uint64_t since = atomic_load_explicit(&w->stalled_since_ns, memory_order_relaxed);

		if (since == 0 || (before_ns && since >= before_ns))
			continue;
		before_ns = *t0_ns = since;
		found = true;
		out->age_ns = out->waits_ns = fln_oldest_age_ns(since, now_ns);
		out->waits_for = FLN_WAITS_WORKER;
		out->shard = i;
		out->worker = w->opts.index;
	}
	return found;
}

bool fln_oldest_find(struct fln_guest *guest, uint64_t now_ns, struct fln_oldest_fault *out,
		     uint64_t *t0_ns)
{
	const struct fln_shard *in_context = fln_context_shards(guest);
	struct note oldest = { .t0_ns = 0 };

	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		take_if_older(&guest->shards[i], &oldest, &out->shard);
		if (in_context)
			take_if_older(&in_context[i], &oldest, &out->shard);
	}
	*t0_ns = oldest.t0_ns;
	if (find_stalled(guest, oldest.t0_ns, now_ns, out, t0_ns))
		return true;
	if (oldest.t0_ns == 0)
		return false;
	complete(guest, &oldest, now_ns, out);
	return true;
}

int fln_guest_oldest_fault(struct fln_guest *guest, struct fln_oldest_fault *out)
{
	FLN_UNCANCELLABLE;
	struct fln_oldest_fault full;
	uint64_t t0_ns = 0;
	int rc = FLN_CALL_REFUSED(guest, out);

	if (rc == 0)
		rc = fln_out_check(out, "fln_oldest_fault");
	if (rc)
		return rc;
	if (!fln_oldest_find(guest, fln_now_ns(), &full, &t0_ns))
		return 0;
	(void)fln_out_copy(out, &full, sizeof(full), "fln_oldest_fault");
	return 1;
}
