/* SPDX-License-Identifier: MIT */
/*
 * Letting go of a guest whose memory has all been released.
 *
 * All its blocks are RELEASED in the maps, for good.  So no worker installs anything for it any
 * more, and no fault or event of its memory can come.  Threads that had raised an event before
 * continue first: closing our descriptor lets them go on only if nobody else has another one.  A
 * thread in fln_resolve() that has looked a block up before it was RELEASED leaves its read section,
 * and then a PASS ends what it has asked of a worker.  Jobs end before that, because they hand
 * shards around, and a PASS is of the workers that have them now; a caller of fln_guest_populate()
 * whose job ends so finds its range released.
 *
 * A foreign process may have registered more memory than there are regions, and once its
 * userfaultfd is closed none can be added.  So its guest is let go only after
 * fln_guest_release(), which says that all regions have been added.
 *
 * Tested by integration.release, integration.release_life.
 */
#include "engine/life/let_go.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/context/shards.h"
#include "engine/event_queue.h"
#include "engine/jobs.h"
#include "engine/life/guest_shards.h"
#include "engine/life/pins.h"
#include "engine/release_maps.h"
#include "engine/released.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/strays.h"
#include "engine/turn.h"
#include "engine/uffd.h"

#include <errno.h>
#include <faultlane/event.h>
#include <stdatomic.h>
#include <stdbool.h>

/* How long events may stay unread before this is given up for now. */
#define PATIENCE_NS (200 * FLN_NS_PER_MS)
#define NAP_NS (200 * FLN_NS_PER_US)

/* Does some memory depend on a userfaultfd of these, by what mremap() has done to it? */
static bool has_kept_open(const struct fln_guest *guest)
{
	const struct fln_shard *in_context = fln_context_shards(guest);
	bool kept = false;

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		kept |= atomic_load_explicit(&guest->shards[i].keep_open, memory_order_relaxed);
		kept |= in_context &&
			atomic_load_explicit(&in_context[i].keep_open, memory_order_relaxed);
	}
	return kept;
}

static bool may_let_go(struct fln_guest *guest)
{
	bool released;

	if (!guest->running || guest->stopped || guest->release.closed)
		return false;
	/* Memory may be registered for which a region is still to come. */
	if (guest->foreign && !guest->release.is_complete && !fln_planted(FLN_BUG_LET_GO_EARLY))
		return false;
	/* Pages that a foreign process has moved are poisoned one by one, as they are touched. */
	if (guest->foreign && atomic_load(&guest->has_strays))
		return false;
	if (has_kept_open(guest))
		return false;
	fln_rcu_read_lock();
	released = fln_guest_all_released(guest);
	fln_rcu_read_unlock();
	return released;
}

/*
 * What mremap() has moved or grown is still registered, and must be inaccessible first.  False: it
 * is not yet.
 */
static bool close_strays(struct fln_guest *guest)
{
	for (struct fln_region *r = guest->regions; r; r = r->next)
		fln_region_deny_grown(r);
	fln_children_close(guest);
	return fln_strays_deny_again(guest) &&
	       atomic_load_explicit(&guest->nr_children, memory_order_acquire) == 0;
}

/* Does a thread wait where no region is?  One is added yet, or the fault ends in time. */
static bool awaits_region(const struct fln_guest *guest)
{
	struct fln_shard *shard = &guest->shards[0];

	return guest->foreign && shard->worker &&
	       fln_worker_command(shard->worker, FLN_COMMAND_PASS, shard) != 0;
}

/*
 * The kernel refuses calls on a userfaultfd from the moment that a thread has begun to discard or
 * unmap memory of it until that thread has gone on.
 */
static bool events_have_ended(const struct fln_guest *guest, struct fln_shard *shards)
{
	uint64_t until = fln_now_ns() + PATIENCE_NS;

	for (uint32_t i = 0; shards && i < guest->nr_shards; i++) {
		struct fln_uffd *u = &shards[i].uffd;

		/* The workers read them. */
		while (u->fd >= 0 &&
		       fln_uffd_place(u, guest->regions->addr) == FLN_UFFD_PLACE_UNKNOWN) {
			if (fln_now_ns() > until)
				return false;
			fln_sleep_ns(NAP_NS);
		}
	}
	return true;
}

/* May the userfaultfds be closed now, of a guest that may be let go? */
static bool is_ready(struct fln_guest *guest)
{
	return close_strays(guest) && !awaits_region(guest) &&
	       events_have_ended(guest, guest->shards) &&
	       events_have_ended(guest, fln_context_shards(guest));
}

static void post_released(struct fln_guest *guest)
{
	struct fln_event event = FLN_EVENT_INIT;

	if (guest->release.told)
		return;
	guest->release.told = true;
	event.kind = FLN_EVENT_GUEST_RELEASED;
	event.guest = guest;
	fln_event_post(&guest->engine->events, &event);
}

bool fln_guest_let_go(struct fln_guest *guest)
{
	struct fln_shard *in_context = fln_context_shards(guest);
	bool entered, may, closed;

	fln_guest_assert_turn(guest);
	entered = fln_rcu_enter();
	may = may_let_go(guest);
	closed = may && is_ready(guest);
	if (!closed || has_kept_open(guest)) {
		fln_rcu_leave(entered);
		return closed || !may;
	}
	fln_jobs_close(guest);
	/*
	 * Threads that looked a block up before it was RELEASED have ended after this: no install is
	 * under way, and pages are asked for no more.
	 */
	fln_rcu_synchronize();
	fln_rcu_leave(entered);
	/*
	 * What they have asked for ends, and so do faults that are held, or were read before the last
	 * block was released.
	 */
	fln_guest_pass_workers(guest);
	fln_shards_detach(guest->shards, guest->nr_shards);
	fln_context_detach(guest);
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		(void)fln_shard_close(&guest->shards[i]);
		if (in_context)
			(void)fln_shard_close(&in_context[i]);
	}
	for (struct fln_region *r = guest->regions; r; r = r->next)
		fln_release_recount(r);
	guest->release.closed = true;
	post_released(guest);
	return true;
}

int fln_guest_take_back(struct fln_guest *guest)
{
	int rc;

	fln_guest_assert_turn(guest);
	if (!guest->release.closed)
		return 0;
	if (guest->foreign)
		return fln_fail(EINVAL,
				"region: guest %s was released, and its userfaultfd is closed; "
				"hand over another one, for another guest",
				guest->name);
	rc = fln_guest_open_shards(guest, 0);
	if (rc == 0)
		rc = fln_context_reopen(guest);
	if (rc == 0)
		rc = fln_guest_attach_shards(guest);
	if (rc) {
		for (uint32_t i = 0; i < guest->nr_shards; i++)
			fln_uffd_close(&guest->shards[i].uffd);
		fln_context_close_uffds(guest);
		return rc;
	}
	guest->release.closed = false;
	fln_jobs_open(guest);
	return 0;
}

/* @ctx: ids from this one on have been looked at. */
static bool is_next_due(struct fln_guest *guest, void *ctx)
{
	const uint64_t *before = ctx;

	return guest->id < *before && atomic_exchange(&guest->release.is_due, false);
}

/* What failed for now is due again; the guard calls the ender every second while something is. */
void fln_guests_let_go(struct fln_engine *engine)
{
	struct fln_guest *guest;
	uint64_t before = UINT64_MAX;

	while ((guest = fln_engine_pin(engine, is_next_due, &before)) != NULL) {
		before = guest->id;
		fln_guest_take_turn(guest);
		if (!fln_guest_let_go(guest))
			atomic_store(&guest->release.is_due, true);
		fln_guest_give_turn(guest);
		fln_engine_unpin(engine, guest);
	}
}
