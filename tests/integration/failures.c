/* SPDX-License-Identifier: MIT */
/*
 * What is done about pages that have failed, end to end: poison, try again, ask,
 * stop; and the events that tell of it.
 */
#include "engine/events.h"
#include "engine/state/guest.h"
#include "sources/source.h"
#include "tests/integration/harness.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/context.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/source.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static struct {
	_Atomic uint32_t nr_asked, nr_wait, max_attempts;
	_Atomic int answer;
} asked;

/* Waits for the next event, through the descriptor; ends the test when it does not come. */
static struct fln_event next_event(struct bed *b, const char *what)
{
	struct pollfd p = { .fd = fln_engine_event_fd(b->engine), .events = POLLIN };
	struct fln_event e = FLN_EVENT_INIT;
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;
	int rc;

	STEP("waiting for %s", what);
	do {
		CHECK(now_ns() < end, "%s has not come", what);
		(void)poll(&p, 1, 100);
		rc = fln_engine_next_event(b->engine, &e);
		CHECK(rc >= 0, "%s", fln_last_error());
	} while (rc == 0);
	return e;
}

static void expect_no_event(struct bed *b)
{
	struct pollfd p = { .fd = fln_engine_event_fd(b->engine), .events = POLLIN };
	struct fln_event e = FLN_EVENT_INIT;

	CHECK(fln_engine_next_event(b->engine, &e) == 0, "an event of kind %u", e.kind);
	CHECK(poll(&p, 1, 0) == 0, "the descriptor is readable without an event");
}

/* A bed whose source fails reads of pages [lo, hi), @nr times, 0: for ever. */
static void up_with_errors(struct bed *b, uint64_t lo, uint64_t hi, uint64_t nr)
{
	struct fln_source_error_opts e = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *inner;

	e.offset_bytes = lo * PAGE;
	e.len_bytes = (hi - lo) * PAGE;
	e.error = EIO;
	e.nr_failures = nr;
	maker_source(&b->maker, &inner);
	OK(fln_source_with_errors(inner, &e, &b->source));
	fln_source_destroy(inner);
	b->image_opts.source = b->source;
	b->engine_opts.source_retries = UINT32_MAX; /* none */
	b->engine_opts.fill_pages = 1;
	bed_up(b);
}

static void whole(void)
{
	struct fln_event e;
	bool image = false, guest = false;
	struct bed b;

	bed_init(&b, 2000);
	bed_up(&b);
	expect_no_event(&b);
	read_all(&b, 16);
	while (!image || !guest) {
		e = next_event(&b, "the image filled and the guest whole");
		if (e.kind == FLN_EVENT_IMAGE_FILLED) {
			CHECK(!image && e.image == b.image, "another image, or twice");
			image = true;
		} else {
			CHECK(e.kind == FLN_EVENT_GUEST_WHOLE, "an event of kind %u", e.kind);
			CHECK(!guest && e.guest == b.guest, "another guest, or twice");
			guest = true;
		}
	}
	expect_no_event(&b);
	bed_down(&b);
}

static void poisoned_is_told(void)
{
	struct toucher t;
	struct fln_event e;
	struct bed b;

	bed_init(&b, 600);
	up_with_errors(&b, 5, 6, 0);
	toucher_read(&t, bed_page(&b, 5) + 40);
	toucher_expect(&t, TOUCH_SIGBUS, "a page that has failed");
	e = next_event(&b, "the poisoned page");
	CHECK(e.kind == FLN_EVENT_PAGE_POISONED, "kind %u", e.kind);
	CHECK(e.value == (uintptr_t)bed_page(&b, 5), "address 0x%llx", (unsigned long long)e.value);
	CHECK(e.guest == b.guest && e.image == b.image && e.error < 0, "whose, and why");
	/* Closing poisons what was never filled, and that is no failure. */
	OK(fln_guest_stop(b.guest));
	expect_no_event(&b);
	bed_down(&b);
}

static void tried_again_until_it_comes(void)
{
	struct toucher t;
	struct bed b;

	bed_init(&b, 600);
	b.guest_opts.max_failures = 4;
	up_with_errors(&b, 5, 6, 2);
	toucher_read(&t, bed_page(&b, 5));
	toucher_expect_value(&t, word_of(1, 5, 0), "a page that came at the third attempt");
	expect_no_event(&b);
	bed_down(&b);
}

static void stop_the_guest(void)
{
	struct toucher waits, fails, later, there;
	struct fln_event e;
	struct bed b;

	bed_init(&b, 600);
	b.guest_opts.on_failure = FLN_ON_FAILURE_STOP;
	up_with_errors(&b, 5, 6, 0);
	toucher_read(&there, bed_page(&b, 9));
	toucher_expect(&there, TOUCH_OK, "a page that is there");
	atomic_store(&b.maker.gate_closed, true);
	toucher_read(&waits, bed_page(&b, 100));
	toucher_expect_asleep(&waits, 50, "a page whose source hangs");
	toucher_read(&fails, bed_page(&b, 5));
	toucher_expect(&fails, TOUCH_SIGBUS, "the page that fails");
	toucher_expect(&waits, TOUCH_SIGBUS, "a thread that waits when the guest fails");
	e = next_event(&b, "the guest's failure");
	CHECK(e.kind == FLN_EVENT_GUEST_FAILED && e.guest == b.guest, "kind %u", e.kind);
	toucher_read(&later, bed_page(&b, 200));
	toucher_expect(&later, TOUCH_SIGBUS, "a thread that comes when the guest has failed");
	toucher_read(&there, bed_page(&b, 9) + 8);
	toucher_expect_value(&there, word_of(1, 9, 1), "what is there");
	for (uint32_t i = 0; i < 3; i++) {
		e = next_event(&b, "the poisoned pages");
		CHECK(e.kind == FLN_EVENT_PAGE_POISONED, "kind %u", e.kind);
	}
	CHECK(log_names(&b.log, FLN_LOG_ERROR, NULL), "nobody said so");
	atomic_store(&b.maker.gate_closed, false);
	bed_down(&b);
}

static enum fln_answer ask(void *ctx, const struct fln_failure *failure)
{
	struct bed *b = ctx;

	CHECK(failure->guest == b->guest && failure->image == b->image, "whose");
	CHECK(failure->addr == (uintptr_t)bed_page(b, 5) && failure->image_offset_bytes == 5 * PAGE,
	      "which page: 0x%llx", (unsigned long long)failure->addr);
	if (failure->nr_attempts > asked.max_attempts)
		atomic_store(&asked.max_attempts, failure->nr_attempts);
	atomic_fetch_add(&asked.nr_asked, 1);
	return (enum fln_answer)atomic_load(&asked.answer);
}

/* Retry until it comes; the contents are then pushed by somebody else while it waits. */
static void ask_each_time(void)
{
	uint8_t contents[PAGE];
	struct toucher t;
	struct bed b;

	memset(&asked, 0, sizeof(asked));
	atomic_store(&asked.answer, FLN_ANSWER_RETRY);
	bed_init(&b, 600);
	b.guest_opts.on_failure = FLN_ON_FAILURE_ASK;
	b.guest_opts.ask = ask;
	b.guest_opts.ask_ctx = &b;
	up_with_errors(&b, 5, 6, 0);
	toucher_read(&t, bed_page(&b, 5));
	wait_count(&asked.nr_asked, 5, WAIT_S, "five questions");
	CHECK(asked.max_attempts >= 5, "%u attempts", asked.max_attempts);
	atomic_store(&asked.answer, FLN_ANSWER_WAIT);
	wait_count(&asked.nr_asked, asked.nr_asked + 3, WAIT_S, "three more questions");
	toucher_expect_asleep(&t, 10, "a waiting thread");
	contents_of(1, 5, contents);
	OK(fln_image_put(b.image, 5 * PAGE, contents, PAGE));
	toucher_expect_value(&t, word_of(1, 5, 0), "contents that were pushed");
	expect_no_event(&b);
	bed_down(&b);
}

/* A guest that waits for an answer can be stopped. */
static void stopped_while_it_waits(void)
{
	struct toucher t;
	struct bed b;

	memset(&asked, 0, sizeof(asked));
	atomic_store(&asked.answer, FLN_ANSWER_WAIT);
	bed_init(&b, 600);
	b.guest_opts.on_failure = FLN_ON_FAILURE_ASK;
	b.guest_opts.ask = ask;
	b.guest_opts.ask_ctx = &b;
	up_with_errors(&b, 5, 6, 0);
	toucher_read(&t, bed_page(&b, 5));
	wait_count(&asked.nr_asked, 2, WAIT_S, "two questions");
	OK(fln_guest_stop(b.guest));
	toucher_expect(&t, TOUCH_SIGBUS, "a thread that waited when the guest was stopped");
	bed_down(&b);
}

/* A thread that resolves its own faults: the worker that it asks decides. */
struct own {
	pthread_t thread;
	void *addr;
	uint64_t value;
	_Atomic uint32_t ended;
	enum touch end;
};

static void *touch_in_context(void *arg)
{
	struct own *o = arg;

	OK(fln_thread_enter());
	o->end = touch_read(o->addr, &o->value);
	fln_thread_leave();
	atomic_store(&o->ended, 1);
	return NULL;
}

static enum touch in_context(void *addr, uint64_t *value)
{
	struct own o = { .addr = addr };

	CHECK(pthread_create(&o.thread, NULL, touch_in_context, &o) == 0, "no thread");
	wait_count(&o.ended, 1, WAIT_S, "a thread that resolves its own fault");
	(void)pthread_join(o.thread, NULL);
	*value = o.value;
	return o.end;
}

static void decided_for_a_thread_in_context(void)
{
	struct fln_event e;
	uint64_t value;
	struct bed b;

	OK(fln_sigbus_install());
	bed_init(&b, 600);
	b.region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	b.guest_opts.max_failures = 3;
	b.guest_opts.on_failure = FLN_ON_FAILURE_STOP;
	up_with_errors(&b, 5, 6, 2);
	CHECK(in_context(bed_page(&b, 5), &value) == TOUCH_OK && value == word_of(1, 5, 0),
	      "a page that came at the third attempt: 0x%llx", (unsigned long long)value);
	expect_no_event(&b);
	bed_down(&b);

	bed_init(&b, 600);
	b.region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	b.guest_opts.on_failure = FLN_ON_FAILURE_STOP;
	up_with_errors(&b, 5, 6, 0);
	CHECK(in_context(bed_page(&b, 9), &value) == TOUCH_OK, "a page that is there");
	CHECK(in_context(bed_page(&b, 5), &value) == TOUCH_SIGBUS, "a page that has failed");
	CHECK(in_context(bed_page(&b, 200), &value) == TOUCH_SIGBUS, "another, afterwards");
	CHECK(in_context(bed_page(&b, 9), &value) == TOUCH_OK, "what is there");
	e = next_event(&b, "the guest's failure");
	CHECK(e.kind == FLN_EVENT_GUEST_FAILED && e.guest == b.guest, "kind %u", e.kind);
	for (uint32_t i = 0; i < 2; i++) {
		e = next_event(&b, "the poisoned pages");
		CHECK(e.kind == FLN_EVENT_PAGE_POISONED, "kind %u", e.kind);
		CHECK(e.value == (uintptr_t)bed_page(&b, i ? 200 : 5), "0x%llx",
		      (unsigned long long)e.value);
	}
	expect_no_event(&b);
	bed_down(&b);
	OK(fln_sigbus_remove());
}

static void refused(void)
{
	struct fln_guest *guest = NULL;
	struct bed b;

	bed_init(&b, 600);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	b.guest_opts.on_failure = FLN_ON_FAILURE_NR;
	REFUSED(fln_guest_create(b.engine, &b.guest_opts, &guest), -EINVAL, "on_failure");
	b.guest_opts.on_failure = FLN_ON_FAILURE_ASK;
	REFUSED(fln_guest_create(b.engine, &b.guest_opts, &guest), -EINVAL,
		"FLN_ON_FAILURE_ASK ask");
	b.guest_opts.ask = ask;
	b.guest_opts.max_failures = 2;
	REFUSED(fln_guest_create(b.engine, &b.guest_opts, &guest), -EINVAL, "max_failures");
	b.guest_opts.on_failure = FLN_ON_FAILURE_POISON;
	REFUSED(fln_guest_create(b.engine, &b.guest_opts, &guest), -EINVAL,
		"ask FLN_ON_FAILURE_ASK");
	OK(fln_engine_destroy(b.engine));
}

int main(void)
{
	test_init();
	RUN(refused);
	RUN(whole);
	RUN(poisoned_is_told);
	RUN(tried_again_until_it_comes);
	RUN(stop_the_guest);
	RUN(ask_each_time);
	RUN(stopped_while_it_waits);
	RUN(decided_for_a_thread_in_context);
	return 0;
}
