/* SPDX-License-Identifier: MIT */
/*
 * The ender's work, one guest after another, and the life cycle of its thread.
 *
 * The work runs on the ender's thread; on the guard's if no thread can be created; and what is
 * left at the end, on the thread that calls fln_ender_stop().  Never on two at a time.
 *
 * Only two callers wait for the ender: fln_engine_stop(), and fln_guest_destroy() of a guest that
 * the ender is stopping at that moment.
 *
 * Tested by unit.guard, integration.destroy_async.
 */
#include "engine/life/ender.h"

#include "base/lock.h"
#include "base/log.h"
#include "base/rcu.h"
#include "base/thread.h"
#include "engine/event_queue.h"
#include "engine/life/pins.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/strays.h"
#include "engine/turn.h"

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

void fln_ender_init(struct fln_ender *ender)
{
	fln_lock_init(&ender->lock, FLN_RANK_LEAF);
	fln_cond_init(&ender->wake);
	ender->last_leaving = &ender->leaving;
}

void fln_ender_deinit(struct fln_ender *ender)
{
	(void)pthread_cond_destroy(&ender->wake);
	fln_lock_deinit(&ender->lock);
}

void fln_ender_open(struct fln_ender *ender)
{
	fln_lock(&ender->lock);
	ender->takes = true;
	ender->stopping = ender->called = false;
	fln_unlock(&ender->lock);
}

bool fln_ender_take(struct fln_ender *ender, struct fln_guest *guest, uint64_t cookie)
{
	bool takes;

	fln_lock(&ender->lock);
	takes = ender->takes;
	if (takes) {
		guest->cookie = cookie;
		guest->next_leaving = NULL;
		*ender->last_leaving = guest;
		ender->last_leaving = &guest->next_leaving;
	}
	fln_unlock(&ender->lock);
	return takes;
}

void fln_ender_end(struct fln_guest *guest, uint64_t cookie)
{
	struct fln_event_queue *events = &guest->engine->events;
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_GUEST_DESTROYED;
	event.guest = guest;
	event.value = cookie;
	event.error = fln_guest_stop(guest);
	(void)fln_guest_destroy(guest);
	fln_event_post(events, &event);
}

static bool has_children(const struct fln_guest *guest)
{
	return atomic_load_explicit(&guest->nr_children, memory_order_acquire) > 0;
}

/* Can the guest no longer be served?  True only once: the caller must then stop it. */
static bool take_must_stop(struct fln_guest *guest, void *ctx)
{
	(void)ctx;
	return atomic_exchange(&guest->must_stop, false);
}

/* @ctx: guests with this id or a higher one have been looked at. */
static bool is_next_parent(struct fln_guest *guest, void *ctx)
{
	const uint64_t *before = ctx;

	return guest->id < *before && has_children(guest);
}

static void stop_unserved_guests(struct fln_engine *engine)
{
	struct fln_guest *guest;

	while ((guest = fln_engine_pin(engine, take_must_stop, NULL)) != NULL) {
		int rc = fln_guest_stop(guest);

		fln_log(&engine->log, rc ? FLN_LOG_ERROR : FLN_LOG_WARNING,
			"guest %s could no longer be served and has been stopped: %s", guest->name,
			rc ? fln_last_error() : "its unfilled pages are inaccessible");
		fln_engine_unpin(engine, guest);
	}
}

static void close_children(struct fln_engine *engine)
{
	struct fln_guest *guest;
	uint64_t before = UINT64_MAX;

	while ((guest = fln_engine_pin(engine, is_next_parent, &before)) != NULL) {
		before = guest->id;
		fln_guest_take_turn(guest);
		fln_children_close(guest);
		fln_guest_give_turn(guest);
		fln_engine_unpin(engine, guest);
	}
}

/* Destroy the guest that was taken first.  False: none is left. */
static bool end_first(struct fln_ender *ender)
{
	struct fln_guest *guest;
	uint64_t cookie = 0;

	fln_lock(&ender->lock);
	guest = ender->leaving;
	if (guest) {
		cookie = guest->cookie;
		ender->leaving = guest->next_leaving;
		if (!ender->leaving)
			ender->last_leaving = &ender->leaving;
	}
	fln_unlock(&ender->lock);
	if (guest)
		fln_ender_end(guest, cookie);
	return guest != NULL;
}

/*
 * Destroying a guest takes long.  So before each one, stop failed guests and close children, rather
 * than have them wait until all queued guests are destroyed.
 */
static void do_all(struct fln_engine *engine)
{
	do {
		stop_unserved_guests(engine);
		close_children(engine);
	} while (end_first(&engine->ender));
}

static bool has_work(struct fln_engine *engine)
{
	bool has;

	fln_lock(&engine->ender.lock);
	has = engine->ender.leaving != NULL;
	fln_unlock(&engine->ender.lock);
	fln_lock(&engine->lock);
	for (struct fln_guest *g = engine->guests; g && !has; g = g->next)
		has = atomic_load_explicit(&g->must_stop, memory_order_relaxed) || has_children(g);
	fln_unlock(&engine->lock);
	return has;
}

static void *ender_main(void *arg)
{
	struct fln_engine *engine = arg;
	struct fln_ender *ender = &engine->ender;
	struct fln_thread_before before;
	bool entered, stopping;

	fln_thread_begin(&before, FLN_THREAD_ENDER, 0);
	entered = fln_rcu_enter();
	do {
		fln_lock(&ender->lock);
		while (!ender->called && !ender->stopping)
			fln_cond_wait(&ender->wake, &ender->lock);
		ender->called = false;
		stopping = ender->stopping;
		fln_unlock(&ender->lock);
		do_all(engine);
	} while (!stopping);
	fln_rcu_leave(entered);
	fln_thread_end(&before);
	return NULL;
}

void fln_ender_call(struct fln_engine *engine)
{
	struct fln_ender *ender = &engine->ender;

	if (!has_work(engine))
		return;
	if (!ender->runs)
		ender->runs = fln_thread_create(&ender->thread, engine->opts.thread_hooks,
						FLN_THREAD_ENDER, 0, ender_main, engine) == 0;
	if (!ender->runs) {
		do_all(engine);
		return;
	}
	fln_lock(&ender->lock);
	ender->called = true;
	(void)pthread_cond_signal(&ender->wake);
	fln_unlock(&ender->lock);
}

void fln_ender_stop(struct fln_engine *engine)
{
	struct fln_ender *ender = &engine->ender;

	fln_lock(&ender->lock);
	ender->takes = false; /* from now on fln_guest_destroy_async() destroys the guest itself */
	ender->stopping = true;
	(void)pthread_cond_signal(&ender->wake);
	fln_unlock(&ender->lock);
	if (ender->runs)
		fln_thread_join(&ender->thread);
	ender->runs = false;
	do_all(engine);
}
