/* SPDX-License-Identifier: MIT */
/*
 * Failed pages, and faults that wait for something other than contents.
 *
 * A fault that finds its page FAILED or its source late goes through decide(): POISON, RETRY or
 * PAUSE.  A fault that pauses is held; when it is due it comes here again, to ask the source
 * (NEXT_RETRY) or the embedder (NEXT_ASK).  A retry for which no fill is free is repeated
 * (NEXT_STARVED) until it is late.
 */
#include "engine/failure.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "engine/command.h"
#include "engine/event_queue.h"
#include "engine/release_case.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_ready.h"
#include "sources/image_want.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>

#define RETRY_PAUSE_NS FLN_NS_PER_S
#define WAIT_PAUSE_NS (100 * FLN_NS_PER_MS)
#define STARVED_PAUSE_NS FLN_NS_PER_MS /* the first; each is twice the one before */
#define STARVED_DOUBLINGS 7u
#define STARVED_REPORT_NS FLN_NS_PER_S
#define AGAIN_REPORT_NS (10 * FLN_NS_PER_S)

int fln_failure_check_opts(const struct fln_guest_opts *o)
{
	if (o->on_failure >= FLN_ON_FAILURE_NR)
		return fln_fail(EINVAL, "guest: on_failure is %u, which is none of fln_on_failure",
				o->on_failure);
	if (o->on_failure == FLN_ON_FAILURE_ASK) {
		if (!o->ask)
			return fln_fail(EINVAL, "guest: FLN_ON_FAILURE_ASK needs ask");
		if (o->max_failures)
			return fln_fail(EINVAL,
					"guest: max_failures is %u with FLN_ON_FAILURE_ASK; set it "
					"to 0: ask counts for itself",
					o->max_failures);
		return 0;
	}
	if (o->ask || o->ask_ctx)
		return fln_fail(EINVAL, "guest: ask is set without FLN_ON_FAILURE_ASK");
	return 0;
}

void fln_failure_tell(const struct fln_region *region, uint64_t addr, int error)
{
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_PAGE_POISONED;
	event.error = error;
	event.guest = region->guest;
	event.image = region->image;
	event.value = addr;
	fln_event_post(&region->guest->engine->events, &event);
}

void fln_failure_tell_stray(struct fln_guest *guest, uint64_t addr)
{
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_PAGE_POISONED;
	event.error = -ENOENT;
	event.guest = guest;
	event.value = addr;
	fln_event_post(&guest->engine->events, &event);
}

bool fln_guest_fail(struct fln_guest *guest, int error)
{
	struct fln_engine *engine = guest->engine;
	struct fln_event event = FLN_EVENT_INIT;

	if (atomic_exchange(&guest->failed, true))
		return false;
	event.kind = FLN_EVENT_GUEST_FAILED;
	event.error = error;
	event.guest = guest;
	fln_event_post(&engine->events, &event);
	for (uint32_t i = 0; engine->workers && i < engine->opts.nr_workers; i++)
		fln_worker_kick(&engine->workers[i]);
	return true;
}

bool fln_fault_is_late(const struct fln_worker *w, const struct fln_fault *fault)
{
	uint64_t since = fault->since_ns ? fault->since_ns : fault->t0_ns;

	return w->opts.source_timeout_ns != UINT64_MAX &&
	       fln_is_over(since, w->looked_ns, w->opts.source_timeout_ns);
}

static void stop_guest(struct fln_worker *w, const struct fln_region *region, uint64_t addr,
		       int error)
{
	if (fln_guest_fail(region->guest, error))
		fln_log(&w->opts.log, FLN_LOG_ERROR,
			"guest %s has failed: the page at 0x%llx is unavailable; unfilled pages are "
			"poisoned from now on",
			region->guest->name, (unsigned long long)addr);
}

void fln_failure_refused(struct fln_worker *w, const struct fln_region *region, uint64_t addr)
{
	if (region->guest->on_failure == FLN_ON_FAILURE_STOP)
		stop_guest(w, region, addr, -EINVAL);
}

static void pause_until(struct fln_fault *fault, uint64_t until_ns, enum fln_next next)
{
	fault->not_before_ns = until_ns;
	fault->next = next;
}

static enum fln_answer ask(const struct fln_region *region, struct fln_fault *fault,
			   uint64_t image_page)
{
	const struct fln_guest *guest = region->guest;
	struct fln_failure failure = {
		.size = sizeof(failure),
		.guest = region->guest,
		.addr = fault->addr,
		.image_offset_bytes = fln_pages_to_bytes(image_page),
		.image = region->image,
		.nr_attempts = fault->nr_failures,
		.nr_asked = ++fault->nr_asked,
	};

	fln_lock_assert_none(); /* I2: this is the embedder's code */
	return guest->ask(guest->ask_ctx, &failure);
}

enum verdict {
	POISON,
	RETRY,
	PAUSE
};

/* The page has failed once more or, with @again, is still FAILED after a pause. */
static enum verdict decide(struct fln_worker *w, const struct fln_region *region,
			   struct fln_fault *fault, uint64_t image_page, int error, bool again,
			   uint64_t now_ns)
{
	struct fln_guest *guest = region->guest;

	if (!again)
		fault->nr_failures++;
	if (guest->on_failure != FLN_ON_FAILURE_ASK) {
		if (fault->nr_failures < guest->max_failures) {
			pause_until(fault, now_ns + RETRY_PAUSE_NS, FLN_NEXT_RETRY);
			return PAUSE;
		}
		if (guest->on_failure == FLN_ON_FAILURE_STOP)
			stop_guest(w, region, fault->addr, error);
		return POISON;
	}
	switch (ask(region, fault, image_page)) {
	case FLN_ANSWER_RETRY:
		return RETRY;
	case FLN_ANSWER_WAIT:
		pause_until(fault, now_ns + WAIT_PAUSE_NS, FLN_NEXT_ASK);
		return PAUSE;
	case FLN_ANSWER_STOP:
		stop_guest(w, region, fault->addr, error);
		return POISON;
	default:
		return POISON;
	}
}

/*
 * Request the page's fill.  Return: 0, and the fault is to be held for *reason; or why the page has
 * failed.
 */
static int request_page(struct fln_worker *w, const struct fln_region *region,
			struct fln_fault *fault, uint64_t image_page, uint32_t fill_pages,
			enum fln_next next, uint64_t now_ns, enum fln_held_reason *reason)
{
	struct fln_image *image = region->image;
	struct fln_image_want want = { .fill_pages = fill_pages };
	uint64_t block = fln_region_page_of(region, fault->addr) / FLN_BLOCK_PAGES;
	/* A caller that says how much to fill means just that. */
	bool rest = fill_pages == 0 && fln_release_wants_rest(region, block);

	if (rest)
		want.fill_pages = FLN_BLOCK_PAGES;

	want.retry = next == FLN_NEXT_RETRY || next == FLN_NEXT_STARVED;
	if (next == FLN_NEXT_RETRY)
		fault->since_ns = now_ns; /* the source is not late for the pause */
	/*
	 * Only a source can be late: pages of an image without one may be pushed at any time.  A
	 * starved retry is late, too, or it would wait for ever for the fills of a hung source.
	 */
	if (fault->held && image->can_be_late && fln_fault_is_late(w, fault) &&
	    (want.retry || fln_image_due(image, image_page) != FLN_IMAGE_FAILED))
		return -ETIMEDOUT;
	switch (fln_image_want(image, image_page, w->opts.index, &want)) {
	case FLN_IMAGE_IS_FAILED:
		return -EIO;
	case FLN_IMAGE_IS_READY:
		*reason = FLN_HELD_AGAIN;
		return 0;
	case FLN_IMAGE_IS_STARVED:
		pause_until(fault, now_ns, FLN_NEXT_STARVED);
		*reason = FLN_HELD_PAUSE;
		return 0;
	default:
		if (rest)
			fln_image_fill_rest(image, image_page);
		fault->nr_let_go = want.nr_let_go;
		*reason = FLN_HELD_FILL;
		return 0;
	}
}

static void log_late(struct fln_worker *w, const struct fln_region *region, uint64_t image_page,
		     uint64_t late_ns)
{
	fln_log_limited(&w->opts.log, &region->guest->late_limit, FLN_LOG_ERROR,
			"guest %s: image %s: page %llu was not delivered by its source in %llu ms",
			region->guest->name, region->image->name, (unsigned long long)image_page,
			(unsigned long long)(late_ns / FLN_NS_PER_MS));
}

bool fln_failure_must_poison(struct fln_worker *w, struct fln_region *region,
			     struct fln_fault *fault, uint64_t image_page, uint32_t fill_pages,
			     uint64_t now_ns, enum fln_held_reason *reason, int *error)
{
	enum fln_next next = fault->next;

	*error = -EIO;
	if (atomic_load_explicit(&region->guest->failed, memory_order_relaxed))
		return true;
	if (fault->not_before_ns > now_ns) {
		*reason = FLN_HELD_PAUSE;
		return false;
	}
	for (;;) {
		fault->next = FLN_NEXT_REQUEST;
		*error = request_page(w, region, fault, image_page, fill_pages, next, now_ns,
				      reason);
		if (*error == 0)
			return false;
		if (*error == -ETIMEDOUT && next != FLN_NEXT_ASK)
			log_late(w, region, image_page, now_ns - fault->t0_ns);
		switch (decide(w, region, fault, image_page, *error, next == FLN_NEXT_ASK,
			       now_ns)) {
		case POISON:
			return true;
		case PAUSE:
			*reason = FLN_HELD_PAUSE;
			return false;
		case RETRY:
		default:
			/* Bounded: a retried page is neither FAILED nor late. */
			if (next == FLN_NEXT_RETRY)
				return true;
			next = FLN_NEXT_RETRY;
		}
	}
}

/* Log what a fault that is retried for so long waits for. */
static void log_long_wait(struct fln_worker *w, const struct fln_shard *shard,
			  const struct fln_fault *fault, bool no_memory, bool claimed,
			  uint64_t waits_ns)
{
	const char *why =
		no_memory ? "the kernel has no memory for page tables or pages, or the file system "
			    "of an adopted file is full; free memory, or raise the limit of the "
			    "cgroup or the file system"
		: claimed ? "another thread has claimed the page to map it and has not finished"
			  : "installs are put off until the thread that discards, unmaps, moves or "
			    "forks memory of this shard has run again, and it has not";

	fln_log_limited(
		&w->opts.log, &shard->guest->log_limit, FLN_LOG_WARNING,
		"guest %s: shard %u: the page at 0x%llx has waited for %llu s to be mapped: "
		"%s; tried again",
		shard->guest->name, shard->index, (unsigned long long)fault->addr,
		(unsigned long long)(waits_ns / FLN_NS_PER_S), why);
}

enum fln_held_reason fln_fault_again(struct fln_worker *w, struct fln_shard *shard,
				     struct fln_fault *fault, bool no_memory, bool claimed,
				     uint64_t now_ns)
{
	uint64_t report_ns = no_memory ? STARVED_REPORT_NS : AGAIN_REPORT_NS;

	if (fault->again_since_ns == 0)
		fault->again_since_ns = now_ns;
	if (!fault->reported && fln_is_over(fault->again_since_ns, now_ns, report_ns)) {
		fault->reported = true;
		if (no_memory)
			fln_count(&shard->count.no_memory, fault->nr);
		log_long_wait(w, shard, fault, no_memory, claimed, now_ns - fault->again_since_ns);
	}
	fault->claimed = claimed;
	if (!no_memory) {
		fault->nr_starved = 0;
		return FLN_HELD_AGAIN;
	}
	fault->not_before_ns = now_ns + (STARVED_PAUSE_NS << fault->nr_starved);
	if (fault->nr_starved < STARVED_DOUBLINGS)
		fault->nr_starved++;
	return FLN_HELD_MEMORY;
}

void fln_guard_end_guest(struct fln_guest *guest, int error)
{
	(void)fln_guest_fail(guest, error);
	atomic_store(&guest->must_stop, true);
	fln_guard_call(&guest->engine->guard);
}
