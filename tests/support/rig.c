/* SPDX-License-Identifier: MIT */
/* A guest built by hand on the fake kernel. */
#include "tests/support/rig.h"

#include "base/alloc.h"
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/doubt.h"
#include "engine/event_queue.h"
#include "engine/events.h"
#include "engine/held.h"
#include "engine/jobs.h"
#include "engine/life/deny.h"
#include "engine/life/ender.h"
#include "engine/life/guard.h"
#include "engine/region_map.h"
#include "engine/release.h"
#include "engine/release_ask.h"
#include "engine/serve.h"
#include "engine/serve_block.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/unpoison.h"
#include "engine/window.h"
#include "engine/worker.h"
#include "sharding/stripes.h"
#include "sources/fill.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "sources/image_life.h"
#include "sources/image_state.h"

#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <faultlane/image.h>
#include <faultlane/source.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_WORDS (FLN_PAGE_BYTES / sizeof(uint64_t))
#define MAX_ROUNDS 10000

uint64_t rig_word(uint64_t image_page)
{
	return (image_page + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill_words(uint64_t *words, uint64_t image_page)
{
	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		words[i] = rig_word(image_page);
}

static int64_t source_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct rig *r = ctx;
	uint64_t *words = buf;

	r->nr_source_reads++;
	if (r->in_read)
		r->in_read(r, fln_bytes_to_pages(offset_bytes));
	if (r->read_max_bytes && len_bytes > r->read_max_bytes)
		len_bytes = r->read_max_bytes;
	for (uint64_t at = 0; at < len_bytes; at += sizeof(uint64_t)) {
		uint64_t page = fln_bytes_to_pages(offset_bytes + at);

		if (at == 0 || fln_is_aligned(offset_bytes + at, FLN_PAGE_BYTES))
			r->nr_reads[page]++;
		if (r->bad[page])
			return -EIO;
		*words++ = rig_word(page);
	}
	return (int64_t)len_bytes;
}

static int64_t source_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	const struct rig *r = ctx;
	uint64_t first = fln_bytes_to_pages(offset_bytes), nr = 1;

	*is_hole = r->hole[first];
	while (nr < fln_bytes_to_pages(len_bytes) && r->hole[first + nr] == r->hole[first])
		nr++;
	return (int64_t)fln_pages_to_bytes(nr);
}

static const struct fln_source_ops source_ops = {
	.size = sizeof(source_ops),
	.name = "pattern",
	.concurrency = FLN_SOURCE_PARALLEL,
	.read = source_read,
	.extent = source_extent,
};

static void on_kick(void *ctx, uint64_t waiters)
{
	struct rig *r = ctx;

	r->nr_kicks++;
	r->kicked |= waiters;
	r->state_at_kick = fln_image_state(&r->image, r->watched);
}

static void on_filled(void *ctx, struct fln_image *image)
{
	struct rig *r = ctx;
	struct fln_event event = { .kind = FLN_EVENT_IMAGE_FILLED, .image = image };

	fln_event_post(&r->engine.events, &event);
}

static void on_log(void *ctx, enum fln_log_level level, const char *msg)
{
	struct rig *r = ctx;

	(void)level;
	r->nr_log_lines++;
	(void)snprintf(r->last_line, sizeof(r->last_line), "%s", msg);
}

/* I6: what is mapped from the image was filled, or is known to be zero. */
static void on_map(void *ctx, uint64_t addr)
{
	struct rig *r = ctx;
	enum fln_image_page state =
		fln_image_state(&r->image,
				fln_bytes_to_pages(addr - r->region.addr) + r->region.image_page);

	assert_true(state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO);
}

static void apply_defaults(struct rig_opts *o)
{
	o->nr_pages = o->nr_pages ? o->nr_pages : 1024;
	o->batch_max = o->batch_max ? o->batch_max : 64;
	o->held_max = o->held_max ? o->held_max : 1024;
	o->window = o->window ? o->window : 16;
	o->window_max = o->window_max ? o->window_max : o->window;
	o->fill_pages = o->fill_pages ? o->fill_pages : 1;
	o->nr_fills = o->nr_fills ? o->nr_fills : 64;
	o->nr_chunks = o->nr_chunks ? o->nr_chunks : 16;
	o->timeout_ns = o->timeout_ns ? o->timeout_ns : UINT64_MAX;
}

static void make_image(struct rig *r)
{
	struct fln_filler_opts filler = {
		.alloc = r->engine.alloc,
		.log = r->engine.log,
		.nr_threads = 1,
		.nr_fills = r->opts.nr_fills,
		.fill_pages = r->opts.fill_pages,
		.nr_retries = r->opts.nr_retries,
		.run = fln_image_run_fill,
		.kick = on_kick,
		.filled = on_filled,
		.kick_ctx = r,
	};
	struct fln_image_init_opts image = { .filler = &r->filler, .opts = FLN_IMAGE_OPTS_INIT };

	assert_true(r->opts.image_page + r->opts.nr_pages <= RIG_MAX_PAGES);
	assert_int_equal(fln_filler_init(&r->filler, &filler), 0);
	if (!r->opts.pushed)
		assert_int_equal(fln_source_create(&source_ops, r, &r->source), 0);
	image.opts.len_bytes = fln_pages_to_bytes(r->opts.image_page + r->opts.nr_pages);
	image.opts.source = r->source;
	image.opts.folio = r->opts.large ? FLN_FOLIO_LARGE : FLN_FOLIO_SMALL;
	assert_int_equal(fln_image_init(&r->image, &image), 0);
	r->buffer = aligned_alloc(FLN_PAGE_BYTES, FLN_BLOCK_BYTES);
	assert_non_null(r->buffer);
	memset(r->buffer, 0, FLN_BLOCK_BYTES);
}

static void make_guest(struct rig *r)
{
	struct fln_region *reg = &r->region;
	struct fln_guest *g = &r->guest;
	int rc;

	g->engine = &r->engine;
	g->foreign = r->opts.foreign;
	g->nr_shards = 1;
	g->shards = &r->shard;
	g->running = true;
	g->turn.taken = true; /* by the test */
	g->on_failure = r->opts.on_failure;
	g->max_failures = r->opts.max_failures ? r->opts.max_failures : 1;
	g->ask = r->opts.ask;
	g->ask_ctx = r;
	(void)snprintf(g->name, sizeof(g->name), "rig");
	fln_lock_init(&g->lock, FLN_RANK_GUEST);
	fln_jobs_init(&g->jobs);
	fln_guest_release_init(&g->release);
	assert_int_equal(fln_window_policy_init(&g->window, r->opts.window, r->opts.window_max), 0);

	reg->guest = g;
	reg->image = &r->image;
	reg->addr = RIG_ADDR + fln_pages_to_bytes(r->opts.lead_pages);
	reg->len_bytes = fln_pages_to_bytes(r->opts.nr_pages);
	reg->base_addr = RIG_ADDR;
	reg->image_page = r->opts.image_page;
	reg->page_bytes = FLN_PAGE_BYTES;
	reg->discard = r->opts.discard;
	reg->is_open = true;
	reg->release = r->opts.release ? r->opts.release : FLN_RELEASE_NEVER;
	reg->foreign = r->opts.foreign;
	reg->is_private = r->opts.is_private;
	assert_int_equal(fln_stripe_plan_init(&reg->plan, reg->addr, reg->len_bytes, 1, 0, 1), 0);
	assert_int_equal(fln_blockmap_init(&reg->map, r->opts.lead_pages, r->opts.nr_pages,
					   r->opts.nr_chunks, 0),
			 0);
	assert_int_equal(fln_region_doubt_init(reg), 0);
	fln_lock(&g->lock);
	g->regions = reg;
	rc = fln_directory_publish(g, NULL);
	fln_unlock(&g->lock);
	assert_int_equal(rc, 0);
}

static void make_worker(struct rig *r)
{
	struct fln_worker_opts o = {
		.alloc = r->engine.alloc,
		.log = r->engine.log,
		.events = &r->engine.events,
		.filler = &r->filler,
		.index = 3,
		.batch_max = r->opts.batch_max,
		.held_max = r->opts.held_max,
		.source_timeout_ns = r->opts.timeout_ns,
		.pu = -1,
		.node = FLN_NODE_ANY,
	};

	assert_int_equal(fln_worker_init(&r->worker, &o), 0);
	fake_init(&r->fake, &r->shard.uffd, RIG_ADDR,
		  r->opts.lead_pages + r->opts.nr_pages + r->opts.spare_pages);
	if (r->opts.is_private)
		fake_map_private(&r->fake, r->region.addr, r->opts.nr_pages, r->image.memfd,
				 r->opts.image_page);
	else
		fake_map(&r->fake, r->region.addr, r->opts.nr_pages,
			 r->opts.foreign ? -1 : r->image.memfd, r->opts.image_page);
	r->fake.on_map = on_map;
	r->fake.ctx = r;
	r->shard.guest = &r->guest;
	r->shard.worker = &r->worker;
}

struct rig *rig_create(const struct rig_opts *opts)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	if (opts)
		r->opts = *opts;
	apply_defaults(&r->opts);
	r->rcu_entered = fln_rcu_enter();
	assert_int_equal(fln_alloc_init(&r->engine.alloc, r->opts.alloc), 0);
	r->engine.log.fn = on_log;
	r->engine.log.ctx = r;
	r->engine.memory = &fake_memory;
	r->engine.opts.max_stripes = 1024;
	fln_guard_init(&r->engine.guard);
	fln_ender_init(&r->engine.ender);
	fln_lock_init(&r->engine.lock, FLN_RANK_ENGINE);
	assert_int_equal(fln_event_queue_init(&r->engine.events, &r->engine.alloc), 0);
	make_image(r);
	make_guest(r);
	make_worker(r);
	return r;
}

void rig_destroy(struct rig *r)
{
	rig_check_accounts(r);
	fln_drop_held(&r->worker, &r->shard);
	rig_check_accounts(r);
	assert_int_equal(r->worker.nr_held, 0);
	if (!r->opts.may_unpoison)
		assert_int_equal(r->fake.nr_unpoisoned, 0);
	fake_deinit(&r->fake);
	fln_worker_deinit(&r->worker);
	fln_directory_destroy(&r->guest);
	fln_guest_release_deinit(&r->guest.release);
	fln_region_deny_free(&r->region);
	fln_blockmap_deinit(&r->region.map);
	fln_lock_deinit(&r->guest.lock);
	assert_int_equal(fln_image_deinit(&r->image, UINT64_MAX), 0);
	fln_source_destroy(r->source);
	fln_filler_deinit(&r->filler);
	fln_event_queue_deinit(&r->engine.events, &r->engine.alloc);
	fln_lock_deinit(&r->engine.lock);
	fln_ender_deinit(&r->engine.ender);
	fln_guard_deinit(&r->engine.guard);
	fln_rcu_leave(r->rcu_entered);
	free(r->buffer);
	free(r);
}

uint64_t rig_addr(const struct rig *r, uint64_t page)
{
	return r->region.addr + fln_pages_to_bytes(page);
}

uint64_t rig_image_page(const struct rig *r, uint64_t page)
{
	return r->region.image_page + page;
}

uint64_t rig_due(const struct rig *r, uint64_t page)
{
	return rig_word(rig_image_page(r, page));
}

void rig_put(struct rig *r, uint64_t page, uint64_t nr_pages)
{
	uint64_t words[PAGE_WORDS];

	for (uint64_t i = 0; i < nr_pages; i++) {
		fill_words(words, rig_image_page(r, page + i));
		assert_int_equal(fln_image_put(&r->image,
					       fln_pages_to_bytes(rig_image_page(r, page + i)),
					       words, FLN_PAGE_BYTES),
				 0);
	}
}

uint32_t rig_touch(struct rig *r, uint64_t page)
{
	return fake_touch(&r->fake, rig_addr(r, page));
}

const struct fake_thread *rig_thread(const struct rig *r, uint32_t thread)
{
	return &r->fake.threads[thread];
}

void rig_serve(struct rig *r)
{
	fln_serve_shard(&r->worker, &r->shard);
	fln_serve_later(&r->worker, UINT32_MAX);
	fake_run(&r->fake);
}

void rig_held(struct rig *r)
{
	fln_serve_held(&r->worker);
	fln_serve_later(&r->worker, UINT32_MAX);
	fln_wake_overflowed(&r->worker);
	fake_run(&r->fake);
}

void rig_lift(struct rig *r)
{
	r->worker.shards = &r->shard;
	fln_unpoison_round(&r->worker);
	r->worker.shards = NULL;
}

void rig_release_only(struct rig *r)
{
	struct fln_release_sweep *s = &r->worker.release;

	r->worker.shards = &r->shard;
	atomic_store(&r->guest.release.has_begun, true);
	/* As if there were enough time between the two: the second finds blocks quiet. */
	for (uint32_t i = 0; i < 2; i++) {
		s->quiet_at_ns = 0;
		atomic_store(&r->worker.release_asked, true);
		do {
			fln_release_round(&r->worker, false, false);
		} while (s->active);
	}
	r->worker.shards = NULL;
}

void rig_release(struct rig *r)
{
	rig_release_only(r);
	fake_run(&r->fake);
}

static void earlier(uint64_t *when_ns, uint64_t by_ns)
{
	if (*when_ns > 0)
		*when_ns = *when_ns > by_ns ? *when_ns - by_ns : 1;
}

void rig_pass_time(struct rig *r, uint64_t ns)
{
	for (uint32_t i = 0; i < r->worker.nr_held; i++) {
		struct fln_fault *f = &r->worker.held[i].fault;

		earlier(&f->t0_ns, ns);
		earlier(&f->since_ns, ns);
		earlier(&f->not_before_ns, ns);
		earlier(&f->again_since_ns, ns);
	}
	/* The process was not stopped meanwhile: none of @ns is to be credited. */
	if (r->worker.looked_ns)
		r->worker.looked_ns = fln_now_ns();
}

uint32_t rig_fill(struct rig *r, uint32_t nr)
{
	struct fln_fill *fill = fln_filler_withdraw(&r->filler, &r->image.queue);
	uint32_t at = 0;

	while (fill) {
		struct fln_fill *next = fill->next;

		if (at++ < nr) {
			fln_image_run_fill(&r->image, fill, r->buffer);
			fln_filler_free(&r->filler, &r->image.queue, fill);
		} else {
			fln_filler_submit(&r->filler, &r->image.queue, fill);
		}
		fill = next;
	}
	return at;
}

uint32_t rig_nr_queued_fills(struct rig *r)
{
	return rig_fill(r, 0);
}

void rig_settle(struct rig *r)
{
	for (uint32_t i = 0; i < MAX_ROUNDS; i++) {
		uint32_t nr;

		rig_serve(r);
		nr = rig_fill(r, UINT32_MAX);
		rig_pass_time(r, FLN_NS_PER_S);
		rig_held(r);
		if (nr == 0 && r->worker.nr_held == 0 && !r->worker.overflowed &&
		    fake_count(&r->fake, FAKE_QUEUED) == 0 &&
		    fake_count(&r->fake, FAKE_WOKEN) == 0 && !fake_event_pending(&r->fake))
			return;
	}
	fail_msg("faults, fills or events are still left after %u rounds", MAX_ROUNDS);
}

uint64_t rig_count(const _Atomic uint64_t *counter)
{
	return atomic_load(counter);
}

void rig_check_accounts(const struct rig *r)
{
	const struct fln_shard_counters *c = &r->shard.count;
	uint64_t ended = rig_count(&c->resumed) + rig_count(&c->poisoned) + rig_count(&c->failed);
	uint32_t nr_held = 0;

	/* An entry stands for all faults on its page. */
	for (uint32_t i = 0; i < r->worker.nr_held; i++)
		nr_held += r->worker.held[i].fault.nr;
	assert_int_equal(r->shard.nr_held, nr_held);
	assert_int_equal(rig_count(&c->faults), ended + nr_held);
	assert_int_equal(ended, rig_count(&c->minor) + rig_count(&c->major) + rig_count(&c->zero) +
					rig_count(&c->invalid));
	assert_true(c->service.count <= ended);
}

void rig_assert_read(const struct rig *r, uint32_t thread, uint64_t value)
{
	const struct fake_thread *t = rig_thread(r, thread);

	assert_int_equal(t->state, FAKE_READ);
	assert_int_equal(t->value, value);
}

void rig_assert_killed(const struct rig *r, uint32_t thread)
{
	assert_int_equal(rig_thread(r, thread)->state, FAKE_KILLED);
}

bool rig_map_says(struct rig *r, uint32_t plane, uint64_t page)
{
	struct fln_mask m;

	fln_rcu_read_lock();
	m = fln_blockmap_load_span(&r->region.map, plane, page + r->opts.lead_pages, 1);
	fln_rcu_read_unlock();
	return fln_mask_test(&m, 0);
}
