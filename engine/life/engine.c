/* SPDX-License-Identifier: MIT */
/*
 * The engine's life cycle: creation, start, stop, destruction.  The public calls run on the
 * caller's thread, one after the other in the engine's turn.
 *
 * Tested by integration.bad_input, integration.life_calls.
 */
#include "engine/state/engine.h"
#include "base/alloc.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/event_queue.h"
#include "engine/life/ender.h"
#include "engine/life/engine_opts.h"
#include "engine/life/features.h"
#include "engine/life/guard.h"
#include "engine/life/nodes.h"
#include "engine/life/pins.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/turn.h"
#include "engine/uffd.h"
#include "engine/unpoison.h"
#include "engine/vacant.h"
#include "engine/worker.h"
#include "numa/plan.h"
#include "numa/topology.h"
#include "sources/fill.h"
#include "sources/filler.h"
#include "sources/filler_threads.h"
#include "sources/image.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define NR_FILLS 1024u
#define NR_OWN_FILLS 16u                      /* of each image */
#define DEFAULT_SPIN_NS (200 * FLN_NS_PER_US) /* measured: see docs/TUNING.md */

_Static_assert(FLN_PLAN_MAX_WORKERS <= FLN_MAX_WAITERS, "a bit per worker");

/*
 * Can an engine run here?  This also opens engine->asking, the userfaultfd that later finds out
 * whether another one has registered a range, because privileges may be dropped by then.  A user
 * who may not create userfaultfds can still serve foreign guests, and is refused when creating
 * another guest.
 */
static int check_features(struct fln_engine *engine)
{
	int rc = fln_engine_check_features(engine);

	return rc == -EPERM || rc == -EACCES ? 0 : rc;
}

static void deinit_asking(struct fln_engine *engine)
{
	fln_lock_deinit(&engine->asking_lock);
	fln_uffd_close(&engine->asking);
	fln_vacant_close(&engine->vacant);
}

static void kick_workers(void *ctx, uint64_t waiters)
{
	struct fln_engine *engine = ctx;

	while (waiters && engine->workers) {
		uint32_t i = (uint32_t)__builtin_ctzll(waiters);

		waiters &= waiters - 1;
		fln_worker_kick(&engine->workers[i]);
	}
}

/*
 * A worker with a processor of its own may poll, which saves wakeups across processors.  On a
 * processor that a vCPU could use, polling would cost the most.
 */
static uint64_t spin_ns(const struct fln_engine *engine, uint32_t worker)
{
	const struct fln_plan *plan = engine->plan;
	bool alone = fln_plan_is_pinned(plan, worker) && !plan->workers[worker].shares_worker;

	if (engine->opts.spin_ns == UINT64_MAX)
		return 0;
	if (engine->opts.spin_ns == 0)
		return alone && fln_engine_pins(engine) ? DEFAULT_SPIN_NS : 0;
	return engine->opts.spin_ns;
}

static int init_workers(struct fln_engine *engine)
{
	struct fln_worker_opts o = {
		.alloc = engine->alloc,
		.log = engine->log,
		.events = &engine->events,
		.filler = &engine->filler,
		.hooks = engine->opts.thread_hooks,
		.batch_max = engine->opts.batch_max,
		.held_max = engine->opts.held_max,
		.source_timeout_ns = engine->opts.source_timeout_ns,
		.nice = engine->opts.worker_nice,
		.said_unpinned = &engine->said_unpinned,
		.said_nice = &engine->said_nice,
	};
	uint32_t nr = engine->plan->nr_workers;
	bool pins = fln_engine_pins(engine);
	int rc;

	engine->workers = fln_zalloc(&engine->alloc, nr * sizeof(*engine->workers), FLN_NODE_ANY);
	if (!engine->workers)
		return fln_fail(ENOMEM, "no memory for %u workers", nr);
	for (uint32_t i = 0; i < nr; i++) {
		const struct fln_pu *pu = &engine->plan->workers[i].pu;

		o.index = i;
		o.pu = pins && fln_plan_is_pinned(engine->plan, i) ? (int64_t)pu->os_index : -1;
		o.cpus = pins ? &engine->plan->nodes[pu->node].worker_cpus : NULL;
		o.spin_ns = spin_ns(engine, i);
		o.node = engine->plan->nodes[pu->node].os_index;
		o.node_index = pu->node;
		rc = fln_worker_init(&engine->workers[i], &o);
		if (rc == 0)
			continue;
		while (i-- > 0)
			fln_worker_deinit(&engine->workers[i]);
		fln_free(&engine->alloc, engine->workers, nr * sizeof(*engine->workers),
			 FLN_NODE_ANY);
		return rc;
	}
	return 0;
}

/* fln_filler_opts.filled: called under image->lock, so async-signal-safe calls only. */
static void tell_filled(void *ctx, struct fln_image *image)
{
	struct fln_engine *engine = ctx;
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_IMAGE_FILLED;
	event.image = image;
	fln_event_post(&engine->events, &event);
}

static void lift_wait(void *ctx)
{
	fln_unpoison_wait(ctx);
}

static int init_filler(struct fln_engine *engine)
{
	struct fln_filler_opts o = {
		.alloc = engine->alloc,
		.log = engine->log,
		.hooks = engine->opts.thread_hooks,
		.nr_threads = engine->opts.nr_fillers,
		.nr_fills = NR_FILLS,
		.nr_own_fills = NR_OWN_FILLS,
		.fill_pages = engine->opts.fill_pages,
		.nr_retries = engine->opts.source_retries,
		.nr_waiters = engine->plan->nr_workers,
		.run = fln_image_run_fill,
		.kick = kick_workers,
		.filled = tell_filled,
		.kick_ctx = engine,
		.lift_wait = lift_wait,
	};

	return fln_filler_init(&engine->filler, &o);
}

static void deinit_workers(struct fln_engine *engine)
{
	for (uint32_t i = 0; i < engine->opts.nr_workers; i++)
		fln_worker_deinit(&engine->workers[i]);
	fln_free(&engine->alloc, engine->workers,
		 engine->opts.nr_workers * sizeof(*engine->workers), FLN_NODE_ANY);
}

/* The parts that run: workers, filler threads and events. */
static int init_parts(struct fln_engine *engine)
{
	int rc = fln_rcu_get();

	if (rc)
		return rc;
	rc = init_workers(engine);
	if (rc)
		goto put_rcu;
	rc = init_filler(engine);
	if (rc)
		goto deinit_workers;
	rc = fln_event_queue_init(&engine->events, &engine->alloc);
	if (rc)
		goto deinit_filler;
	fln_guard_init(&engine->guard);
	fln_ender_init(&engine->ender);
	fln_lock_init(&engine->lock, FLN_RANK_ENGINE);
	fln_turn_init(&engine->turn);
	fln_cond_init(&engine->unpinned);
	return 0;
deinit_filler:
	fln_filler_deinit(&engine->filler);
deinit_workers:
	deinit_workers(engine);
put_rcu:
	fln_rcu_put();
	return rc;
}

/* First the prerequisites (topology, options, features, nodes), then the parts. */
static int init_engine(struct fln_engine *engine)
{
	int rc = fln_engine_take_hooks(engine);

	if (rc == 0)
		rc = fln_topology_load(&engine->topology, &engine->alloc, NULL);
	if (rc)
		return rc;
	rc = fln_engine_set_defaults(&engine->opts);
	if (rc)
		goto destroy_topology;
	engine->asking.fd = -1;
	fln_vacant_open(&engine->vacant);
	fln_lock_init(&engine->asking_lock, FLN_RANK_LEAF);
	rc = check_features(engine);
	if (rc == 0)
		rc = fln_nodes_init(engine);
	if (rc)
		goto deinit_asking;
	rc = init_parts(engine);
	if (rc)
		goto deinit_nodes;
	return 0;
deinit_nodes:
	fln_nodes_deinit(engine);
deinit_asking:
	deinit_asking(engine);
destroy_topology:
	fln_topology_destroy(engine->topology);
	return rc;
}

int fln_engine_create(const struct fln_engine_opts *opts, struct fln_engine **out)
{
	FLN_UNCANCELLABLE;
	struct fln_allocator alloc;
	struct fln_engine_opts o;
	struct fln_engine *engine;
	int rc = FLN_CALL_REFUSED(out);

	if (rc)
		return rc;
	rc = fln_opts_copy(&o, sizeof(o), opts, "fln_engine_opts");
	if (rc == 0)
		rc = fln_fork_watch();
	if (rc == 0)
		rc = fln_alloc_init(&alloc, o.allocator);
	if (rc)
		return rc;
	engine = fln_zalloc(&alloc, sizeof(*engine), FLN_NODE_ANY);
	if (!engine)
		return fln_fail(ENOMEM, "no memory for an engine");
	engine->alloc = alloc;
	engine->opts = o;
	engine->log.fn = o.log;
	engine->log.ctx = o.log_ctx;
	rc = init_engine(engine);
	if (rc) {
		fln_free(&alloc, engine, sizeof(*engine), FLN_NODE_ANY);
		return rc;
	}
	*out = engine;
	return 0;
}

/* Returns whether the engine is running. */
static bool take_turn(struct fln_engine *engine)
{
	bool running;

	fln_lock(&engine->lock);
	fln_turn_take(&engine->turn, &engine->lock);
	running = engine->running;
	fln_unlock(&engine->lock);
	return running;
}

static void give_turn(struct fln_engine *engine, bool running)
{
	fln_lock(&engine->lock);
	engine->running = running;
	engine->stopping = false;
	fln_turn_give(&engine->turn, &engine->lock);
	fln_unlock(&engine->lock);
}

static int start_threads(struct fln_engine *engine)
{
	int rc = fln_filler_start(&engine->filler);
	uint32_t nr = 0;

	if (rc)
		return rc;
	for (; rc == 0 && nr < engine->opts.nr_workers; nr += rc == 0)
		rc = fln_worker_start(&engine->workers[nr]);
	/* Before the guard, which calls the ender. */
	fln_ender_open(&engine->ender);
	if (rc == 0)
		rc = fln_guard_start(engine);
	if (rc == 0)
		return 0;
	fln_ender_stop(engine);
	while (nr-- > 0)
		fln_worker_stop(&engine->workers[nr]);
	(void)fln_filler_stop(&engine->filler, UINT64_MAX);
	return rc;
}

int fln_engine_start(struct fln_engine *engine)
{
	FLN_UNCANCELLABLE;
	bool running;
	int rc = FLN_CALL_REFUSED(engine);

	if (rc)
		return rc;
	running = take_turn(engine);
	if (!running)
		rc = start_threads(engine);
	give_turn(engine, running || rc == 0);
	return rc;
}

static bool is_not_stopped(struct fln_guest *guest, void *ctx)
{
	bool stopped;

	(void)ctx;
	fln_lock(&guest->lock);
	stopped = guest->stopped;
	fln_unlock(&guest->lock);
	return !stopped;
}

/* In the engine's turn. */
static void stop_guests(struct fln_engine *engine)
{
	struct fln_guest *guest;

	fln_lock(&engine->lock);
	engine->stopping = true; /* from here on no guest can be created or started */
	fln_unlock(&engine->lock);
	while ((guest = fln_engine_pin(engine, is_not_stopped, NULL)) != NULL) {
		(void)fln_guest_stop(guest);
		fln_engine_unpin(engine, guest);
	}
}

int fln_engine_stop(struct fln_engine *engine)
{
	FLN_UNCANCELLABLE;
	int rc = FLN_CALL_REFUSED(engine);

	if (rc)
		return rc;
	if (take_turn(engine)) {
		stop_guests(engine);
		fln_guard_stop(engine);
		fln_ender_stop(engine);
		for (uint32_t i = 0; i < engine->opts.nr_workers; i++)
			fln_worker_stop(&engine->workers[i]);
	}
	rc = fln_filler_stop(&engine->filler, engine->opts.source_timeout_ns);
	give_turn(engine, false);
	return rc;
}

int fln_engine_destroy(struct fln_engine *engine)
{
	FLN_UNCANCELLABLE;
	struct fln_allocator alloc;
	uint32_t nr_guests = 0, nr_images;
	int rc;

	if (!engine)
		return 0;
	if (fln_forked)
		return fln_fork_refused("fln_engine_destroy");
	fln_lock(&engine->lock);
	/* Guests that the ender is destroying do not count: fln_ender_stop() waits for them. */
	for (const struct fln_guest *g = engine->guests; g; g = g->next)
		nr_guests += !g->leaves;
	nr_images = engine->nr_images;
	fln_unlock(&engine->lock);
	if (nr_guests || nr_images)
		return fln_fail(EBUSY,
				"engine: %u guests and %u images are left; destroy them "
				"first",
				nr_guests, nr_images);
	rc = fln_engine_stop(engine);
	if (rc)
		return rc;
	fln_event_queue_deinit(&engine->events, &engine->alloc);
	fln_filler_deinit(&engine->filler);
	deinit_workers(engine);
	alloc = engine->alloc;
	fln_nodes_deinit(engine);
	deinit_asking(engine);
	fln_topology_destroy(engine->topology);
	(void)pthread_cond_destroy(&engine->unpinned);
	fln_turn_deinit(&engine->turn);
	fln_lock_deinit(&engine->lock);
	fln_ender_deinit(&engine->ender);
	fln_guard_deinit(&engine->guard);
	fln_rcu_put();
	fln_free(&alloc, engine, sizeof(*engine), FLN_NODE_ANY);
	return 0;
}

uint32_t fln_engine_nr_workers(const struct fln_engine *engine)
{
	return engine->opts.nr_workers;
}
