/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: engine, image, guest, region; created, destroyed with faults in
 * flight, and created again.
 */
#include "stress/memory.h"

#include "stress/account.h"
#include "stress/chaos_crowd.h"
#include "stress/chaos_release.h"
#include "stress/complain.h"
#include "stress/gate.h"
#include "stress/images.h"
#include "stress/look.h"
#include "stress/stage.h"
#include "stress/stress.h"
#include "stress/vcpus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NEIGHBOURS_HELD_MAX 512u

static void *count_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	struct stress *s = ctx;
	void *p = NULL;

	(void)node;
	if (align_bytes < sizeof(void *))
		align_bytes = sizeof(void *);
	if (posix_memalign(&p, align_bytes, size_bytes ? size_bytes : 1) != 0)
		return NULL;
	atomic_fetch_add(&s->allocated, size_bytes);
	return p;
}

static void count_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	struct stress *s = ctx;

	(void)node;
	if (!ptr)
		return;
	atomic_fetch_sub(&s->allocated, size_bytes);
	free(ptr);
}

static void on_log(void *ctx, enum fln_log_level level, const char *msg)
{
	struct stress *s = ctx;

	remember(s, msg);
	/* With chaos most messages are expected. */
	if (s->opts.chaos == 0 && level <= FLN_LOG_WARNING)
		(void)fprintf(s->messages, "faultlane: %s\n", msg);
}

static int failed(const char *what, int rc)
{
	(void)fprintf(stderr, "faultlane-stress: %s: %s (%s)\n", what, fln_last_error(),
		      strerror(-rc));
	return rc;
}

static int create_engine(struct stress *s)
{
	struct fln_allocator alloc = {
		.size = sizeof(alloc), .ctx = s, .alloc = count_alloc, .free = count_free
	};
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	int rc;

	o.allocator = &alloc;
	o.log = on_log;
	o.log_ctx = s;
	o.nr_workers = s->opts.nr_workers;
	o.flags = s->opts.user_mode_only ? FLN_ENGINE_F_USER_MODE_ONLY : 0;
	/*
	 * One read in ten fails: that a page fails 13 times must not come to pass, and the
	 * one that fails for ever should come to its end between two restarts (0.5 s).
	 */
	o.source_retries = has_chaos(&s->opts, CHAOS_SOURCE_ERRORS) ? 12 : 0;
	/* Small enough for a neighbour's faults to fill the table. */
	if (has_chaos(&s->opts, CHAOS_NEIGHBOURS))
		o.held_max = NEIGHBOURS_HELD_MAX;
	if (has_chaos(&s->opts, CHAOS_HOST))
		o.source_timeout_ns = STRESS_SOURCE_TIMEOUT_MS * 1000000u;
	rc = fln_engine_create(&o, &s->engine);
	if (rc)
		return failed("engine", rc);
	rc = fln_engine_start(s->engine);
	return rc ? failed("engine", rc) : 0;
}

static int create_guest(struct stress *s)
{
	struct fln_guest_opts g = FLN_GUEST_OPTS_INIT;
	int rc;

	g.name = "stress";
	g.flags = s->opts.kvm ? FLN_GUEST_F_KVM : 0;
	g.nr_vcpus = s->opts.nr_threads;
	g.nr_shards = s->opts.nr_shards ? s->opts.nr_shards : s->layout.nr_shards;
	g.window_first = s->opts.window ? s->opts.window : s->layout.window;
	g.window_max = s->opts.window;
	g.release = chaos_release_option(s);
	rc = fln_guest_create(s->engine, &g, &s->guest);
	if (rc)
		return failed("guest", rc);
	rc = images_add_regions(s);
	if (rc == 0)
		rc = fln_guest_start(s->guest);
	if (rc)
		return failed("region", rc);
	return vcpus_map_memory(s);
}

static int create_image(struct stress *s)
{
	int rc = images_create(s);

	return rc ? failed("image", rc) : 0;
}

int memory_create(struct stress *s)
{
	int rc = create_engine(s);

	if (rc)
		return rc;
	stress_source_init(&s->source, &s->opts);
	s->nr_pages = s->opts.memory_bytes / PAGE_BYTES;
	rc = images_init(s);
	if (rc)
		return failed("place", rc);
	rc = create_image(s);
	if (rc)
		return rc;
	return create_guest(s);
}

/* Check and destroy the guest, which has been stopped and is not being touched. */
static int end_guest(struct stress *s)
{
	int rc;

	stage_begin("checks the stopped memory");
	look_at_stopped(s);
	stage_begin("destroys the guest");
	rc = fln_guest_destroy(s->guest);
	s->guest = NULL;
	if (rc)
		return failed("destroy", rc);
	stage_begin("checks the memory after the guest was destroyed");
	look_at_destroyed(s);
	images_unmap(s);
	return 0;
}

int memory_restart(struct stress *s, const struct restart *how)
{
	static uint64_t fresh_page;
	int rc;

	if (!how->open)
		gate_close_begin(s);
	model_note_settled(&s->model);
	atomic_store(&s->closing, true);
	stage_begin("stops the guest");
	rc = how->engine_too ? fln_engine_stop(s->engine) : fln_guest_stop(s->guest);
	gate_close_begin(s);
	if (rc)
		return failed("stop", rc);
	stage_begin("waits for touches to end, of a guest that was stopped");
	gate_wait_outside(s);
	account_settle(s);
	rc = vcpus_unmap_memory(s);
	if (rc)
		return rc;
	rc = end_guest(s);
	if (rc)
		return rc;
	if (how->engine_too) {
		rc = fln_engine_start(s->engine);
		if (rc)
			return failed("start", rc);
	}
	if (how->new_image) {
		rc = images_destroy(s);
		if (rc)
			return failed("image", rc);
		rc = create_image(s);
		if (rc)
			return rc;
	}
	/* A private guest's writes are lost with its mapping. */
	if (s->opts.is_private || how->new_image) {
		model_reset(&s->model);
		atomic_store(&s->dead_given_up_ns, 0);
	}
	rc = create_guest(s);
	if (rc)
		return rc;
	stage_begin("starts again");
	atomic_store(&s->closing, false);
	/* While nothing is filled yet. */
	if (how->new_image && has_chaos(&s->opts, CHAOS_STAMPEDE))
		crowd_stampede(s, mix(fresh_page++) % s->nr_pages);
	gate_open(s);
	return 0;
}

int memory_destroy(struct stress *s)
{
	uint64_t left;
	int rc = 0;

	if (s->guest) {
		rc = fln_guest_stop(s->guest);
		if (rc)
			(void)failed("stop", rc);
		account_settle(s);
		(void)vcpus_unmap_memory(s);
		(void)end_guest(s);
	}
	rc = images_destroy(s);
	if (rc)
		return failed("image", rc);
	images_deinit(s);
	rc = fln_engine_destroy(s->engine);
	if (rc)
		return failed("engine", rc);
	s->engine = NULL;
	left = atomic_load(&s->allocated);
	if (left) {
		complain(s, "%llu bytes of the allocator's were left behind",
			 (unsigned long long)left);
		return -1;
	}
	return s->totals.unaccounted ? -1 : 0;
}
