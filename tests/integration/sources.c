/* SPDX-License-Identifier: MIT */
/* Sources that fail, stall and return short: which threads are hit, and how. */
#include "tests/integration/harness.h"

#include <errno.h>

static void wrap_errors(struct bed *b, const struct fln_source_error_opts *o)
{
	struct fln_source *inner;

	maker_source(&b->maker, &inner);
	OK(fln_source_with_errors(inner, o, &b->source));
	fln_source_destroy(inner);
	b->image_opts.source = b->source;
}

/* One read in ten fails, or comes back short: with retries all is right in the end. */
static void some_reads_fail(void)
{
	struct fln_source_error_opts o = FLN_SOURCE_ERROR_OPTS_INIT;
	struct bed b;

	for (uint32_t i = 0; i < 2; i++) {
		bed_init(&b, test_scale(2000, 8000, 60000));
		o.fail_percent = 10;
		o.seed = 7 + i;
		o.error = i ? 0 : EIO;
		b.engine_opts.source_retries = 12;
		wrap_errors(&b, &o);
		bed_up(&b);
		read_all(&b, 200);
		bed_down(&b);
	}
}

struct selective {
	struct bed *bed;
	uint64_t lo, hi; /* these pages fail */
	_Atomic uint32_t nr_sigbus;
};

static void touch_some(void *arg, uint32_t index)
{
	struct selective *s = arg;
	struct bed *b = s->bed;

	for (uint64_t page = index; page < b->nr_pages; page += 200) {
		bool bad = page >= s->lo && page < s->hi, right = false;
		enum touch end = touch_page(bed_page(b, page), 1, page, &right);

		CHECK(end == (bad ? TOUCH_SIGBUS : TOUCH_OK), "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
		CHECK(bad || right, "page %llu: wrong contents", (unsigned long long)page);
		if (bad)
			atomic_fetch_add(&s->nr_sigbus, 1);
	}
}

/* Pages that fail for ever: exactly those that touch them get SIGBUS. */
static void some_pages_fail(void)
{
	struct fln_source_error_opts o = FLN_SOURCE_ERROR_OPTS_INIT;
	struct selective s = { .lo = 701, .hi = 704 };
	struct fln_stats stats;
	uint64_t value;
	struct crew crew;
	struct bed b;

	bed_init(&b, 3000);
	o.offset_bytes = s.lo * PAGE;
	o.len_bytes = (s.hi - s.lo) * PAGE;
	o.error = EIO;
	wrap_errors(&b, &o);
	bed_up(&b);
	s.bed = &b;
	STEP("200 threads beside 3 pages that fail");
	crew_start(&crew, 200, touch_some, &s);
	crew_wait(&crew, 60, "threads beside pages that fail");
	settled_stats(b.guest, &stats);
	CHECK(stats.poisoned >= 3, "%llu poisoned", (unsigned long long)stats.poisoned);
	CHECK(log_names(&b.log, FLN_LOG_ERROR, NULL), "the log does not say so");
	/* It stays so, for later touches too. */
	CHECK(touch_read(bed_page(&b, 702), &value) == TOUCH_SIGBUS, "0x%llx",
	      (unsigned long long)value);
	bed_down(&b);
}

/* A source that hangs: SIGBUS when the time is up, and a line in the log. */
static void stalls(void)
{
	uint64_t timeout_ns = 300 * MS;
	struct toucher t[20];
	struct bed b;

	bed_init(&b, 2000);
	b.engine_opts.source_timeout_ns = timeout_ns;
	atomic_store(&b.maker.gate_closed, true);
	bed_up(&b);
	for (uint32_t i = 0; i < 20; i++)
		toucher_read(&t[i], bed_page(&b, i * 90));
	for (uint32_t i = 0; i < 20; i++) {
		toucher_expect(&t[i], TOUCH_SIGBUS, "a touch of a page whose source hangs");
		CHECK(t[i].took_ns > timeout_ns * 9 / 10 && t[i].took_ns < timeout_ns + 10000 * MS,
		      "SIGBUS after %llu ms", (unsigned long long)(t[i].took_ns / MS));
	}
	CHECK(log_names(&b.log, FLN_LOG_ERROR, NULL), "the log does not say so");
	STEP("taking down while the source hangs");
	OK(fln_guest_stop(b.guest));
	check_stats(b.guest, true, NULL);
	OK(fln_guest_destroy(b.guest));
	REFUSED(fln_image_destroy(b.image), -EBUSY, NULL);
	REFUSED(fln_engine_destroy(b.engine), -EBUSY, "0 1");
	REFUSED(fln_engine_stop(b.engine), -ETIMEDOUT, NULL);
	REFUSED(fln_engine_start(b.engine), -EBUSY, NULL);
	atomic_store(&b.maker.gate_closed, false);
	OK(engine_stop_in_time(b.engine));
	OK(image_destroy_in_time(b.image));
	fln_source_destroy(b.source);
	OK(engine_destroy_in_time(b.engine));
	CHECK(atomic_load(&b.maker.nr_destroyed) == 1, "the source is left");
}

struct busy {
	struct bed *bed;
	_Atomic bool stop;
	_Atomic uint64_t nr;
};

/* Faults on filled pages without a pause: discards that keep contents make them fault again. */
static void keep_busy(void *arg, uint32_t index)
{
	struct busy *busy = arg;
	uint64_t value, page = 512 * (index + 1);

	while (!atomic_load(&busy->stop)) {
		OK(fln_image_discard(busy->bed->image, page * PAGE, PAGE));
		CHECK(touch_read(bed_page(busy->bed, page), &value) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
		atomic_fetch_add(&busy->nr, 1);
	}
}

/* The time is up as punctually when the worker has plenty of other faults to serve. */
static void stall_under_load(void)
{
	uint64_t timeout_ns = 300 * MS;
	struct busy busy = { .bed = NULL };
	struct toucher t;
	struct crew crew;
	struct bed b;

	bed_init(&b, 512 * 20);
	b.engine_opts.source_timeout_ns = timeout_ns;
	b.engine_opts.nr_workers = 1;
	atomic_store(&b.maker.gate_closed, true);
	bed_up(&b);
	busy.bed = &b;
	crew_start(&crew, 16, keep_busy, &busy);
	toucher_read(&t, bed_page(&b, 3));
	toucher_expect(&t, TOUCH_SIGBUS, "a page whose source hangs, under load");
	atomic_store(&busy.stop, true);
	test_note("SIGBUS after %llu ms of %llu, %llu other faults meanwhile",
		  (unsigned long long)(t.took_ns / MS), (unsigned long long)(timeout_ns / MS),
		  (unsigned long long)atomic_load(&busy.nr));
	CHECK(t.took_ns < timeout_ns + 10000 * MS, "SIGBUS after %llu ms",
	      (unsigned long long)(t.took_ns / MS));
	crew_wait(&crew, 20, "threads that kept the worker busy");
	atomic_store(&b.maker.gate_closed, false);
	bed_down(&b);
}

/* A fault on a page that is there does not wait for a source. */
static void asynchronous(void)
{
	struct toucher slow[8];
	uint64_t t0, value;
	struct bed b;

	bed_init(&b, 4096);
	b.engine_opts.nr_workers = 1;
	b.guest_opts.nr_shards = 1;
	bed_up(&b);
	OK(fln_image_fill(b.image, 2048 * PAGE, 2048 * PAGE));
	atomic_store(&b.maker.gate_closed, true);
	for (uint32_t i = 0; i < 8; i++)
		toucher_read(&slow[i], bed_page(&b, i * 200));
	sleep_ms(20);
	STEP("touching filled pages while a source hangs");
	t0 = now_ns();
	for (uint64_t page = 2048; page < 4096; page++) {
		CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu", (unsigned long long)page);
	}
	t0 = now_ns() - t0;
	for (uint32_t i = 0; i < 8; i++)
		CHECK(atomic_load(&slow[i].end) == TOUCH_PENDING, "the slow one went through");
	test_note("2048 filled pages in %llu us beside 8 that wait",
		  (unsigned long long)(t0 / 1000));
	atomic_store(&b.maker.gate_closed, false);
	for (uint32_t i = 0; i < 8; i++)
		toucher_expect_value(&slow[i], word_of(1, i * 200, 0), "the slow one");
	bed_down(&b);
}

/* More faults wait than one worker may hold, with more fills than the pool has: nobody is lost. */
static void more_than_can_be_held(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 4000);
	b.engine_opts.nr_workers = 1;
	b.engine_opts.batch_max = 4;
	b.engine_opts.held_max = 8;
	b.engine_opts.fill_pages = 1;
	b.engine_opts.nr_fillers = 16;
	b.maker.delay_ns = MS / 2;
	bed_up(&b);
	read_all(&b, 200);
	settled_stats(b.guest, &s);
	test_note("%llu times full", (unsigned long long)s.held_full);
	bed_down(&b);
}

/* Pages that failed can be filled by a push; memory that was not touched meanwhile sees it. */
static void filled_by_put(void)
{
	struct fln_source_error_opts o = FLN_SOURCE_ERROR_OPTS_INIT;
	static _Alignas(8) char buf[PAGE];
	struct bed b;
	uint64_t value;

	bed_init(&b, 64);
	o.error = EIO;
	wrap_errors(&b, &o);
	bed_up(&b);
	CHECK(fln_image_fill(b.image, 0, 64 * PAGE) == -EIO, "fill succeeded");
	CHECK(touch_read(bed_page(&b, 1), &value) == TOUCH_SIGBUS, "page 1");
	for (uint64_t page = 0; page < 64; page++) {
		contents_of(1, page, buf);
		OK(fln_image_put(b.image, page * PAGE, buf, PAGE));
	}
	for (uint64_t page = 2; page < 64; page++) {
		CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(some_reads_fail);
	RUN(some_pages_fail);
	RUN(stalls);
	RUN(stall_under_load);
	RUN(asynchronous);
	RUN(more_than_can_be_held);
	RUN(filled_by_put);
	return 0;
}
