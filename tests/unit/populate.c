/* SPDX-License-Identifier: MIT */
/* Jobs on the fake kernel, the order of fills, lists of ranges, discards of our own. */
#include "engine/populate.h"
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/advised.h"
#include "engine/command.h"
#include "engine/job_parts.h"
#include "engine/jobs.h"
#include "engine/ranges.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "engine/worker.h"
#include "sources/changed.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"
#include "tests/support/rng.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define WORKER 3u /* the rig's */

static struct rig *rig_of(struct rig_opts opts)
{
	struct rig *r = rig_create(&opts);

	r->engine.opts.nr_workers = WORKER + 1;
	return r;
}

/* A job over pages of the region, in the worker's hands. */
static struct fln_job *begin(struct rig *r, uint64_t page, uint64_t nr)
{
	struct fln_job *job = fln_job_alloc(&r->guest);

	assert_non_null(job);
	fln_job_init(job, &r->guest, rig_addr(r, page), rig_addr(r, page + nr));
	job->nr_running = 1;
	(void)atomic_fetch_add(&r->guest.jobs.nr_parts, 1);
	job->parts[WORKER].job = job;
	job->parts[WORKER].at = job->addr;
	job->parts[WORKER].progress_ns = UINT64_MAX / 2;
	atomic_store(&r->worker.given, &job->parts[WORKER]);
	return job;
}

static void end(struct rig *r, struct fln_job *job)
{
	assert_int_equal(job->nr_running, 0);
	assert_null(r->worker.parts);
	for (uint32_t i = 0; i < FLN_NR_IMAGE_SETS; i++)
		assert_null(r->worker.job_blocks[i]);
	assert_int_equal(atomic_load(&r->guest.jobs.nr_parts), 0);
	fln_job_free(&r->guest, job);
}

static bool is_mapped(struct rig *r, uint64_t page)
{
	return fake_page(&r->fake, rig_addr(r, page))->pte == FAKE_MAPPED;
}

static void what_is_filled_is_mapped_by_runs(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1200, .lead_pages = 100 });
	struct fln_job *job;

	(void)state;
	rig_put(r, 0, 1200);
	job = begin(r, 10, 1100);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 1100);
	assert_false(is_mapped(r, 9));
	assert_true(is_mapped(r, 10));
	assert_true(is_mapped(r, 1109));
	assert_false(is_mapped(r, 1110));
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 3); /* one a block */
	assert_int_equal(atomic_load(&job->nr_done), 1100);
	assert_int_equal(atomic_load(&job->error), 0);
	assert_int_equal(rig_count(&r->shard.count.populated), 1100);
	end(r, job);
	rig_destroy(r);
}

static void a_slice_ends(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 4 * 512 });
	struct fln_job *job;

	(void)state;
	rig_put(r, 0, 4 * 512);
	job = begin(r, 0, 4 * 512);
	fln_populate_slice(&r->worker, 600);
	assert_int_equal(fake_nr_mapped(&r->fake), 2 * 512);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_BUSY);
	fln_populate_slice(&r->worker, 600);
	assert_int_equal(fake_nr_mapped(&r->fake), 4 * 512);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_IDLE);
	end(r, job);
	rig_destroy(r);
}

static void what_is_not_filled_is_asked_for_and_waited_for(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512, .fill_pages = 64 });
	struct fln_job *job = begin(r, 0, 512);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(rig_nr_queued_fills(r), 8);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_WAITS);
	/* Nothing is asked for twice, and nothing happens without a kick. */
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(rig_nr_queued_fills(r), 8);
	assert_int_equal(rig_fill(r, 3), 8);
	assert_int_equal(r->kicked, 1u << WORKER);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 0);
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 3 * 64);
	(void)rig_fill(r, UINT32_MAX);
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	end(r, job);
	rig_destroy(r);
}

/* What is there beside the range needs nothing of it, and no chunk until there is something. */
static void what_is_beside_the_range_is_left_alone(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512 });
	struct fln_job *job;

	(void)state;
	rig_put(r, 0, 100);
	job = begin(r, 200, 10);
	fln_populate_slice(&r->worker, UINT32_MAX);
	fln_rcu_read_lock();
	assert_null(fln_blockmap_peek(&r->region.map, 0));
	fln_rcu_read_unlock();
	assert_int_equal(fake_nr_mapped(&r->fake), 0);
	while (rig_fill(r, UINT32_MAX) > 0) {
		fln_populate_kicked(&r->worker);
		fln_populate_slice(&r->worker, UINT32_MAX);
	}
	assert_int_equal(atomic_load(&job->nr_done), 10);
	assert_int_equal(fake_nr_mapped(&r->fake), 10);
	end(r, job);
	rig_destroy(r);
}

struct giver {
	struct rig *r;
	struct fln_job *job;
	_Atomic bool given;
};

static void *give_main(void *arg)
{
	struct giver *g = arg;
	bool entered = fln_rcu_enter();

	assert_true(fln_job_submit(g->job));
	atomic_store_explicit(&g->given, true, memory_order_relaxed);
	fln_rcu_leave(entered);
	return NULL;
}

/* A job that another thread gives is seen as a whole, whether the worker was kicked or not. */
static void what_is_given_is_seen_as_a_whole(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512 });
	struct fln_worker *w = &r->worker;
	struct giver g = { .r = r };
	pthread_t thread;

	(void)state;
	rig_put(r, 0, 512);
	fln_jobs_open(&r->guest);
	/* The rig's is the only one that is asked. */
	r->engine.workers = (struct fln_worker *)((uintptr_t)w - WORKER * sizeof(*w));
	g.job = fln_job_alloc(&r->guest);
	assert_non_null(g.job);
	fln_job_init(g.job, &r->guest, rig_addr(r, 0), rig_addr(r, 512));
	assert_int_equal(pthread_create(&thread, NULL, give_main, &g), 0);
	while (atomic_load(&g.job->nr_done) < 512)
		fln_populate_slice(w, UINT32_MAX);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	end(r, g.job);
	rig_destroy(r);
}

/* I7: the fault's fill is done first, whether it is new or was asked for before. */
static void faults_overtake(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 1024, .fill_pages = 64, .window = 1 });
	struct fln_job *job = begin(r, 0, 512);
	uint32_t covered, apart;

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(rig_nr_queued_fills(r), 8);
	covered = rig_touch(r, 400);
	apart = rig_touch(r, 900);
	rig_serve(r);
	assert_int_equal(rig_nr_queued_fills(r), 9);
	(void)rig_fill(r, 2);
	rig_held(r);
	rig_assert_read(r, covered, rig_due(r, 400));
	rig_assert_read(r, apart, rig_due(r, 900));
	(void)rig_fill(r, UINT32_MAX);
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	end(r, job);
	rig_destroy(r);
}

/* Populate takes half of the fills at most: a fault finds one. */
static void fills_are_left_for_faults(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 512, .fill_pages = 8, .nr_fills = 8, .window = 1 });
	struct fln_job *job = begin(r, 0, 500);
	uint32_t t;

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(rig_nr_queued_fills(r), 4);
	t = rig_touch(r, 505);
	rig_serve(r);
	assert_int_equal(rig_nr_queued_fills(r), 5);
	(void)rig_fill(r, 1);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 505));
	for (uint32_t i = 0; i < 100 && job->nr_running > 0; i++) {
		(void)rig_fill(r, UINT32_MAX);
		fln_populate_kicked(&r->worker);
		fln_populate_slice(&r->worker, UINT32_MAX);
	}
	end(r, job);
	rig_destroy(r);
}

static void a_page_that_cannot_be_read_is_reported_and_not_poisoned(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512, .fill_pages = 64 });
	struct fln_job *job = begin(r, 0, 512);

	(void)state;
	r->bad[300] = r->bad[301] = r->bad[77] = true;
	fln_populate_slice(&r->worker, UINT32_MAX);
	(void)rig_fill(r, UINT32_MAX);
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(atomic_load(&job->error), -EIO);
	assert_true(atomic_load(&job->failed_addr) == rig_addr(r, 77));
	assert_int_equal(fake_nr_mapped(&r->fake), 509);
	assert_int_equal(r->fake.nr_calls[FAKE_POISON], 0);
	end(r, job);
	rig_destroy(r);
}

/*
 * Poison of pages that were given up is lifted by the thread that maps zeros over it.  A job that maps
 * none, because it is in the background or is refused, leaves it to be lifted.
 */
static void poison_is_not_forgotten(void **state)
{
	for (uint32_t turn = 0; turn < 3; turn++) {
		struct rig *r = rig_of(
			(struct rig_opts){ .nr_pages = 512, .nr_chunks = 4, .may_unpoison = true });
		struct fln_job *job;

		r->bad[7] = true;
		(void)fake_touch(&r->fake, rig_addr(r, 7));
		rig_serve(r);
		(void)rig_fill(r, UINT32_MAX);
		fln_serve_held(&r->worker);
		assert_int_equal(fake_page(&r->fake, rig_addr(r, 7))->pte, FAKE_POISONED);
		assert_int_equal(fln_image_discard(&r->image, 7 * FLN_PAGE_BYTES, FLN_PAGE_BYTES),
				 0);
		job = begin(r, 7, 1);
		job->background = turn == 0;
		r->fake.fail_errno = turn == 1 ? EAGAIN : ENOMEM;
		r->fake.fail_in = turn > 0;
		fln_populate_slice(&r->worker, UINT32_MAX);
		assert_int_equal(fake_page(&r->fake, rig_addr(r, 7))->pte, FAKE_POISONED);
		assert_true(rig_map_says(r, FLN_PLANE_POISONED, 7));
		assert_false(rig_map_says(r, FLN_PLANE_CLAIMED, 7));
		if (turn == 1)
			rig_lift(r);
		else if (turn == 2)
			fln_populate_slice(&r->worker, UINT32_MAX);
		if (turn > 0)
			assert_true(is_mapped(r, 7) && rig_map_says(r, FLN_PLANE_PRESENT, 7) &&
				    !rig_map_says(r, FLN_PLANE_POISONED, 7));
		rig_lift(r);
		fln_populate_slice(&r->worker, UINT32_MAX);
		assert_true(is_mapped(r, 7));
		end(r, job);
		rig_destroy(r);
	}
	(void)state;
}

static void holes_and_pages_left_out(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512, .fill_pages = 64 });
	struct fln_job *job;

	(void)state;
	r->hole[5] = r->hole[6] = true;
	assert_int_equal(fln_image_fill(&r->image, 0, 512 * FLN_PAGE_BYTES), 0);
	job = begin(r, 0, 256);
	job->background = true;
	job->skip = rig_addr(r, 100);
	fln_populate_slice(&r->worker, UINT32_MAX);
	fln_populate_slice(&r->worker, UINT32_MAX); /* the holes have been found */
	assert_int_equal(r->fake.nr_calls[FAKE_ZEROPAGE], 0);
	assert_false(is_mapped(r, 5));
	assert_false(is_mapped(r, 100));
	assert_int_equal(fake_nr_mapped(&r->fake), 253);
	end(r, job);
	job = begin(r, 0, 256);
	fln_populate_slice(&r->worker, UINT32_MAX);
	fln_populate_slice(&r->worker, UINT32_MAX); /* the holes have been found */
	assert_int_equal(fake_nr_mapped(&r->fake), 256);
	assert_true(is_mapped(r, 5));
	end(r, job);
	rig_destroy(r);
}

/* An unread event puts installs off, and a page may go while it is mapped. */
static void events_in_between(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512, .discard = FLN_DISCARD_IMAGE });
	struct fln_job *job;

	(void)state;
	rig_put(r, 0, 512);
	job = begin(r, 0, 512);
	fake_discard(&r->fake, rig_addr(r, 7), 1, false);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 0);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_AGAIN);
	rig_serve(r);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	end(r, job);
	/* The hole was punched behind our back: what the map believes is not looked at. */
	fake_punch(&r->fake, rig_addr(r, 20), 3);
	fln_rcu_read_lock();
	fln_region_forget(fln_blockmap_chunk(&r->region.map, 0),
			  &(struct fln_mask){ .w = { UINT64_C(7) << 20 } });
	fln_rcu_read_unlock();
	job = begin(r, 0, 512);
	fln_populate_slice(&r->worker, UINT32_MAX);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	end(r, job);
	rig_destroy(r);
}

static void what_ends_a_job(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .fill_pages = 64 });
	struct fln_job *job = begin(r, 0, 1024);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	atomic_store(&job->cancelled, true);
	fln_jobs_look(&r->guest); /* as cancel() does */
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	end(r, job);
	job = begin(r, 0, 1024);
	fln_populate_slice(&r->worker, UINT32_MAX);
	fln_populate_end(&r->worker, &r->guest);
	assert_int_equal(atomic_load(&job->error), -ESHUTDOWN);
	end(r, job);
	job = begin(r, 0, 1024);
	fln_populate_slice(&r->worker, UINT32_MAX);
	atomic_store(&r->region.closing, true);
	fln_jobs_look(&r->guest); /* as a pass does */
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(atomic_load(&job->error), -ESHUTDOWN);
	end(r, job);
	atomic_store(&r->region.closing, false);
	(void)rig_fill(r, UINT32_MAX);
	rig_destroy(r);
}

static uint32_t nr_in_state(const struct fln_job *job, enum fln_job_block_state state)
{
	const struct fln_job_part *part = &job->parts[WORKER];
	uint32_t nr = 0;

	for (uint32_t i = 0; i < part->nr_blocks; i++)
		nr += part->blocks[i].state == state;
	return nr;
}

static void finish(struct rig *r, const struct fln_job *job)
{
	for (uint32_t i = 0; i < 1000 && job->nr_running > 0; i++) {
		(void)rig_fill(r, UINT32_MAX);
		fln_populate_kicked(&r->worker);
		fln_populate_slice(&r->worker, UINT32_MAX);
	}
}

/* Others' jobs wait for other images: a kick is no reason to look at what has not changed. */
static void what_has_not_changed_is_not_looked_at(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 8 * 512, .lead_pages = 100, .fill_pages = 64, .nr_fills = 256 });
	struct fln_job *job = begin(r, 0, 7 * 512);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(nr_in_state(job, FLN_JOB_WAITS), 8);
	fln_populate_kicked(&r->worker);
	assert_int_equal(nr_in_state(job, FLN_JOB_TRY), 0);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_WAITS);
	/* The image's pages are counted from elsewhere: its blocks are parts of two of the region. */
	(void)rig_fill(r, 1);
	fln_populate_kicked(&r->worker);
	assert_in_range(nr_in_state(job, FLN_JOB_TRY), 1, 2);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_BUSY);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 64);
	/* A discard is a change of the image, and of the region's own it is told. */
	fln_jobs_look(&r->guest);
	fln_populate_kicked(&r->worker);
	assert_int_equal(nr_in_state(job, FLN_JOB_TRY), 8);
	/* Now and then all of it is looked at. */
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(nr_in_state(job, FLN_JOB_TRY), 0);
	fln_populate_tick(&r->worker, 2 * FLN_NS_PER_S);
	assert_int_equal(nr_in_state(job, FLN_JOB_TRY), 8);
	finish(r, job);
	assert_int_equal(fake_nr_mapped(&r->fake), 7 * 512);
	end(r, job);
	rig_destroy(r);
}

static void take_nothing(void *ctx, enum fln_change what, uint32_t set)
{
	(void)ctx;
	(void)what;
	(void)set;
}

/* A round costs what there is to do, and not what waits: a change leads to its blocks by itself. */
static void a_change_leads_to_its_blocks(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 8 * 512, .fill_pages = 64, .nr_fills = 256 });
	struct fln_changed *changed = &r->filler.changed[WORKER];
	struct fln_job *job = begin(r, 0, 8 * 512);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(nr_in_state(job, FLN_JOB_WAITS), 8);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_KICK].nr, 1);
	/* Of the other set nothing waits; and what is not told of is not looked for. */
	fln_changed_set(changed, FLN_CHANGE_PAGES,
			(fln_image_set(&r->image) + 1) % FLN_NR_IMAGE_SETS);
	(void)rig_fill(r, 1);
	fln_changed_take(changed, NULL, take_nothing);
	fln_populate_kicked(&r->worker);
	assert_int_equal(nr_in_state(job, FLN_JOB_TRY), 0);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_KICK].nr, 1);
	/* Told of the image: of its blocks the one that has changed. */
	fln_changed_set(changed, FLN_CHANGE_PAGES, fln_image_set(&r->image));
	fln_populate_kicked(&r->worker);
	assert_int_equal(nr_in_state(job, FLN_JOB_TRY), 1);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_WORK].nr, 1);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 64);
	/* Should one never be told of: all that waits is looked at, now and then. */
	(void)rig_fill(r, UINT32_MAX);
	fln_changed_take(changed, NULL, take_nothing);
	fln_populate_tick(&r->worker, 2 * FLN_NS_PER_S);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 8 * 512);
	end(r, job);
	rig_destroy(r);
}

/* A job has its turn also while others have something to do without end. */
static void each_has_its_turn(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 4 * 512, .fill_pages = 64 });
	struct fln_job *busy, *again;

	(void)state;
	rig_put(r, 0, 4 * 512);
	busy = begin(r, 512, 3 * 512);
	fln_populate_slice(&r->worker, 1);
	again = begin(r, 0, 512);
	fake_discard(&r->fake, rig_addr(r, 0), 1, false);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_TIME].nr, 2);
	rig_serve(r);
	/* The first is as one that always has more: a slice never comes to its end. */
	for (uint32_t i = 0; i < 3 && again->nr_running > 0; i++) {
		fln_job_part_needs(&r->worker, &busy->parts[WORKER], FLN_JOB_NEEDS_WORK);
		busy->parts[WORKER].at = busy->addr;
		fln_populate_slice(&r->worker, 1);
	}
	assert_int_equal(again->nr_running, 0);
	for (uint32_t i = 0; i < 100 && busy->nr_running > 0; i++)
		fln_populate_slice(&r->worker, UINT32_MAX);
	end(r, again);
	end(r, busy);
	rig_destroy(r);
}

/* A fill of its image's has come free: its part asks again, though others wait for the pool. */
static void a_free_fill_of_its_image_is_asked_for(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 8 * 512, .fill_pages = 64, .nr_fills = 8 });
	struct fln_job *job = begin(r, 0, 8 * 512);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_FILL].nr, 1);
	(void)rig_fill(r, 1);
	/* As if a worker had asked in vain for one of the pool since. */
	(void)atomic_fetch_or(&r->filler.starved, UINT64_C(1) << WORKER);
	fln_populate_kicked(&r->worker);
	assert_int_equal(r->worker.nr_job_tries, 0);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_WORK].nr, 1);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(rig_nr_queued_fills(r), 4);
	assert_int_equal(r->worker.parts_that[FLN_JOB_NEEDS_FILL].nr, 1);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_WAITS);
	finish(r, job);
	end(r, job);
	rig_destroy(r);
}

/* Where no fill is free nobody asks for one; each that comes free is taken, and no more asked. */
static void one_block_asks_for_each_fill(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 8 * 512, .fill_pages = 64, .nr_fills = 8 });
	struct fln_job *job = begin(r, 0, 8 * 512);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(rig_nr_queued_fills(r), 4);
	assert_int_equal(nr_in_state(job, FLN_JOB_STARVED), 8);
	assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_WAITS);
	for (uint32_t i = 1; i <= 8; i++) {
		(void)rig_fill(r, 1);
		fln_populate_kicked(&r->worker);
		assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_BUSY);
		fln_populate_slice(&r->worker, UINT32_MAX);
		assert_int_equal(rig_nr_queued_fills(r), 4);
		assert_int_equal(fake_nr_mapped(&r->fake), i * 64);
		assert_int_equal(fln_populate_need(&r->worker), FLN_POPULATE_WAITS);
	}
	finish(r, job);
	assert_int_equal(fake_nr_mapped(&r->fake), 8 * 512);
	end(r, job);
	rig_destroy(r);
}

/* What is pushed comes from elsewhere: no fill says when. */
static void what_is_pushed_is_noticed(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 4 * 512, .pushed = true });
	struct fln_job *job = begin(r, 0, 4 * 512);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(nr_in_state(job, FLN_JOB_WAITS), 4);
	for (uint32_t p = 0; p < 4 * 512; p += 128) {
		r->kicked = 0;
		rig_put(r, p, 128);
		assert_int_equal(r->kicked, 1u << WORKER);
		fln_populate_kicked(&r->worker);
		fln_populate_slice(&r->worker, UINT32_MAX);
		assert_int_equal(fake_nr_mapped(&r->fake), p + 128);
	}
	end(r, job);
	rig_destroy(r);
}

/* A page has failed before the region goes: that is no reason to go on. */
static void an_end_comes_after_an_error(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .fill_pages = 64 });
	struct fln_job *job = begin(r, 0, 1024);

	(void)state;
	r->bad[5] = true;
	fln_populate_slice(&r->worker, UINT32_MAX);
	(void)rig_fill(r, 1);
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(atomic_load(&job->error), -EIO);
	assert_int_equal(job->nr_running, 1);
	atomic_store(&r->region.closing, true);
	fln_jobs_look(&r->guest); /* as a pass does */
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(atomic_load(&job->error), -ESHUTDOWN);
	end(r, job);
	atomic_store(&r->region.closing, false);
	(void)rig_fill(r, UINT32_MAX);
	rig_destroy(r);
}

/* Another region has come to the place of the job's, and is shorter. */
static void a_shorter_region_ends_a_job(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1000, .fill_pages = 64 });
	struct fln_job *job = begin(r, 512, 488);

	(void)state;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(job->nr_running, 1);
	r->region.map.nr_pages -= 100;
	fln_jobs_look(&r->guest);
	fln_populate_kicked(&r->worker);
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(atomic_load(&job->error), -ESHUTDOWN);
	end(r, job);
	r->region.map.nr_pages += 100;
	(void)rig_fill(r, UINT32_MAX);
	rig_destroy(r);
}

/* The map calls pages PRESENT that have been taken away: a waiting caller is told no such thing. */
static void what_is_called_present_is_looked_at(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 512 });
	struct fln_job *job;

	(void)state;
	rig_put(r, 0, 512);
	job = begin(r, 0, 512);
	fln_populate_slice(&r->worker, UINT32_MAX);
	end(r, job);
	fake_punch(&r->fake, rig_addr(r, 20), 3);
	assert_int_equal(fake_nr_mapped(&r->fake), 509);
	/* Nobody waits for the end: the map is as good as any hint. */
	job = begin(r, 0, 512);
	job->background = true;
	fln_populate_slice(&r->worker, UINT32_MAX);
	assert_int_equal(fake_nr_mapped(&r->fake), 509);
	end(r, job);
	job = begin(r, 0, 512);
	fln_populate_slice(&r->worker, UINT32_MAX);
	fln_populate_slice(&r->worker, UINT32_MAX); /* the holes have been found */
	assert_int_equal(fake_nr_mapped(&r->fake), 512);
	end(r, job);
	rig_destroy(r);
}

/* A DONTNEED of ours takes each event once; what comes else is somebody's discard. */
static void events_of_our_own(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint64_t lo = rig_addr(r, 0);
	struct fln_quiet q = { .at = lo, .end = lo + 8 * FLN_PAGE_BYTES };
	uint32_t t;

	(void)state;
	assert_false(fln_quiet_takes(&r->guest, lo, lo + FLN_PAGE_BYTES));
	r->guest.advised.quiet = &q;
	assert_false(fln_quiet_takes(&r->guest, lo + FLN_PAGE_BYTES, q.end)); /* later */
	assert_false(fln_quiet_takes(&r->guest, lo, q.end + FLN_PAGE_BYTES)); /* more */
	fake_discard(&r->fake, lo, 4, false);
	rig_serve(r);
	assert_false(fln_quiet_takes(&r->guest, lo, lo + 4 * FLN_PAGE_BYTES)); /* twice */
	fake_discard(&r->fake, lo, 2, false);                                  /* somebody else's */
	rig_serve(r);
	r->guest.advised.quiet = NULL;
	t = rig_touch(r, 1);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	t = rig_touch(r, 3);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 3));
	rig_destroy(r);
}

/* A worker whose jobs have been ended while they waited for faults sleeps again. */
static void what_was_put_off_and_ended_is_forgotten(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 8 * 512, .window = 512 });
	struct fln_job *job;

	(void)state;
	rig_put(r, 0, 8 * 512);
	for (uint32_t i = 0; i < 8; i++)
		(void)rig_touch(r, i * 512);
	fln_serve_shard(&r->worker, &r->shard);
	job = begin(r, 0, 8 * 512);
	fln_worker_round(&r->worker, 0);
	assert_true(r->worker.nr_later > 0);
	assert_true(r->worker.nr_jobs_put_off > 0);
	fln_populate_end(&r->worker, &r->guest);
	for (uint32_t i = 0; i < 8; i++)
		fln_worker_round(&r->worker, 0);
	assert_int_equal(r->worker.nr_later, 0);
	assert_int_equal(r->worker.nr_jobs_put_off, 0);
	assert_int_equal(atomic_load(&job->error), -ESHUTDOWN);
	fake_run(&r->fake);
	end(r, job);
	rig_destroy(r);
}

static void lists_of_ranges_against_a_model(void **state)
{
	enum {
		NR = 64
	};
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	struct fln_ranges *list = NULL;
	uint32_t model[NR] = { 0 };
	struct rng seed = { 11 };

	(void)state;
	for (uint32_t i = 0; i < 5000; i++) {
		uint64_t lo = rng_next(&seed) % NR, hi = lo + 1 + rng_next(&seed) % (NR - lo);
		uint32_t what = (uint32_t)(rng_next(&seed) % 3);
		struct fln_ranges *next = fln_ranges_with(&r->guest, list, lo, hi, what);

		assert_non_null(next);
		fln_ranges_free(&r->guest, list);
		list = next;
		for (uint64_t p = lo; p < hi; p++)
			model[p] = what;
		for (uint64_t p = 0; p < NR; p++) {
			const struct fln_range *at = fln_ranges_next(list, p);

			assert_int_equal(at && at->addr <= p ? at->what : 0, model[p]);
		}
		for (uint32_t k = 1; k < list->nr; k++) {
			assert_true(list->range[k - 1].end <= list->range[k].addr);
			assert_true(list->range[k - 1].end < list->range[k].addr ||
				    list->range[k - 1].what != list->range[k].what);
		}
	}
	fln_ranges_free(&r->guest, list);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_filled_is_mapped_by_runs),
		cmocka_unit_test(a_slice_ends),
		cmocka_unit_test(what_is_not_filled_is_asked_for_and_waited_for),
		cmocka_unit_test(what_is_beside_the_range_is_left_alone),
		cmocka_unit_test(what_is_given_is_seen_as_a_whole),
		cmocka_unit_test(faults_overtake),
		cmocka_unit_test(fills_are_left_for_faults),
		cmocka_unit_test(a_page_that_cannot_be_read_is_reported_and_not_poisoned),
		cmocka_unit_test(poison_is_not_forgotten),
		cmocka_unit_test(holes_and_pages_left_out),
		cmocka_unit_test(events_in_between),
		cmocka_unit_test(what_ends_a_job),
		cmocka_unit_test(what_has_not_changed_is_not_looked_at),
		cmocka_unit_test(a_change_leads_to_its_blocks),
		cmocka_unit_test(each_has_its_turn),
		cmocka_unit_test(a_free_fill_of_its_image_is_asked_for),
		cmocka_unit_test(one_block_asks_for_each_fill),
		cmocka_unit_test(what_is_pushed_is_noticed),
		cmocka_unit_test(an_end_comes_after_an_error),
		cmocka_unit_test(a_shorter_region_ends_a_job),
		cmocka_unit_test(what_is_called_present_is_looked_at),
		cmocka_unit_test(events_of_our_own),
		cmocka_unit_test(what_was_put_off_and_ended_is_forgotten),
		cmocka_unit_test(lists_of_ranges_against_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
