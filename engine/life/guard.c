/* SPDX-License-Identifier: MIT */
/*
 * The guard's life cycle, and its check for stalls.
 *
 * A worker's beat is odd during a round and even while the worker waits for events, so workers
 * read no clock for it.  The same odd beat at two checks means that the worker has not finished
 * its round in between.
 *
 * The guard blocks only in its timed sleep and on briefly held locks, and only
 * fln_engine_stop() waits for it.  Long work is the ender's (ender.h).
 */
#include "engine/life/guard.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/rcu.h"
#include "base/thread.h"
#include "engine/event_queue.h"
#include "engine/life/ender.h"
#include "engine/oldest.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define INTERVAL_MAX_NS FLN_NS_PER_S
#define INTERVAL_MIN_NS (10 * FLN_NS_PER_MS)
#define MAX_REPORTS 8u /* guests reported per check; the next check reports the others */

void fln_guard_init(struct fln_guard *guard)
{
	fln_lock_init(&guard->lock, FLN_RANK_LEAF);
	fln_cond_init(&guard->wake);
}

void fln_guard_deinit(struct fln_guard *guard)
{
	(void)pthread_cond_destroy(&guard->wake);
	fln_lock_deinit(&guard->lock);
}

/* A guest whose oldest fault has stalled. */
struct report {
	char name[32];
	struct fln_oldest_fault fault;
};

static uint64_t stall_ns(const struct fln_engine *engine)
{
	return engine->opts.stall_report_ms == UINT32_MAX
		       ? UINT64_MAX
		       : engine->opts.stall_report_ms * FLN_NS_PER_MS;
}

/* Post an event for each stalled oldest fault that was not reported before; returns how many. */
static uint32_t find_stalled(struct fln_engine *engine, uint64_t now_ns,
			     struct report reports[MAX_REPORTS])
{
	uint32_t nr = 0;

	fln_lock(&engine->lock);
	for (struct fln_guest *g = engine->guests; g && nr < MAX_REPORTS; g = g->next) {
		struct fln_event event = FLN_EVENT_INIT;
		struct report *r = &reports[nr];
		uint64_t t0_ns = 0;

		if (!fln_oldest_find(g, now_ns, &r->fault, &t0_ns) ||
		    r->fault.age_ns < stall_ns(engine) || r->fault.addr == 0 ||
		    (g->told_t0_ns == t0_ns && g->told_addr == r->fault.addr))
			continue;
		g->told_t0_ns = t0_ns;
		g->told_addr = r->fault.addr;
		memcpy(r->name, g->name, sizeof(r->name));
		event.kind = FLN_EVENT_FAULT_STALLED;
		event.guest = g;
		event.value = r->fault.addr;
		fln_event_post(&engine->events, &event);
		nr++;
	}
	fln_unlock(&engine->lock);
	return nr;
}

static void report_faults(struct fln_engine *engine, uint64_t now_ns)
{
	struct report reports[MAX_REPORTS];
	uint32_t nr = find_stalled(engine, now_ns, reports);

	for (uint32_t i = 0; i < nr; i++) {
		const struct fln_oldest_fault *f = &reports[i].fault;
		char since[64] = "";

		if (f->waits_ns)
			(void)snprintf(since, sizeof(since), ", for %" PRIu64 " ms",
				       (uint64_t)(f->waits_ns / FLN_NS_PER_MS));
		fln_log_limited(&engine->log, &engine->guard.fault_limit, FLN_LOG_WARNING,
				"guest %s: the fault at 0x%" PRIx64 " (shard %u, worker %u) has "
				"waited for %" PRIu64 " ms; it waits for %s%s",
				reports[i].name, f->addr, f->shard, f->worker,
				(uint64_t)(f->age_ns / FLN_NS_PER_MS),
				fln_waits_for_name(f->waits_for), since);
	}
}

static void report_worker(struct fln_engine *engine, struct fln_worker *w, uint64_t age_ns)
{
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_WORKER_STALLED;
	event.value = w->opts.index;
	fln_event_post(&engine->events, &event);
	fln_log_limited(&engine->log, &engine->guard.worker_limit, FLN_LOG_WARNING,
			"worker %u has not finished a round for %" PRIu64 " ms: it is blocked in a "
			"system call or an embedder's callback, or starved of CPU time",
			w->opts.index, (uint64_t)(age_ns / FLN_NS_PER_MS));
}

static void check_worker(struct fln_engine *engine, struct fln_worker *w, uint64_t now_ns)
{
	uint64_t beat = atomic_load_explicit(&w->beat, memory_order_relaxed);

	if (beat != w->seen_beat || beat % 2 == 0) {
		w->seen_beat = beat;
		w->seen_ns = now_ns;
		w->told_stalled = false;
		atomic_store_explicit(&w->stalled_since_ns, 0, memory_order_relaxed);
		return;
	}
	atomic_store_explicit(&w->stalled_since_ns, w->seen_ns, memory_order_relaxed);
	if (w->told_stalled || now_ns - w->seen_ns < stall_ns(engine))
		return;
	w->told_stalled = true;
	report_worker(engine, w, now_ns - w->seen_ns);
}

void fln_guard_look(struct fln_engine *engine, uint64_t now_ns)
{
	fln_ender_call(engine);
	if (engine->opts.stall_report_ms == UINT32_MAX)
		return;
	for (uint32_t i = 0; engine->workers && i < engine->opts.nr_workers; i++)
		check_worker(engine, &engine->workers[i], now_ns);
	report_faults(engine, now_ns);
}

void fln_guard_resume(struct fln_engine *engine, uint64_t now_ns)
{
	fln_ender_call(engine);
	for (uint32_t i = 0; engine->workers && i < engine->opts.nr_workers; i++)
		engine->workers[i].seen_ns = now_ns;
}

/* Sleep between two checks; UINT64_MAX if stalls are not reported. */
static uint64_t interval_ns(const struct fln_engine *engine)
{
	uint64_t ns = stall_ns(engine) / 4;

	if (engine->opts.stall_report_ms == UINT32_MAX)
		return UINT64_MAX;
	ns = ns < INTERVAL_MAX_NS ? ns : INTERVAL_MAX_NS;
	return ns > INTERVAL_MIN_NS ? ns : INTERVAL_MIN_NS;
}

static void *guard_main(void *arg)
{
	struct fln_engine *engine = arg;
	struct fln_guard *guard = &engine->guard;
	uint64_t interval = interval_ns(engine), begun, now, next;
	struct fln_thread_before before;
	bool entered;

	fln_thread_begin(&before, FLN_THREAD_GUARD, 0);
	entered = fln_rcu_enter();
	fln_lock(&guard->lock);
	while (!guard->stopping) {
		begun = fln_now_ns();
		next = interval == UINT64_MAX ? UINT64_MAX : begun + interval;
		if (!guard->called)
			(void)fln_cond_wait_until(&guard->wake, &guard->lock, next);
		guard->called = false;
		if (guard->stopping)
			break;
		fln_unlock(&guard->lock);
		now = fln_now_ns();
		if (interval != UINT64_MAX && fln_stopped_ns(now - begun, interval) > 0)
			fln_guard_resume(engine, now);
		else
			fln_guard_look(engine, now);
		fln_lock(&guard->lock);
	}
	fln_unlock(&guard->lock);
	fln_rcu_leave(entered);
	fln_thread_end(&before);
	return NULL;
}

int fln_guard_start(struct fln_engine *engine)
{
	struct fln_guard *guard = &engine->guard;

	fln_lock(&guard->lock);
	/* Not `called`: fln_guest_destroy_async() may have called already. */
	guard->stopping = false;
	fln_unlock(&guard->lock);
	return fln_thread_create(&guard->thread, engine->opts.thread_hooks, FLN_THREAD_GUARD, 0,
				 guard_main, engine);
}

void fln_guard_stop(struct fln_engine *engine)
{
	fln_lock(&engine->guard.lock);
	engine->guard.stopping = true;
	(void)pthread_cond_signal(&engine->guard.wake);
	fln_unlock(&engine->guard.lock);
	fln_thread_join(&engine->guard.thread);
	/* No later check would clear these marks. */
	for (uint32_t i = 0; engine->workers && i < engine->opts.nr_workers; i++)
		atomic_store_explicit(&engine->workers[i].stalled_since_ns, 0,
				      memory_order_relaxed);
}
