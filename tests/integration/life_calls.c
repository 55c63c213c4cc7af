/* SPDX-License-Identifier: MIT */
/* Life-cycle calls from many threads at a time, and from where they are awkward. */
#include "engine/command.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "tests/integration/harness.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/source.h>
#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 4096u

static struct bed bed;

static void any_caller(void *arg, uint32_t index)
{
	(void)arg;
	switch (index % 4) {
	case 0:
		OK(fln_engine_stop(bed.engine));
		break;
	case 1:
	case 2:
		OK(fln_guest_stop(bed.guest));
		break;
	default:
		(void)fln_guest_start(bed.guest); /* works, or says why not */
		break;
	}
}

/* Whoever comes second waits for the first, and finds it done. */
static void stops_at_the_same_time(void)
{
	uint32_t nr = test_scale(10, 50, 500);
	struct crew crew;

	for (uint32_t i = 0; i < nr; i++) {
		bed_init(&bed, NR_PAGES);
		bed.guest_opts.nr_shards = 8;
		bed_up(&bed);
		STEP("stopping %u", i);
		crew_start(&crew, 8, any_caller, NULL);
		crew_wait(&crew, WAIT_S, "threads that stop");
		REFUSED(fln_guest_start(bed.guest), -EINVAL, NULL);
		OK(fln_engine_start(bed.engine));
		bed_down(&bed);
	}
}

static void start_engine(void *arg, uint32_t index)
{
	(void)arg;
	(void)index;
	OK(fln_engine_start(bed.engine));
}

static void starts_at_the_same_time(void)
{
	uint32_t nr_threads;
	struct crew crew;

	bed_init(&bed, NR_PAGES);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	nr_threads = count_threads();
	OK(fln_engine_stop(bed.engine));
	for (uint32_t i = 0; i < 20; i++) {
		STEP("starting %u", i);
		crew_start(&crew, 6, start_engine, NULL);
		crew_wait(&crew, WAIT_S, "threads that start");
		CHECK(settle_threads(nr_threads) == nr_threads, "%u threads, not %u",
		      count_threads(), nr_threads);
		OK(fln_engine_stop(bed.engine));
	}
	OK(fln_engine_start(bed.engine));
	bed_up(&bed);
	read_all(&bed, 8);
	bed_down(&bed);
}

struct coming {
	_Atomic bool stop;
	_Atomic uint32_t nr;
};

static void come_and_go(void *arg, uint32_t index)
{
	struct coming *c = arg;

	(void)index;
	while (!atomic_load(&c->stop)) {
		struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
		struct fln_region *region;
		struct fln_guest *guest;
		int rc;

		o.nr_shards = 2;
		rc = fln_guest_create(bed.engine, &o, &guest);
		CHECK(rc == 0 || rc == -EBUSY, "%d: %s", rc, fln_last_error());
		if (rc)
			continue;
		rc = fln_region_add(guest, &bed.region_opts, &region);
		CHECK(rc == 0 || rc == -EINVAL, "%d: %s", rc, fln_last_error());
		(void)fln_guest_start(guest);
		OK(fln_guest_destroy(guest));
		atomic_fetch_add(&c->nr, 1);
	}
}

/* The engine stops and starts under guests that come and go. */
static void guests_come_and_go(void)
{
	struct coming c;
	struct crew crew;

	atomic_init(&c.stop, false);
	atomic_init(&c.nr, 0);
	bed_init(&bed, 512);
	bed_up(&bed);
	crew_start(&crew, 4, come_and_go, &c);
	for (uint32_t i = 0; i < test_scale(20, 100, 1000); i++) {
		STEP("engine stop %u", i);
		OK(fln_engine_stop(bed.engine));
		OK(fln_engine_start(bed.engine));
	}
	wait_count(&c.nr, 1, WAIT_S, "guests that come");
	atomic_store(&c.stop, true);
	crew_wait(&crew, WAIT_S, "guests that come and go");
	bed_down(&bed);
}

static _Atomic uint32_t nr_asked;

static void ask_for_statistics(void *ctx, enum fln_log_level level, const char *msg)
{
	struct fln_stats s = FLN_STATS_INIT;

	(void)level;
	(void)msg;
	if (bed.guest) {
		sleep_ms(20);
		OK(fln_guest_stats(bed.guest, &s));
		atomic_fetch_add(&nr_asked, 1);
	}
	test_log_fn(ctx, level, msg);
}

static int64_t failing_read(void *ctx, uint64_t offset, void *buf, uint64_t len)
{
	(void)ctx;
	(void)offset;
	(void)buf;
	(void)len;
	return -EIO;
}

/* A log callback, of a worker in the midst of a fault, asks while regions come and go. */
static void statistics_from_the_log(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "failing",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = failing_read };
	struct fln_region *region;
	struct toucher t[8];

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.log = ask_for_statistics;
	OK(fln_source_create(&ops, NULL, &bed.source));
	bed.image_opts.source = bed.source;
	bed_up(&bed);
	for (uint32_t i = 0; i < 8; i++)
		toucher_read(&t[i], bed_page(&bed, (uint64_t)i * 512));
	for (uint32_t i = 0; i < 10; i++) {
		STEP("fln_region_add while the log asks for statistics");
		OK(fln_region_add(bed.guest, &bed.region_opts, &region));
		OK(fln_region_remove(region));
	}
	for (uint32_t i = 0; i < 8; i++)
		toucher_expect(&t[i], TOUCH_SIGBUS, "a page that cannot be read");
	CHECK(atomic_load(&nr_asked) > 0, "nothing was said");
	/* Nobody says anything any more: the guest's handle goes. */
	OK(fln_engine_stop(bed.engine));
	bed_down(&bed);
}

/* A start that fails half-way leaves no fault behind that was read by then. */
static void a_start_that_fails(void)
{
	struct toucher t;
	struct fln_worker *w;

	bed_init(&bed, (uint64_t)512 * 8);
	bed.engine_opts.nr_workers = 1;
	bed.guest_opts.nr_shards = 2;
	bed_up_image(&bed);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	bed.region_opts.image = bed.image;
	OK(fln_region_add(bed.guest, &bed.region_opts, &bed.region));
	bed.mem = fln_region_addr(bed.region);
	w = &bed.engine->workers[0];
	/* The second shard is taken already; the first has been served by then. */
	CHECK(fln_worker_command(w, FLN_COMMAND_ATTACH, &bed.guest->shards[1]) == 0, "ATTACH");
	atomic_store(&bed.maker.gate_closed, true);
	toucher_read(&t, bed_page(&bed, 5));
	for (uint32_t i = 0; i < 50; i++) {
		STEP("start %u that fails", i);
		REFUSED(fln_guest_start(bed.guest), -EEXIST, NULL);
	}
	CHECK(fln_worker_command(w, FLN_COMMAND_DETACH, &bed.guest->shards[1]) == 0, "DETACH");
	atomic_store(&bed.maker.gate_closed, false);
	OK(fln_guest_start(bed.guest));
	toucher_expect_value(&t, word_of(1, 5, 0),
			     "a thread that touched before a start that failed");
	bed_down(&bed);
}

static void a_worker_that_has_stopped(void)
{
	bed_init(&bed, 512);
	bed_up(&bed);
	OK(fln_engine_stop(bed.engine));
	CHECK(fln_worker_command(&bed.engine->workers[0], FLN_COMMAND_PASS, NULL) == -ESHUTDOWN,
	      "a worker that has stopped takes commands");
	OK(fln_engine_start(bed.engine));
	CHECK(fln_worker_command(&bed.engine->workers[0], FLN_COMMAND_PASS, NULL) == 0, "PASS");
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(stops_at_the_same_time);
	RUN(starts_at_the_same_time);
	RUN(guests_come_and_go);
	RUN(statistics_from_the_log);
	RUN(a_start_that_fails);
	RUN(a_worker_that_has_stopped);
	return 0;
}
