/* SPDX-License-Identifier: MIT */
/*
 * The memory under test: engine, image, guest, region; made, taken down with
 * faults in flight, and made again.
 */
#include "stress/stress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

	/* With chaos most of what is said is what was asked for. */
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
	if (has_chaos(&s->opts, CHAOS_HOST))
		o.source_timeout_ns = STRESS_SOURCE_TIMEOUT_MS * 1000000u;
	rc = fln_engine_create(&o, &s->engine);
	if (rc)
		return failed("engine", rc);
	rc = fln_engine_start(s->engine);
	return rc ? failed("engine", rc) : 0;
}

void memory_region_opts(const struct stress *s, struct fln_region_opts *o)
{
	o->sharing = s->opts.is_private ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
	o->delivery = s->opts.in_context ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
	/* One thread per shard decides about discards of private memory; in context all do. */
	o->discard =
		s->opts.is_private && s->opts.in_context ? FLN_DISCARD_IMAGE : FLN_DISCARD_ZERO;
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

static void add_stats(struct totals *t, const struct fln_stats *st)
{
	t->faults += st->faults;
	t->minor += st->minor;
	t->major += st->major;
	t->zero += st->zero;
	t->invalid += st->invalid;
	t->refaults += st->refaults;
	t->resumed += st->resumed;
	t->poisoned += st->poisoned;
	t->failed += st->failed;
	t->again += st->again;
	t->in_context += st->in_context;
	fln_histogram_merge(&t->service, &st->service);
}

void memory_take_stats(struct stress *s, struct totals *t)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (!s->guest || fln_guest_stats(s->guest, &st) != 0)
		return;
	add_stats(t, &st);
	t->oldest_ns = st.oldest_ns;
}

static uint64_t ended(const struct fln_stats *st)
{
	return st->resumed + st->poisoned + st->failed;
}

static bool is_settled(const struct fln_stats *st)
{
	return st->faults == ended(st) && st->in_flight == 0 &&
	       st->faults == st->minor + st->major + st->zero + st->invalid;
}

static void complain_unsettled(struct stress *s, const char *when, const struct fln_stats *st)
{
	complain(s,
		 "%s faults are not accounted for: %llu taken, %llu resumed, %llu poisoned, "
		 "%llu failed, %lld in flight",
		 when, (unsigned long long)st->faults, (unsigned long long)st->resumed,
		 (unsigned long long)st->poisoned, (unsigned long long)st->failed,
		 (long long)st->in_flight);
}

void memory_check_ended(struct stress *s)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (s->guest && fln_guest_stats(s->guest, &st) == 0 && ended(&st) > st.faults)
		complain_unsettled(s, "while threads fault", &st);
}

void memory_check_settled(struct stress *s)
{
	uint64_t begin = now_ns();
	struct fln_stats st;

	/* Who is woken goes on before that is counted. */
	do {
		st = (struct fln_stats)FLN_STATS_INIT;
		if (!s->guest || fln_guest_stats(s->guest, &st) != 0 || is_settled(&st))
			return;
		sleep_ms(1);
	} while (ended(&st) <= st.faults && (double)(now_ns() - begin) / 1e9 < s->opts.max_wait_s);
	complain_unsettled(s, "while nobody faults", &st);
}

/* The guest has been stopped: every fault has ended (I4). */
static void settle_guest(struct stress *s)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (fln_guest_stats(s->guest, &st) != 0)
		return;
	add_stats(&s->totals, &st);
	if (is_settled(&st))
		return;
	s->totals.unaccounted += st.faults > ended(&st) ? st.faults - ended(&st) : 1;
	complain_unsettled(s, "after the stop", &st);
}

/* The guest has been stopped, and nobody touches it. */
static int end_guest(struct stress *s)
{
	int rc;

	chaos_stage("looks at what was stopped");
	look_at_stopped(s);
	chaos_stage("destroys the guest");
	rc = fln_guest_destroy(s->guest);
	s->guest = NULL;
	if (rc)
		return failed("destroy", rc);
	chaos_stage("looks at what was destroyed");
	look_at_destroyed(s);
	images_unmap(s);
	return 0;
}

int memory_restart(struct stress *s, bool engine_too, bool new_image)
{
	static uint64_t fresh_page;
	int rc;

	gate_close_begin(s);
	atomic_store(&s->closing, true);
	chaos_stage("stops the guest");
	rc = engine_too ? fln_engine_stop(s->engine) : fln_guest_stop(s->guest);
	if (rc)
		return failed("stop", rc);
	chaos_stage("waits for touches to end, of a guest that was stopped");
	gate_wait_outside(s);
	settle_guest(s);
	rc = vcpus_unmap_memory(s);
	if (rc)
		return rc;
	rc = end_guest(s);
	if (rc)
		return rc;
	if (engine_too) {
		rc = fln_engine_start(s->engine);
		if (rc)
			return failed("start", rc);
	}
	if (new_image) {
		rc = images_destroy(s);
		if (rc)
			return failed("image", rc);
		rc = create_image(s);
		if (rc)
			return rc;
	}
	/* What private guests wrote has gone with their mapping. */
	if (s->opts.is_private || new_image)
		model_reset(&s->model);
	rc = create_guest(s);
	if (rc)
		return rc;
	chaos_stage("begins anew");
	atomic_store(&s->closing, false);
	/* Nothing is filled yet. */
	if (new_image && has_chaos(&s->opts, CHAOS_STAMPEDE))
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
		settle_guest(s);
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
