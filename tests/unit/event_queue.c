/* SPDX-License-Identifier: MIT */
/* The queue of events: order, overflow, many threads, signal handlers. */
#include "engine/event_queue.h"
#include "base/alloc.h"
#include "engine/events.h"
#include "engine/state/engine.h"

#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/event.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define NR_POSTERS 4u
#define NR_TAKERS 3u
#define NR_EACH 50000u

static struct fln_engine engine;

static int set_up(void **state)
{
	(void)state;
	memset(&engine, 0, sizeof(engine));
	assert_int_equal(fln_alloc_init(&engine.alloc, NULL), 0);
	return fln_event_queue_init(&engine.events, &engine.alloc);
}

static int tear_down(void **state)
{
	(void)state;
	fln_event_queue_deinit(&engine.events, &engine.alloc);
	return 0;
}

static void post(uint32_t kind, uint64_t value)
{
	struct fln_event e = { .kind = kind, .value = value, .error = -7 };

	fln_event_post(&engine.events, &e);
}

static bool readable(void)
{
	struct pollfd p = { .fd = fln_engine_event_fd(&engine), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void oldest_first(void **state)
{
	struct fln_event e = FLN_EVENT_INIT;

	(void)state;
	assert_false(readable());
	assert_int_equal(fln_engine_next_event(&engine, &e), 0);
	for (uint64_t round = 0; round < 3000; round++) { /* around the ring, and around */
		for (uint64_t i = 0; i < 5; i++)
			post(FLN_EVENT_IMAGE_FILLED, round * 5 + i);
		for (uint64_t i = 0; i < 5; i++) {
			assert_true(readable());
			assert_int_equal(fln_engine_next_event(&engine, &e), 1);
			assert_int_equal(e.kind, FLN_EVENT_IMAGE_FILLED);
			assert_int_equal(e.error, -7);
			assert_int_equal(e.value, round * 5 + i);
		}
		assert_false(readable());
		assert_int_equal(fln_engine_next_event(&engine, &e), 0);
	}
}

/* What is lost is counted, and what comes once has room when poisoned pages have none. */
static void overflow(void **state)
{
	struct fln_event e = FLN_EVENT_INIT;
	uint64_t nr_lost = 0, nr_poisoned = 0, nr_failed = 0, nr_told = 0;

	(void)state;
	for (uint64_t i = 0; i < 10000; i++)
		post(FLN_EVENT_PAGE_POISONED, i);
	post(FLN_EVENT_GUEST_FAILED, 0);
	while (fln_engine_next_event(&engine, &e) == 1) {
		assert_true(nr_lost == 0 || e.kind != FLN_EVENT_OVERFLOW); /* once */
		switch (e.kind) {
		case FLN_EVENT_OVERFLOW:
			nr_lost += e.value;
			nr_told++;
			break;
		case FLN_EVENT_PAGE_POISONED:
			assert_int_equal(e.value, nr_poisoned); /* the first, in order */
			nr_poisoned++;
			break;
		default:
			assert_int_equal(e.kind, FLN_EVENT_GUEST_FAILED);
			nr_failed++;
		}
	}
	assert_int_equal(nr_told, 1);
	assert_int_equal(nr_poisoned + nr_lost, 10000);
	assert_true(nr_poisoned >= 1024);
	assert_int_equal(nr_failed, 1);
	assert_false(readable());
	/* And it works on. */
	post(FLN_EVENT_GUEST_WHOLE, 3);
	assert_int_equal(fln_engine_next_event(&engine, &e), 1);
	assert_int_equal(e.kind, FLN_EVENT_GUEST_WHOLE);
}

/* Pages of one guest that fail by the million leave room for those of another. */
static void one_guest_leaves_room_for_another(void **state)
{
	struct fln_event e = FLN_EVENT_INIT, p = FLN_EVENT_INIT;
	struct fln_guest *greedy = (struct fln_guest *)(uintptr_t)0x1000;
	struct fln_guest *other = (struct fln_guest *)(uintptr_t)0x2000;
	uint32_t nr_greedy = 0, nr_other = 0;

	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		nr_greedy = nr_other = 0;
		p.kind = FLN_EVENT_PAGE_POISONED;
		p.guest = greedy;
		for (uint32_t i = 0; i < 10000; i++)
			fln_event_post(&engine.events, &p);
		p.guest = other;
		for (uint32_t i = 0; i < 500; i++)
			fln_event_post(&engine.events, &p);
		while (fln_engine_next_event(&engine, &e) == 1) {
			nr_greedy += e.kind == FLN_EVENT_PAGE_POISONED && e.guest == greedy;
			nr_other += e.kind == FLN_EVENT_PAGE_POISONED && e.guest == other;
		}
		assert_int_equal(nr_other, 500);
		assert_in_range(nr_greedy, 1024, 3072);
	}
	assert_false(readable());
}

static void sizes(void **state)
{
	struct {
		struct fln_event e;
		uint64_t more;
	} newer;
	struct fln_event e = FLN_EVENT_INIT;
	size_t older = offsetof(struct fln_event, value);

	(void)state;
	post(FLN_EVENT_PAGE_POISONED, 77);
	e.size = 4;
	assert_int_equal(fln_engine_next_event(&engine, &e), -EINVAL);
	memset(&newer, 0xff, sizeof(newer));
	newer.e.size = sizeof(newer);
	assert_int_equal(fln_engine_next_event(&engine, &newer.e), 1);
	assert_int_equal(newer.e.value, 77);
	assert_int_equal(newer.e.size, sizeof(newer));
	assert_int_equal(newer.more, 0);
	post(FLN_EVENT_PAGE_POISONED, 78);
	e.size = older;
	e.value = 5;
	assert_int_equal(fln_engine_next_event(&engine, &e), 1);
	assert_int_equal(e.value, 5); /* an older caller's struct ends before it */
	assert_int_equal(fln_engine_next_event(NULL, &e), -EINVAL);
}

static _Atomic uint64_t nr_taken, nr_lost, nr_posting;
static _Atomic uint32_t seen[NR_POSTERS * NR_EACH];

static void *poster(void *arg)
{
	uint64_t first = (uintptr_t)arg * NR_EACH;

	for (uint64_t i = 0; i < NR_EACH; i++)
		post(FLN_EVENT_IMAGE_FILLED, first + i);
	atomic_fetch_sub(&nr_posting, 1);
	return NULL;
}

static void *taker(void *arg)
{
	struct fln_event e = FLN_EVENT_INIT;

	(void)arg;
	for (;;) {
		bool last = atomic_load(&nr_posting) == 0;

		if (fln_engine_next_event(&engine, &e) != 1) {
			if (last && !readable())
				return NULL;
			(void)sched_yield();
		} else if (e.kind == FLN_EVENT_OVERFLOW) {
			atomic_fetch_add(&nr_lost, e.value);
		} else {
			assert_int_equal(e.kind, FLN_EVENT_IMAGE_FILLED);
			assert_int_equal(atomic_fetch_add(&seen[e.value], 1), 0); /* once */
			atomic_fetch_add(&nr_taken, 1);
		}
	}
}

/* Everything is taken once, or counted as lost, whoever posts and takes. */
static void many_threads(void **state)
{
	pthread_t posters[NR_POSTERS], takers[NR_TAKERS];

	(void)state;
	atomic_store(&nr_posting, NR_POSTERS);
	for (uintptr_t i = 0; i < NR_TAKERS; i++)
		assert_int_equal(pthread_create(&takers[i], NULL, taker, NULL), 0);
	for (uintptr_t i = 0; i < NR_POSTERS; i++)
		assert_int_equal(pthread_create(&posters[i], NULL, poster, (void *)i), 0);
	for (uint32_t i = 0; i < NR_POSTERS; i++)
		assert_int_equal(pthread_join(posters[i], NULL), 0);
	for (uint32_t i = 0; i < NR_TAKERS; i++)
		assert_int_equal(pthread_join(takers[i], NULL), 0);
	assert_int_equal(nr_taken + nr_lost, NR_POSTERS * NR_EACH);
	assert_true(nr_taken > 0);
	assert_false(readable());
}

static _Atomic uint64_t nr_handled;

static void on_signal(int sig)
{
	(void)sig;
	post(FLN_EVENT_PAGE_POISONED, 1);
	atomic_fetch_add(&nr_handled, 1);
}

static void *annoyer(void *arg)
{
	pthread_t victim = *(pthread_t *)arg;

	for (uint32_t i = 0; i < 2000; i++) {
		(void)pthread_kill(victim, SIGUSR1);
		(void)sched_yield();
	}
	atomic_fetch_sub(&nr_posting, 1);
	return NULL;
}

/* A handler that posts in the middle of a posting, or of a taking, on its own thread. */
static void signal_handlers(void **state)
{
	struct sigaction sa = { .sa_handler = on_signal }, old;
	struct fln_event e = FLN_EVENT_INIT;
	uint64_t posted = 0, got = 0;
	pthread_t self = pthread_self(), thread;

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &sa, &old), 0);
	atomic_store(&nr_posting, 1);
	assert_int_equal(pthread_create(&thread, NULL, annoyer, &self), 0);
	while (atomic_load(&nr_posting) > 0) {
		post(FLN_EVENT_PAGE_POISONED, 0);
		posted++;
		if (fln_engine_next_event(&engine, &e) == 1)
			got += e.kind == FLN_EVENT_OVERFLOW ? e.value : 1;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
	while (fln_engine_next_event(&engine, &e) == 1)
		got += e.kind == FLN_EVENT_OVERFLOW ? e.value : 1;
	assert_true(nr_handled > 0);
	assert_int_equal(got, posted + nr_handled);
	assert_false(readable());
}

/* Posting where nobody listens: nothing happens. */
static void before_it_is_there(void **state)
{
	struct fln_event_queue q = { .slots = NULL };
	struct fln_event e = { .kind = FLN_EVENT_GUEST_WHOLE };

	(void)state;
	fln_event_post(&q, &e);
	assert_false(fln_event_take(&q, &e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(oldest_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(overflow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_guest_leaves_room_for_another, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(sizes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_threads, set_up, tear_down),
		cmocka_unit_test_setup_teardown(signal_handlers, set_up, tear_down),
		cmocka_unit_test(before_it_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
