/* SPDX-License-Identifier: MIT */
/*
 * The life cycle of guests: fln_guest_create() to fln_guest_destroy().  The public calls take the
 * guest's turn, so they run one after the other, on the caller's thread, and may block.
 *
 * Tested by integration.bad_input, integration.life_calls.
 */
#include "engine/state/guest.h"
#include "base/alloc.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/lock.h"
#include "engine/advised.h"
#include "engine/calls/node_stats.h"
#include "engine/command.h"
#include "engine/context/registry.h"
#include "engine/context/shards.h"
#include "engine/density.h"
#include "engine/directory.h"
#include "engine/failure.h"
#include "engine/jobs.h"
#include "engine/life/closing.h"
#include "engine/life/deny.h"
#include "engine/life/ender.h"
#include "engine/life/features.h"
#include "engine/life/guest_shards.h"
#include "engine/life/region.h"
#include "engine/release_ask.h"
#include "engine/state/engine.h"
#include "engine/state/worker.h"
#include "engine/strays.h"
#include "engine/turn.h"
#include "engine/uffd.h"
#include "engine/uffd_open.h"
#include "engine/window.h"
#include "sharding/stripes.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MAX_SHARDS 1024u
#define RETIRED_F_FORK 0x2u

static int check_opts(const struct fln_guest_opts *o)
{
	uint64_t known = FLN_GUEST_F_FOREIGN | FLN_GUEST_F_KVM;

	if (o->flags & RETIRED_F_FORK)
		return fln_fail(
			EINVAL,
			"guest: flag 0x%x (FLN_GUEST_F_FORK) is no longer supported: forked "
			"children do not inherit guest memory; leave it out, and make a "
			"separate guest for memory that a child needs",
			RETIRED_F_FORK);
	if (o->flags & ~known)
		return fln_fail(EINVAL, "guest: flags has unknown bits 0x%llx; leave them out",
				(unsigned long long)(o->flags & ~known));
	if (o->nr_shards > MAX_SHARDS)
		return fln_fail(EINVAL, "guest: nr_shards is %u; use at most %u", o->nr_shards,
				MAX_SHARDS);
	if (o->release >= FLN_RELEASE_NR)
		return fln_fail(EINVAL, "guest: release is %u; use one of enum fln_release",
				o->release);
	if (fln_failure_check_opts(o) != 0)
		return -EINVAL;
	if (!(o->flags & FLN_GUEST_F_FOREIGN)) {
		if (o->foreign_uffd)
			return fln_fail(
				EINVAL,
				"guest: foreign_uffd is %d without FLN_GUEST_F_FOREIGN; set "
				"the flag, or set foreign_uffd to 0",
				o->foreign_uffd);
		return 0;
	}
	if (o->nr_shards > 1)
		return fln_fail(EINVAL,
				"guest: nr_shards is %u; a foreign guest has one shard, use 0 or 1",
				o->nr_shards);
	return fln_uffd_check_fd(o->foreign_uffd);
}

static void free_guest(struct fln_guest *guest)
{
	const struct fln_allocator *a = &guest->engine->alloc;

	fln_free(a, guest->density, sizeof(*guest->density), FLN_NODE_ANY);
	fln_free(a, guest->shards, guest->nr_shards * sizeof(*guest->shards), FLN_NODE_ANY);
	fln_context_close(guest);
	fln_free(a, guest, sizeof(*guest), FLN_NODE_ANY);
}

static uint32_t choose_nr_shards(const struct fln_engine *engine, const struct fln_guest_opts *o)
{
	if (o->flags & FLN_GUEST_F_FOREIGN)
		return 1;
	if (o->nr_shards)
		return o->nr_shards;
	return fln_default_nr_shards(o->nr_vcpus ? o->nr_vcpus : FLN_GUEST_DEFAULT_VCPUS,
				     engine->opts.nr_workers);
}

/* Where pages are copied, windows follow the density of touches, unless the caller set them. */
static int choose_windows(struct fln_guest *guest, const struct fln_guest_opts *o)
{
	bool kvm = o->flags & FLN_GUEST_F_KVM;
	uint32_t first =
		kvm ? fln_window_first_kvm(o->window_first, o->window_max) : o->window_first;
	int rc = fln_window_policy_init(&guest->window, first, o->window_max);

	if (rc || !guest->foreign || o->window_first)
		return rc;
	guest->density = fln_zalloc(&guest->engine->alloc, sizeof(*guest->density), FLN_NODE_ANY);
	if (!guest->density)
		return fln_fail(ENOMEM, "no memory for a foreign guest's windows");
	fln_density_init(guest->density, o->window_max, kvm);
	return 0;
}

static int refuse_while_stopping(struct fln_engine *engine)
{
	bool stopping;

	fln_lock(&engine->lock);
	stopping = engine->stopping;
	fln_unlock(&engine->lock);
	return stopping ? fln_fail(EBUSY, "guest: the engine is being stopped; wait until "
					  "fln_engine_stop() has returned")
			: 0;
}

int fln_guest_create(struct fln_engine *engine, const struct fln_guest_opts *opts,
		     struct fln_guest **out)
{
	FLN_UNCANCELLABLE;
	struct fln_guest_opts o;
	struct fln_guest *guest;
	int rc = FLN_CALL_REFUSED(engine, out);

	if (rc)
		return rc;
	rc = fln_opts_copy(&o, sizeof(o), opts, "fln_guest_opts");
	if (rc == 0)
		rc = check_opts(&o);
	if (rc)
		return rc;
	guest = fln_zalloc(&engine->alloc, sizeof(*guest), FLN_NODE_ANY);
	if (!guest)
		return fln_fail(ENOMEM, "no memory for a guest");
	guest->engine = engine;
	(void)snprintf(guest->name, sizeof(guest->name), "%s", o.name ? o.name : "guest");
	guest->foreign = o.flags & FLN_GUEST_F_FOREIGN;
	guest->on_failure = o.on_failure ? o.on_failure : FLN_ON_FAILURE_POISON;
	guest->max_failures = o.max_failures ? o.max_failures : 1;
	guest->ask = o.ask;
	guest->ask_ctx = o.ask_ctx;
	guest->release_default = (enum fln_release)o.release;
	guest->nr_shards = choose_nr_shards(engine, &o);
	guest->turn_no = atomic_fetch_add(&engine->next_worker, guest->nr_shards);
	rc = choose_windows(guest, &o);
	if (rc)
		goto fail;
	rc = fln_fail(ENOMEM, "no memory for a guest of %u shards", guest->nr_shards);
	guest->shards =
		fln_zalloc(&engine->alloc, guest->nr_shards * sizeof(*guest->shards), FLN_NODE_ANY);
	if (!guest->shards)
		goto fail;
	rc = refuse_while_stopping(engine);
	if (rc == 0 && !guest->foreign)
		rc = fln_engine_check_features(engine);
	if (rc == 0)
		rc = fln_guest_open_shards(guest, o.foreign_uffd);
	if (rc)
		goto fail;
	fln_lock_init(&guest->lock, FLN_RANK_GUEST);
	fln_turn_init(&guest->turn);
	fln_jobs_init(&guest->jobs);
	fln_guest_release_init(&guest->release);
	fln_lock(&engine->lock);
	guest->id = ++engine->nr_guests_made;
	guest->next = engine->guests;
	engine->guests = guest;
	fln_unlock(&engine->lock);
	*out = guest;
	return 0;
fail:
	free_guest(guest);
	return rc;
}

static int start_in_turn(struct fln_guest *guest)
{
	struct fln_engine *engine = guest->engine;
	bool engine_runs;
	int rc;

	if (guest->stopped)
		return fln_fail(EINVAL,
				"guest %s was stopped and cannot be restarted; create a new one",
				guest->name);
	if (guest->running)
		return 0;
	/* If fln_engine_stop() begins after this check, it waits for this turn to end. */
	fln_lock(&engine->lock);
	engine_runs = engine->running && !engine->stopping;
	fln_unlock(&engine->lock);
	if (!engine_runs)
		return fln_fail(
			EINVAL,
			"guest %s: the engine is not running; call fln_engine_start() first",
			guest->name);
	rc = fln_guest_attach_shards(guest);
	if (rc)
		return rc;
	fln_lock(&guest->lock);
	guest->running = true;
	fln_unlock(&guest->lock);
	fln_jobs_open(guest);
	fln_release_look_now(guest);
	return 0;
}

int fln_guest_start(struct fln_guest *guest)
{
	FLN_UNCANCELLABLE;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	fln_guest_take_turn(guest);
	rc = start_in_turn(guest);
	fln_guest_give_turn(guest);
	return rc;
}

static int unsafe_error(const struct fln_guest *guest)
{
	return fln_fail(
		EIO,
		"guest %s: some unfilled pages can be neither poisoned nor protected; their "
		"userfaultfd stays open, and threads that touch them block forever; unmap "
		"them",
		guest->name);
}

/*
 * Close every region, then detach the shards, wake the waiters, and close the userfaultfds.  By
 * then every page that a woken thread can touch is either filled or inaccessible.
 */
static int stop_in_turn(struct fln_guest *guest)
{
	struct fln_shard *in_context = fln_context_shards(guest);
	bool kept = false;

	fln_jobs_close(guest);
	for (struct fln_region *r = guest->regions; r; r = r->next)
		(void)fln_region_close(r);
	fln_shards_detach(guest->shards, guest->nr_shards);
	fln_context_detach(guest);
	for (struct fln_region *r = guest->regions; r; r = r->next) {
		if (fln_region_close_rest(r) == 0) {
			fln_region_unregister(r);
			fln_region_vacate(r);
		}
		/* Waits for threads in fln_resolve(), so none installs through a closed descriptor. */
		if (r->in_context)
			fln_context_leave_region(r);
	}
	fln_guest_close_strays(guest);
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		fln_strays_close(&guest->shards[i]);
		kept |= fln_shard_close(&guest->shards[i]);
		if (in_context)
			kept |= fln_shard_close(&in_context[i]);
	}
	fln_children_close(guest);
	fln_lock(&guest->lock);
	guest->running = false;
	guest->stopped = true;
	guest->stop_result = kept ? -EIO : 0;
	fln_unlock(&guest->lock);
	return kept ? unsafe_error(guest) : 0;
}

int fln_guest_stop(struct fln_guest *guest)
{
	FLN_UNCANCELLABLE;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	fln_guest_take_turn(guest);
	if (!guest->stopped)
		rc = stop_in_turn(guest);
	else
		rc = guest->stop_result ? unsafe_error(guest) : 0;
	fln_guest_give_turn(guest);
	return rc;
}

/* The engine or the ender may be stopping the guest: wait until they have unpinned it. */
static void leave_engine(struct fln_guest *guest)
{
	struct fln_engine *engine = guest->engine;
	struct fln_guest **at;

	fln_lock(&engine->lock);
	while (guest->nr_pins > 0)
		fln_cond_wait(&engine->unpinned, &engine->lock);
	for (at = &engine->guests; *at != guest; at = &(*at)->next)
		;
	*at = guest->next;
	fln_nodes_depart(engine, guest);
	fln_unlock(&engine->lock);
}

int fln_guest_destroy(struct fln_guest *guest)
{
	FLN_UNCANCELLABLE;

	if (!guest)
		return 0;
	if (fln_forked)
		return fln_fork_refused("fln_guest_destroy");
	(void)fln_guest_stop(guest);
	leave_engine(guest);
	fln_directory_destroy(guest);
	fln_jobs_deinit(guest);
	while (guest->regions) {
		struct fln_region *r = guest->regions;

		guest->regions = r->next;
		fln_region_release(r);
	}
	fln_advised_deinit(guest);
	fln_guest_release_deinit(&guest->release);
	fln_turn_deinit(&guest->turn);
	fln_lock_deinit(&guest->lock);
	free_guest(guest);
	return 0;
}

int fln_guest_destroy_async(struct fln_guest *guest, uint64_t cookie)
{
	FLN_UNCANCELLABLE;
	struct fln_engine *engine;
	int rc = FLN_CALL_REFUSED(guest);
	bool taken;

	if (rc)
		return rc;
	engine = guest->engine;
	/* Under one lock: fln_engine_destroy() counts the guests that the ender has not taken. */
	fln_lock(&engine->lock);
	taken = fln_ender_take(&engine->ender, guest, cookie);
	if (taken) {
		guest->leaves = true;
		fln_guard_call(&engine->guard);
	}
	fln_unlock(&engine->lock);
	if (!taken)
		fln_ender_end(guest, cookie);
	return 0;
}

uint32_t fln_guest_nr_shards(const struct fln_guest *guest)
{
	return guest->nr_shards;
}
