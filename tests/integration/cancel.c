/* SPDX-License-Identifier: MIT */
/*
 * Threads that are cancelled inside a call: the call comes to its end first, in which
 * callbacks of the embedder's are part of it, and nothing of what it held is left behind.
 */
#include "tests/integration/harness.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct bed bed;

/* A call on a thread of its own, which is cancelled while the source is held back. */
struct caller {
	pthread_t thread;
	int (*call)(void);
	_Atomic bool returned;
	int rc;
};

#if TEST_ASAN
void __asan_handle_no_return(void);
#endif

/*
 * AddressSanitizer does not see that cancelling takes frames off the stack: where they lay
 * stays poisoned, and its own end of the thread trips over that.
 */
static void unwound(void *arg)
{
	(void)arg;
#if TEST_ASAN
	__asan_handle_no_return();
#endif
}

static void *caller_main(void *arg)
{
	struct caller *c = arg;

	c->rc = c->call();
	atomic_store(&c->returned, true);
	pthread_cleanup_push(unwound, NULL);
	for (;;)
		pthread_testcancel();
	pthread_cleanup_pop(0);
	return NULL;
}

static void begin(void)
{
	bed_init(&bed, 4096);
	bed_up(&bed);
	atomic_store(&bed.maker.gate_closed, true);
}

static void cancelled_in(int (*call)(void), const char *what)
{
	struct caller c = { .call = call };
	void *end = NULL;

	STEP("%s", what);
	CHECK(pthread_create(&c.thread, NULL, caller_main, &c) == 0, "a thread");
	wait_count(&bed.maker.nr_inside, 1, WAIT_S, "a read of the source");
	CHECK(pthread_cancel(c.thread) == 0, "pthread_cancel");
	sleep_ms(30);
	CHECK(!atomic_load(&c.returned), "%s has returned before the source has", what);
	atomic_store(&bed.maker.gate_closed, false);
	CHECK(pthread_join(c.thread, &end) == 0 && end == PTHREAD_CANCELED, "%s: not cancelled",
	      what);
	CHECK(atomic_load(&c.returned), "%s was cancelled before it returned", what);
	CHECK(c.rc == 0, "%s returned %d", what, c.rc);
}

static int populate(void)
{
	return fln_guest_populate(bed.guest, (uintptr_t)bed.mem, bed.nr_pages * PAGE, NULL);
}

static int stop(void)
{
	return fln_engine_stop(bed.engine);
}

static void in_populate(void)
{
	begin();
	cancelled_in(populate, "fln_guest_populate()");
	read_all(&bed, 2);
	bed_down(&bed);
}

static void in_stop(void)
{
	struct toucher t;

	begin();
	toucher_read(&t, bed_page(&bed, 7));
	wait_count(&bed.maker.nr_inside, 1, WAIT_S, "a read of the source");
	cancelled_in(stop, "fln_engine_stop()");
	(void)toucher_wait(&t, "a page that was read while its guest stopped");
	bed_down(&bed);
}

/*
 * Every call again and again on threads that are cancelled at any moment: whatever they
 * held when it came, others get it afterwards.
 */
static _Atomic uint32_t nr_calls;

static void *storm_main(void *arg)
{
	struct fln_residency residency = { .size = sizeof(residency) };
	struct fln_stats stats = FLN_STATS_INIT;
	struct fln_event event = FLN_EVENT_INIT;
	char text[4096];

	pthread_cleanup_push(unwound, NULL);
	for (;;) {
		uint64_t page = next_random(arg) % (bed.nr_pages - 64);
		uint8_t *at = bed_page(&bed, page);

		switch (next_random(arg) % 8) {
		case 0:
			(void)fln_guest_populate(bed.guest, (uintptr_t)at, 64 * PAGE, NULL);
			break;
		case 1:
			(void)fln_guest_stats(bed.guest, &stats);
			break;
		case 2:
			(void)fln_guest_residency(bed.guest, (uintptr_t)at, 64 * PAGE, NULL,
						  &residency);
			break;
		case 3:
			(void)fln_engine_next_event(bed.engine, &event);
			break;
		case 4:
			(void)fln_engine_stats_prometheus(bed.engine, text, sizeof(text));
			break;
		case 5:
			(void)fln_guest_advise(bed.guest, (uintptr_t)at, 64 * PAGE,
					       FLN_ADVICE_RANDOM);
			break;
		case 6:
			(void)fln_image_discard(bed.image, page * PAGE, PAGE);
			break;
		default:
			if (fln_thread_enter() == 0)
				fln_thread_leave();
			break;
		}
		atomic_fetch_add(&nr_calls, 1);
		pthread_testcancel();
	}
	pthread_cleanup_pop(0);
	return NULL;
}

static void at_any_moment(void)
{
	uint32_t nr = test_scale(100, 400, 4000);
	uint64_t random = 1;

	bed_init(&bed, 4096);
	bed_up(&bed);
	for (uint32_t i = 0; i < nr; i++) {
		pthread_t threads[4];
		uint64_t seeds[4];
		struct timespec nap = { .tv_nsec = (long)(next_random(&random) % 1000000) };

		STEP("threads %u to %u of %u", 4 * i, 4 * i + 3, 4 * nr);
		for (uint32_t j = 0; j < 4; j++) {
			seeds[j] = next_random(&random) | 1;
			CHECK(pthread_create(&threads[j], NULL, storm_main, &seeds[j]) == 0,
			      "a thread");
		}
		(void)nanosleep(&nap, NULL);
		for (uint32_t j = 0; j < 4; j++)
			(void)pthread_cancel(threads[j]);
		for (uint32_t j = 0; j < 4; j++)
			CHECK(pthread_join(threads[j], NULL) == 0, "pthread_join");
	}
	CHECK(atomic_load(&nr_calls) > 0, "no thread came to its first call");
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(in_populate);
	RUN(in_stop);
	RUN(at_any_moment);
	return 0;
}
