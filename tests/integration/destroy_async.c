/* SPDX-License-Identifier: MIT */
/*
 * Guests that the engine destroys on a thread of its own: all of them end, each is told of
 * once with its cookie, also while the engine stops or is destroyed meanwhile.
 */
#include "tests/integration/harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NR_PAGES 2000u
#define NR_GUESTS 16u

static struct bed bed;

/* Waits for an event of the kind; others are passed over, but no guest may end unasked. */
static struct fln_event next_of(struct fln_engine *engine, uint32_t kind, const char *what)
{
	struct pollfd p = { .fd = fln_engine_event_fd(engine), .events = POLLIN };
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;

	STEP("waiting for %s", what);
	for (;;) {
		struct fln_event e = FLN_EVENT_INIT;
		int rc = fln_engine_next_event(engine, &e);

		CHECK(rc >= 0, "%s", fln_last_error());
		if (rc == 1 && e.kind == kind)
			return e;
		CHECK(rc == 0 || e.kind != FLN_EVENT_GUEST_DESTROYED, "the guest has ended");
		CHECK(now_ns() < end, "no event tells of %s", what);
		if (rc == 0)
			(void)poll(&p, 1, 100);
	}
}

/* Returns the cookie of the guest that has ended. */
static uint64_t next_end(struct fln_engine *engine, const struct fln_guest **guest)
{
	struct fln_event e = next_of(engine, FLN_EVENT_GUEST_DESTROYED, "a guest's end");

	*guest = e.guest;
	return e.value;
}

static void expect_no_end(struct fln_engine *engine)
{
	struct fln_event e = FLN_EVENT_INIT;

	while (fln_engine_next_event(engine, &e) == 1)
		CHECK(e.kind != FLN_EVENT_GUEST_DESTROYED, "a second end");
}

static bool is_mapped(void *addr)
{
	unsigned char in_core;

	return mincore(addr, PAGE, &in_core) == 0;
}

/* All that the guest had is free when the event has come. */
static void one_guest(void)
{
	const struct fln_guest *was, *guest;
	uint64_t value;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	guest = bed.guest;
	CHECK(touch_read(bed_page(&bed, 9), &value) == TOUCH_OK && value == word_of(1, 9, 0),
	      "page 9 reads 0x%llx", (unsigned long long)value);
	REFUSED(fln_guest_destroy_async(NULL, 1), -EINVAL, "guest");
	OK(fln_guest_destroy_async(bed.guest, UINT64_C(0x123456789abcdef)));
	value = next_end(bed.engine, &was);
	CHECK(was == guest, "another guest");
	CHECK(value == UINT64_C(0x123456789abcdef), "cookie 0x%llx", (unsigned long long)value);
	CHECK(!is_mapped(bed.mem), "its memory is still mapped");
	expect_no_end(bed.engine);
	bed.guest = NULL;
	OK(fln_image_destroy(bed.image));
	fln_source_destroy(bed.source);
	OK(fln_engine_destroy(bed.engine));
}

/* A thread sleeps in its guest's memory, and its source does not answer. */
static void a_fault_in_flight(void)
{
	const struct fln_guest *was;
	struct toucher t;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	atomic_store(&bed.maker.gate_closed, true);
	toucher_read(&t, bed_page(&bed, 3));
	toucher_expect_asleep(&t, 30, "the source hangs");
	OK(fln_guest_destroy_async(bed.guest, 2));
	CHECK(next_end(bed.engine, &was) == 2, "another guest");
	/* Either it found the page unreadable, or that it has gone. */
	CHECK(toucher_wait(&t, "the thread that waited") != TOUCH_OK, "contents in spite of that");
	atomic_store(&bed.maker.gate_closed, false);
	OK(image_destroy_in_time(bed.image));
	fln_source_destroy(bed.source);
	OK(fln_engine_destroy(bed.engine));
}

static _Atomic bool log_holds, log_holds_one;

/* The embedder's log does not return to a worker, which then comes to nothing else. */
static void hold_workers(void *ctx, enum fln_log_level level, const char *msg)
{
	char name[16] = "";

	test_log_fn(ctx, level, msg);
	(void)pthread_getname_np(pthread_self(), name, sizeof(name));
	if (strncmp(name, "fln-worker", 10) != 0)
		return;
	while (atomic_load(&log_holds)) {
		atomic_store(&log_holds_one, true);
		sleep_ms(1);
	}
}

/* The end waits for a worker that does not come back, and the engine tells of that worker. */
static void an_end_that_hangs(void)
{
	const struct fln_guest *was;
	struct toucher t;

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.log = hold_workers;
	bed.engine_opts.stall_report_ms = 200;
	bed.engine_opts.source_timeout_ns = 50 * MS;
	bed_up(&bed);
	atomic_store(&bed.maker.gate_closed, true);
	atomic_store(&log_holds, true);
	toucher_read(&t, bed_page(&bed, 3));
	STEP("waiting for a worker that logs that the source is late");
	for (uint64_t t0 = now_ns(); !atomic_load(&log_holds_one); sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "no worker has said a word");
	OK(fln_guest_destroy_async(bed.guest, 7));
	(void)next_of(bed.engine, FLN_EVENT_WORKER_STALLED, "the worker that does not come back");
	atomic_store(&log_holds, false);
	CHECK(next_end(bed.engine, &was) == 7, "another guest");
	CHECK(toucher_wait(&t, "the thread that waited") != TOUCH_OK, "contents in spite of that");
	atomic_store(&bed.maker.gate_closed, false);
	OK(image_destroy_in_time(bed.image));
	fln_source_destroy(bed.source);
	OK(fln_engine_destroy(bed.engine));
}

static int make_all_but_the_ender(void *ctx, enum fln_thread_kind kind, uint32_t index,
				  void *(*main)(void *arg), void *arg, void **handle)
{
	_Atomic uint32_t *nr_refused = ctx;
	pthread_t *t;

	(void)index;
	if (kind == FLN_THREAD_ENDER) {
		atomic_fetch_add(nr_refused, 1);
		return -EAGAIN;
	}
	t = malloc(sizeof(*t));
	CHECK(t && pthread_create(t, NULL, main, arg) == 0, "no thread");
	*handle = t;
	return 0;
}

static void join_one(void *ctx, void *handle)
{
	pthread_t *t = handle;

	(void)ctx;
	CHECK(pthread_join(*t, NULL) == 0, "pthread_join");
	free(t);
}

/* Where no thread can be made for it, the guest ends all the same. */
static void without_a_thread(void)
{
	static _Atomic uint32_t nr_refused;
	struct fln_thread_hooks hooks = { .size = sizeof(hooks), .ctx = &nr_refused };
	const struct fln_guest *was;

	hooks.create = make_all_but_the_ender;
	hooks.join = join_one;
	bed_init(&bed, NR_PAGES);
	bed.engine_opts.thread_hooks = &hooks;
	bed_up(&bed);
	CHECK(atomic_load(&nr_refused) == 0, "the thread is made before a guest ends");
	OK(fln_guest_destroy_async(bed.guest, 8));
	CHECK(next_end(bed.engine, &was) == 8, "another guest");
	CHECK(atomic_load(&nr_refused) > 0, "the thread was not asked for");
	OK(fln_image_destroy(bed.image));
	fln_source_destroy(bed.source);
	OK(fln_engine_destroy(bed.engine));
}

static struct fln_guest *guests[NR_GUESTS];
static uint8_t *memory[NR_GUESTS];

/* More guests of the bed's image; the bed has none. */
static void make_guests(void)
{
	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		struct fln_region_opts o = bed.region_opts;
		struct fln_region *r;

		OK(fln_guest_create(bed.engine, &bed.guest_opts, &guests[i]));
		o.image = bed.image;
		o.len_bytes = NR_PAGES * PAGE;
		OK(fln_region_add(guests[i], &o, &r));
		OK(fln_guest_start(guests[i]));
		memory[i] = fln_region_addr(r);
	}
}

static void give_one(void *arg, uint32_t index)
{
	uint64_t value;

	(void)arg;
	for (uint64_t page = 0; page < NR_PAGES; page += 97)
		CHECK(touch_read(memory[index] + page * PAGE, &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu", (unsigned long long)page);
	OK(fln_guest_destroy_async(guests[index], index));
}

/* From many threads at once, which have just touched them; and the engine is stopped meanwhile. */
static void many_guests(bool stop)
{
	bool told[NR_GUESTS] = { false };
	struct crew crew;

	make_guests();
	crew_start(&crew, NR_GUESTS, give_one, NULL);
	crew_wait(&crew, WAIT_S, "threads that give a guest each away");
	if (stop)
		OK(engine_stop_in_time(bed.engine));
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		const struct fln_guest *was;
		uint64_t cookie = next_end(bed.engine, &was);

		CHECK(cookie < NR_GUESTS, "cookie %llu", (unsigned long long)cookie);
		CHECK(!told[cookie], "guest %llu has ended twice", (unsigned long long)cookie);
		CHECK(was == guests[cookie], "the cookie of another guest");
		told[cookie] = true;
	}
	expect_no_end(bed.engine);
	for (uint32_t i = 0; stop && i < NR_GUESTS; i++)
		CHECK(!is_mapped(memory[i]), "memory of guest %u is left", i);
	OK(image_destroy_in_time(bed.image));
	fln_source_destroy(bed.source);
	OK(engine_destroy_in_time(bed.engine));
}

static void many_at_once(void)
{
	many_guests(false);
}

static void the_engine_stops(void)
{
	many_guests(true);
}

/* No engine runs that could do it: it is done, and told of, when the call returns. */
static void the_engine_does_not_run(void)
{
	const struct fln_guest *was;

	make_guests();
	OK(engine_stop_in_time(bed.engine));
	for (uint32_t i = 0; i < NR_GUESTS; i++)
		OK(fln_guest_destroy_async(guests[i], i));
	OK(image_destroy_in_time(bed.image));
	for (uint32_t i = 0; i < NR_GUESTS; i++)
		CHECK(next_end(bed.engine, &was) == i, "not guest %u", i);
	fln_source_destroy(bed.source);
	OK(engine_destroy_in_time(bed.engine));
}

/* Guests without memory keep no image, and so nothing but the engine's own end waits for them. */
static void the_engine_is_destroyed(void)
{
	uint32_t nr_fds = count_fds(), nr = test_scale(4, 20, 100);

	for (uint32_t round = 0; round < nr; round++) {
		struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
		struct fln_engine *engine;

		o.flags = test_engine_flags();
		OK(fln_engine_create(&o, &engine));
		OK(fln_engine_start(engine));
		for (uint32_t i = 0; i < NR_GUESTS; i++) {
			OK(fln_guest_create(engine, NULL, &guests[i]));
			OK(fln_guest_start(guests[i]));
		}
		for (uint32_t i = 0; i < NR_GUESTS; i++)
			OK(fln_guest_destroy_async(guests[i], i));
		OK(engine_destroy_in_time(engine));
	}
	CHECK(count_fds() == nr_fds, "%u descriptors, %u before", count_fds(), nr_fds);
}

int main(void)
{
	test_init();
	RUN(one_guest);
	RUN(a_fault_in_flight);
	RUN(an_end_that_hangs);
	RUN(without_a_thread);
	RUN(many_at_once);
	RUN(the_engine_stops);
	RUN(the_engine_does_not_run);
	RUN(the_engine_is_destroyed);
	return 0;
}
