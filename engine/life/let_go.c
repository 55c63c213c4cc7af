/* SPDX-License-Identifier: MIT */
/*
 * Letting go of a guest whose memory has all been released.
 *
 * All its blocks are RELEASED in the maps, for good.  So no worker installs anything for it any
 * more, no fault can come, and events that are unread do not matter: their threads continue when
 * the userfaultfds are closed.  A thread in fln_resolve() that has looked a block up before it was
 * RELEASED has left its read section before they are closed.  Jobs end, because they hand shards
 * around; a caller of fln_guest_populate() whose job ends so finds its range released.
 *
 * Tested by integration.release, integration.release_life.
 */
#include "engine/life/let_go.h"

#include "base/error.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/context/shards.h"
#include "engine/event_queue.h"
#include "engine/jobs.h"
#include "engine/life/guest_shards.h"
#include "engine/life/pins.h"
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

bool fln_guest_let_go(struct fln_guest *guest)
{
	struct fln_shard *in_context = fln_context_shards(guest);
	struct fln_event event = FLN_EVENT_INIT;
	bool entered, may, closed;

	fln_guest_assert_turn(guest);
	entered = fln_rcu_enter();
	may = may_let_go(guest);
	closed = may && close_strays(guest);
	if (!closed || has_kept_open(guest)) {
		fln_rcu_leave(entered);
		return closed || !may;
	}
	fln_jobs_close(guest);
	/* Faults that are held end, and so does what was read before the last block was released. */
	fln_guest_pass_workers(guest);
	fln_shards_detach(guest->shards, guest->nr_shards);
	fln_context_detach(guest);
	fln_rcu_synchronize();
	fln_rcu_leave(entered);
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		(void)fln_shard_close(&guest->shards[i]);
		if (in_context)
			(void)fln_shard_close(&in_context[i]);
	}
	guest->release.closed = true;
	event.kind = FLN_EVENT_GUEST_RELEASED;
	event.guest = guest;
	fln_event_post(&guest->engine->events, &event);
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
