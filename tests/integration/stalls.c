/* SPDX-License-Identifier: MIT */
/* Faults and workers that do not come along are told of, once, with what they wait for. */
#include "engine/events.h"
#include "sources/source.h"
#include "tests/integration/harness.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/source.h>
#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NR_PAGES 2000u
#define STALL_MS 60u

static struct bed bed;

static void begin(void)
{
	bed_init(&bed, NR_PAGES);
	bed.engine_opts.stall_report_ms = STALL_MS;
	bed.engine_opts.nr_workers = 2;
	bed.engine_opts.nr_fillers = 1;
	bed.engine_opts.fill_pages = 1;
	bed.guest_opts.nr_shards = 2; /* even blocks on the first, odd ones on the second */
}

#define ANY UINT64_MAX

/* Waits for an event of @kind that has @value, and reads over others. */
static struct fln_event wait_event(uint32_t kind, uint64_t value)
{
	struct fln_event e = FLN_EVENT_INIT;

	for (uint64_t t0 = now_ns();; sleep_ms(1)) {
		while (fln_engine_next_event(bed.engine, &e) == 1) {
			if (e.kind == kind && (value == ANY || value == e.value))
				return e;
		}
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "no event of kind %u", kind);
	}
}

/* Another worker that the machine has stopped for so long is no mistake. */
static void expect_no_event(uint32_t kind, uint64_t value)
{
	struct fln_event e = FLN_EVENT_INIT;

	while (fln_engine_next_event(bed.engine, &e) == 1)
		CHECK(e.kind != kind || (value != ANY && e.value != value),
		      "one more event of kind %u, value 0x%llx", kind, (unsigned long long)e.value);
}

/* Waits until the oldest fault waits for this. */
static struct fln_oldest_fault wait_oldest(uint32_t waits_for)
{
	struct fln_oldest_fault f = FLN_OLDEST_FAULT_INIT;

	for (uint64_t t0 = now_ns();; sleep_ms(1)) {
		int rc = fln_guest_oldest_fault(bed.guest, &f);

		CHECK(rc >= 0, "%s", fln_last_error());
		if (rc == 1 && f.waits_for == waits_for)
			return f;
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "it waits for %s and not for %s",
		      rc == 1 ? fln_waits_for_name(f.waits_for) : "nothing",
		      fln_waits_for_name(waits_for));
	}
}

static void wait_none(void)
{
	struct fln_oldest_fault f = FLN_OLDEST_FAULT_INIT;
	struct fln_stats s = FLN_STATS_INIT;

	for (uint64_t t0 = now_ns(); fln_guest_oldest_fault(bed.guest, &f) != 0; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "a fault is still said to wait for %s",
		      fln_waits_for_name(f.waits_for));
	OK(fln_guest_stats(bed.guest, &s));
	CHECK(s.oldest_ns == 0, "oldest_ns is %llu", (unsigned long long)s.oldest_ns);
}

static void a_source_that_hangs(void)
{
	struct fln_oldest_fault f;
	struct fln_event e;
	struct toucher t[2];
	char *text;
	int64_t len;

	begin();
	atomic_store(&bed.maker.gate_closed, true);
	bed_up(&bed);
	wait_none();
	toucher_read(&t[0], bed_page(&bed, 600) + 8);
	f = wait_oldest(FLN_WAITS_SOURCE);
	CHECK(f.addr == (uintptr_t)bed_page(&bed, 600) && f.region == bed.region &&
		      f.offset_bytes == 600 * PAGE && f.shard == 1,
	      "it is at 0x%llx, shard %u", (unsigned long long)f.addr, f.shard);
	/* Its only filler is busy. */
	toucher_read(&t[1], bed_page(&bed, 3));
	e = wait_event(FLN_EVENT_FAULT_STALLED, ANY);
	CHECK(e.guest == bed.guest && e.value == f.addr, "of 0x%llx", (unsigned long long)e.value);
	f = wait_oldest(FLN_WAITS_SOURCE);
	CHECK(f.age_ns >= STALL_MS * MS && f.waits_ns > 0 && f.waits_ns <= f.age_ns + 100 * MS,
	      "it is %llu ns old, and waits for %llu", (unsigned long long)f.age_ns,
	      (unsigned long long)f.waits_ns);
	wait_log(&bed.log, FLN_LOG_WARNING, test_hex(f.addr));
	len = fln_guest_stats_json(bed.guest, NULL, 0);
	text = malloc((size_t)len + 1000);
	CHECK(text, "no memory");
	(void)fln_guest_stats_json(bed.guest, text, (size_t)len + 1000);
	CHECK(strstr(text, "\"oldest_ns\":") && !strstr(text, "\"oldest_ns\":0,"), "%s", text);
	free(text);
	sleep_ms(3 * STALL_MS);
	expect_no_event(FLN_EVENT_FAULT_STALLED, ANY); /* once, as long as it is the oldest */
	atomic_store(&bed.maker.gate_closed, false);
	toucher_expect_value(&t[0], word_of(1, 600, 1), "a page that came after all");
	toucher_expect_value(&t[1], word_of(1, 3, 0), "a page that came after all");
	wait_none();
	bed_down(&bed);
}

static void behind_another_read(void)
{
	struct toucher t[2];

	begin();
	bed.engine_opts.stall_report_ms = UINT32_MAX;
	atomic_store(&bed.maker.gate_closed, true);
	bed_up(&bed);
	toucher_read(&t[0], bed_page(&bed, 600));
	(void)wait_oldest(FLN_WAITS_SOURCE);
	toucher_read(&t[1], bed_page(&bed, 3));
	toucher_expect_asleep(&t[1], 3 * STALL_MS, "the source hangs");
	(void)wait_oldest(FLN_WAITS_SOURCE);
	expect_no_event(FLN_EVENT_FAULT_STALLED, ANY); /* it is off */
	atomic_store(&bed.maker.gate_closed, false);
	toucher_expect_value(&t[0], word_of(1, 600, 0), "a page");
	toucher_expect_value(&t[1], word_of(1, 3, 0), "a page");
	bed_down(&bed);
}

static void contents_that_are_pushed(void)
{
	static char contents[PAGE];
	struct toucher t;

	begin();
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	bed_up(&bed);
	toucher_read(&t, bed_page(&bed, 7));
	(void)wait_oldest(FLN_WAITS_PUT);
	CHECK(wait_event(FLN_EVENT_FAULT_STALLED, ANY).value == (uintptr_t)bed_page(&bed, 7),
	      "where");
	contents_of(1, 7, contents);
	OK(fln_image_put(bed.image, 7 * PAGE, contents, PAGE));
	toucher_expect_value(&t, word_of(1, 7, 0), "a page that was pushed");
	wait_none();
	bed_down(&bed);
}

/* The embedder's function, on the worker, takes long. */
static _Atomic bool ask_returns;

static enum fln_answer ask_slowly(void *ctx, const struct fln_failure *failure)
{
	(void)ctx;
	(void)failure;
	while (!atomic_load(&ask_returns))
		sleep_ms(1);
	return FLN_ANSWER_POISON;
}

static void a_worker_that_does_not_come_back(void)
{
	struct fln_source_error_opts errors = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *inner;
	struct fln_oldest_fault f;
	struct toucher t[3];
	char worker[32];

	begin();
	maker_source(&bed.maker, &inner);
	errors.len_bytes = PAGE;
	errors.error = EIO;
	OK(fln_source_with_errors(inner, &errors, &bed.source));
	fln_source_destroy(inner);
	bed.image_opts.source = bed.source;
	bed.engine_opts.source_retries = UINT32_MAX;
	bed.guest_opts.on_failure = FLN_ON_FAILURE_ASK;
	bed.guest_opts.ask = ask_slowly;
	atomic_store(&ask_returns, false);
	bed_up(&bed);
	toucher_read(&t[0], bed_page(&bed, 0));
	f = wait_oldest(FLN_WAITS_WORKER);
	(void)wait_event(FLN_EVENT_WORKER_STALLED, f.worker);
	toucher_read(&t[1], bed_page(&bed, 1)); /* of the same worker: nobody reads of it */
	f = wait_oldest(FLN_WAITS_WORKER);
	CHECK(f.shard == 0 && f.waits_ns >= STALL_MS * MS, "worker %u, shard %u, %llu ns", f.worker,
	      f.shard, (unsigned long long)f.waits_ns);
	(void)snprintf(worker, sizeof(worker), "worker %u", f.worker);
	wait_log(&bed.log, FLN_LOG_WARNING, worker);
	/* The other one serves on. */
	toucher_read(&t[2], bed_page(&bed, 513));
	toucher_expect_value(&t[2], word_of(1, 513, 0), "a page of the other worker");
	sleep_ms(3 * STALL_MS);
	expect_no_event(FLN_EVENT_WORKER_STALLED, f.worker);
	atomic_store(&ask_returns, true);
	toucher_expect(&t[0], TOUCH_SIGBUS, "a page that has failed");
	toucher_expect_value(&t[1], word_of(1, 1, 0), "a page whose worker has come back");
	wait_none();
	bed_down(&bed);
}

static void what_is_refused(void)
{
	struct fln_oldest_fault f = FLN_OLDEST_FAULT_INIT;

	begin();
	bed_up(&bed);
	REFUSED(fln_guest_oldest_fault(NULL, &f), -EINVAL, "guest NULL");
	REFUSED(fln_guest_oldest_fault(bed.guest, NULL), -EINVAL, "out NULL");
	f.size = 3;
	REFUSED(fln_guest_oldest_fault(bed.guest, &f), -EINVAL, "size 3");
	for (uint32_t i = 0; i < FLN_WAITS_NR; i++)
		CHECK(strlen(fln_waits_for_name(i)) > 3, "reason %u has no name", i);
	CHECK(strcmp(fln_waits_for_name(FLN_WAITS_NR), "?") == 0, "a name for none");
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(a_source_that_hangs);
	RUN(behind_another_read);
	RUN(contents_that_are_pushed);
	RUN(a_worker_that_does_not_come_back);
	RUN(what_is_refused);
	return 0;
}
