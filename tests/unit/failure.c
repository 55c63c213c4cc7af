/* SPDX-License-Identifier: MIT */
/* What is done about pages that have failed, and about faults that wait for memory. */
#include "engine/failure.h"
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/page.h"
#include "engine/events.h"
#include "engine/region_map.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/watch.h"
#include "engine/worker.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <string.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)
#define TIMEOUT_NS (30 * FLN_NS_PER_S)

static struct rig *rig_of(struct rig_opts opts)
{
	return rig_create(&opts);
}

/* The next event is of this kind; returns it. */
static struct fln_event expect_event(struct rig *r, enum fln_event_kind kind)
{
	struct fln_event e = FLN_EVENT_INIT;

	assert_int_equal(fln_engine_next_event(&r->engine, &e), 1);
	assert_int_equal(e.kind, kind);
	return e;
}

static void expect_no_event(struct rig *r)
{
	struct fln_event e = FLN_EVENT_INIT;

	assert_int_equal(fln_engine_next_event(&r->engine, &e), 0);
}

/* Serve, read, and look at what is held. */
static void go(struct rig *r)
{
	rig_serve(r);
	(void)rig_fill(r, UINT32_MAX);
	rig_held(r);
}

static void poisoning_is_told_of(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	struct fln_event e;
	uint32_t t = rig_touch(r, 5);

	(void)state;
	r->bad[5] = true;
	go(r);
	rig_assert_killed(r, t);
	e = expect_event(r, FLN_EVENT_PAGE_POISONED);
	assert_int_equal(e.value, rig_addr(r, 5));
	assert_ptr_equal(e.guest, &r->guest);
	assert_ptr_equal(e.image, &r->image);
	assert_int_equal(e.error, -EIO);
	expect_no_event(r);
	rig_destroy(r);
}

/* A page is to be read again, and others have all the fills: that has an end as well. */
static void a_retry_without_a_fill_has_an_end(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 64, .max_failures = 2, .nr_fills = 1, .timeout_ns = 3 * FLN_NS_PER_S });
	uint32_t t = rig_touch(r, 5), nr = 0;

	(void)state;
	r->bad[5] = true;
	go(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	(void)rig_touch(r, 20);
	rig_serve(r); /* its fill is queued, and nobody reads */
	for (; nr < 20 && rig_thread(r, t)->state == FAKE_WAITING; nr++) {
		rig_pass_time(r, FLN_NS_PER_S);
		rig_held(r);
	}
	assert_in_range(nr, 3, 10);
	rig_assert_killed(r, t);
	assert_int_equal(r->nr_reads[5], 1);
	rig_settle(r);
	rig_destroy(r);
}

static void a_failed_page_is_read_again(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .max_failures = 3 });
	uint32_t t[2];

	(void)state;
	t[0] = rig_touch(r, 5);
	t[1] = rig_touch(r, 5);
	r->bad[5] = true;
	go(r);
	assert_int_equal(r->nr_reads[5], 1);
	assert_int_equal(rig_thread(r, t[0])->state, FAKE_WAITING);
	/* Not before its time, however often it is looked at. */
	rig_pass_time(r, FLN_NS_PER_S / 2);
	for (uint32_t i = 0; i < 5; i++)
		go(r);
	assert_int_equal(r->nr_reads[5], 1);
	rig_pass_time(r, FLN_NS_PER_S / 2);
	rig_held(r);
	go(r);
	assert_int_equal(r->nr_reads[5], 2);
	assert_int_equal(rig_thread(r, t[1])->state, FAKE_WAITING);
	r->bad[5] = false;
	rig_pass_time(r, FLN_NS_PER_S);
	rig_held(r);
	go(r);
	assert_int_equal(r->nr_reads[5], 3);
	for (uint32_t i = 0; i < 2; i++)
		rig_assert_read(r, t[i], rig_due(r, 5));
	assert_int_equal(COUNT(r, major), 2);
	assert_int_equal(COUNT(r, poisoned), 0);
	expect_no_event(r);
	rig_destroy(r);
}

static void only_so_often(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .max_failures = 3 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	r->bad[5] = true;
	rig_settle(r);
	rig_assert_killed(r, t);
	assert_int_equal(r->nr_reads[5], 3);
	(void)expect_event(r, FLN_EVENT_PAGE_POISONED);
	expect_no_event(r);
	rig_destroy(r);
}

/* Contents that are pushed while the fault pauses end the pause. */
static void a_push_ends_the_pause(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .max_failures = 2 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	r->bad[5] = true;
	go(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	rig_put(r, 5, 1);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

static void a_late_page_has_as_many_chances(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .max_failures = 2, .timeout_ns = TIMEOUT_NS });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r); /* nobody reads: the source hangs */
	rig_pass_time(r, TIMEOUT_NS + 1);
	rig_held(r);
	assert_non_null(strstr(r->last_line, "was not delivered"));
	rig_pass_time(r, FLN_NS_PER_S); /* the pause */
	rig_held(r);
	rig_pass_time(r, TIMEOUT_NS / 2); /* counted from the second attempt */
	rig_held(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	rig_pass_time(r, TIMEOUT_NS / 2 + 1);
	rig_held(r);
	rig_assert_killed(r, t);
	assert_int_equal(expect_event(r, FLN_EVENT_PAGE_POISONED).error, -ETIMEDOUT);
	rig_destroy(r);
}

static void stop_takes_what_is_not_there_along(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 64, .window = 1, .on_failure = FLN_ON_FAILURE_STOP });
	uint32_t bad, waits, later, there;

	(void)state;
	rig_put(r, 9, 1);
	r->bad[5] = true;
	bad = rig_touch(r, 5);
	waits = rig_touch(r, 6);
	rig_serve(r);
	assert_int_equal(rig_fill(r, 1), 2); /* of page 5 only: page 6 goes on waiting */
	rig_held(r);
	rig_assert_killed(r, bad);
	rig_held(r); /* as a kicked worker does */
	rig_assert_killed(r, waits);
	later = rig_touch(r, 7);
	there = rig_touch(r, 9);
	rig_serve(r);
	rig_assert_killed(r, later);
	rig_assert_read(r, there, rig_due(r, 9)); /* what is there stays readable */
	assert_int_equal(r->nr_reads[7], 0);
	assert_ptr_equal(expect_event(r, FLN_EVENT_GUEST_FAILED).guest, &r->guest);
	for (uint32_t i = 0; i < 3; i++)
		(void)expect_event(r, FLN_EVENT_PAGE_POISONED);
	expect_no_event(r);
	rig_destroy(r);
}

/* Also of an image that is pushed: nobody waits for it any more. */
static void a_failed_guest_waits_for_no_push(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 64, .on_failure = FLN_ON_FAILURE_STOP, .pushed = true });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	assert_true(fln_guest_fail(&r->guest, -EIO));
	assert_false(fln_guest_fail(&r->guest, -EIO));
	rig_held(r);
	rig_assert_killed(r, t);
	(void)expect_event(r, FLN_EVENT_GUEST_FAILED);
	(void)expect_event(r, FLN_EVENT_PAGE_POISONED);
	expect_no_event(r);
	rig_destroy(r);
}

static struct {
	enum fln_answer answer[16];
	uint32_t nr;
	struct fln_failure last;
} asked;

static enum fln_answer answer(void *ctx, const struct fln_failure *failure)
{
	struct rig *r = ctx;

	assert_ptr_equal(failure->guest, &r->guest);
	assert_ptr_equal(failure->image, &r->image);
	assert_int_equal(failure->size, sizeof(*failure));
	assert_true(asked.nr < 16);
	asked.last = *failure;
	return asked.answer[asked.nr++];
}

static struct rig *asking(struct rig_opts opts)
{
	memset(&asked, 0, sizeof(asked));
	opts.nr_pages = 64;
	opts.image_page = 16;
	opts.on_failure = FLN_ON_FAILURE_ASK;
	opts.ask = answer;
	return rig_create(&opts);
}

static void asked_and_told_to_retry(void **state)
{
	struct rig *r = asking((struct rig_opts){ .window = 1 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	asked.answer[0] = FLN_ANSWER_RETRY;
	asked.answer[1] = FLN_ANSWER_RETRY;
	r->bad[21] = true;
	go(r);
	assert_int_equal(asked.nr, 1);
	assert_int_equal(asked.last.addr, rig_addr(r, 5));
	assert_int_equal(asked.last.image_offset_bytes, fln_pages_to_bytes(21));
	assert_int_equal(asked.last.nr_attempts, 1);
	go(r); /* read at once, and asked again */
	assert_int_equal(r->nr_reads[21], 2);
	assert_int_equal(asked.nr, 2);
	assert_int_equal(asked.last.nr_attempts, 2);
	r->bad[21] = false;
	go(r);
	rig_assert_read(r, t, rig_due(r, 5));
	assert_int_equal(asked.nr, 2);
	rig_destroy(r);
}

static void asked_and_told_to_wait(void **state)
{
	struct rig *r = asking((struct rig_opts){ .window = 1 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	asked.answer[0] = FLN_ANSWER_WAIT;
	asked.answer[1] = FLN_ANSWER_WAIT;
	r->bad[21] = true;
	go(r);
	assert_int_equal(asked.nr, 1);
	rig_pass_time(r, 50 * FLN_NS_PER_MS);
	go(r);
	assert_int_equal(asked.nr, 1);
	rig_pass_time(r, 50 * FLN_NS_PER_MS);
	go(r);
	assert_int_equal(asked.nr, 2);
	assert_int_equal(asked.last.nr_attempts, 1); /* it has not failed since */
	assert_int_equal(asked.last.nr_asked, 2);
	assert_int_equal(r->nr_reads[21], 1);
	rig_put(r, 5, 1);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

static void asked_and_told_nonsense(void **state)
{
	struct rig *r = asking((struct rig_opts){ .window = 1 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	asked.answer[0] = (enum fln_answer)77;
	r->bad[21] = true;
	go(r);
	rig_assert_killed(r, t);
	rig_destroy(r);
}

static void asked_and_told_to_stop(void **state)
{
	struct rig *r = asking((struct rig_opts){ .window = 1 });
	uint32_t t = rig_touch(r, 5), later;

	(void)state;
	asked.answer[0] = FLN_ANSWER_STOP;
	r->bad[21] = true;
	go(r);
	rig_assert_killed(r, t);
	(void)expect_event(r, FLN_EVENT_GUEST_FAILED);
	later = rig_touch(r, 7);
	rig_serve(r);
	rig_assert_killed(r, later);
	assert_int_equal(asked.nr, 1);
	rig_destroy(r);
}

/* A source that is late: asked, told to wait, and asked once more, not at every look. */
static void asked_about_a_late_page(void **state)
{
	struct rig *r = asking((struct rig_opts){ .window = 1, .timeout_ns = TIMEOUT_NS });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	asked.answer[0] = FLN_ANSWER_WAIT;
	asked.answer[1] = FLN_ANSWER_RETRY;
	rig_serve(r);
	rig_pass_time(r, TIMEOUT_NS + 1);
	for (uint32_t i = 0; i < 3; i++)
		rig_held(r);
	assert_int_equal(asked.nr, 1);
	rig_pass_time(r, 100 * FLN_NS_PER_MS);
	for (uint32_t i = 0; i < 3; i++)
		rig_held(r);
	assert_int_equal(asked.nr, 2);
	assert_int_equal(rig_fill(r, UINT32_MAX), 1); /* it comes after all; one read */
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

/* A retry that finds no free fill is no failure. */
static void a_retry_waits_for_a_fill(void **state)
{
	struct rig *r = rig_of(
		(struct rig_opts){ .nr_pages = 64, .window = 1, .max_failures = 2, .nr_fills = 1 });
	uint32_t t = rig_touch(r, 5), other;

	(void)state;
	r->bad[5] = true;
	go(r);
	r->bad[5] = false;
	other = rig_touch(r, 9);
	rig_serve(r); /* it has the only fill */
	rig_pass_time(r, FLN_NS_PER_S);
	for (uint32_t i = 0; i < 3; i++)
		rig_held(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	rig_settle(r);
	rig_assert_read(r, other, rig_due(r, 9));
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

static void memory_is_waited_for_with_pauses(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t calls, t;

	(void)state;
	rig_put(r, 0, 64);
	t = rig_touch(r, 9);
	r->fake.fail_in = 1;
	r->fake.fail_times = 1000;
	r->fake.fail_errno = ENOMEM;
	rig_serve(r);
	calls = r->fake.nr_calls[FAKE_CONTINUE];
	for (uint32_t i = 0; i < 10; i++)
		rig_held(r);
	/* A slow machine may have let the first pauses, of milliseconds, pass. */
	assert_true(r->fake.nr_calls[FAKE_CONTINUE] < calls + 10);
	for (uint32_t i = 0; i < 10; i++) {
		rig_pass_time(r, 128 * FLN_NS_PER_MS);
		rig_held(r);
	}
	assert_non_null(strstr(r->last_line, "no memory"));
	assert_int_equal(COUNT(r, no_memory), 1);
	calls = r->nr_log_lines;
	for (uint32_t i = 0; i < 10; i++) {
		rig_pass_time(r, 128 * FLN_NS_PER_MS);
		rig_held(r);
	}
	assert_int_equal(COUNT(r, no_memory), 1); /* once */
	assert_int_equal(r->nr_log_lines, calls);
	r->fake.fail_in = 0;
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 9));
	assert_int_equal(COUNT(r, minor), 1);
	rig_destroy(r);
}

static void the_cause_of_a_put_off_install_is_told(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 64);
	t = rig_touch(r, 9);
	r->fake.fail_in = 1;
	r->fake.fail_times = 1000;
	r->fake.fail_errno = EAGAIN;
	rig_serve(r);
	rig_pass_time(r, 9 * FLN_NS_PER_S);
	rig_held(r);
	assert_int_equal(r->nr_log_lines, 0);
	rig_pass_time(r, 2 * FLN_NS_PER_S);
	rig_held(r);
	assert_int_equal(r->nr_log_lines, 1);
	assert_non_null(strstr(r->last_line, "put off"));
	assert_int_equal(r->worker.nr_again, 1); /* tried at once, as before */
	r->fake.fail_in = 0;
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 9));
	rig_destroy(r);
}

static void options(void **state)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;

	(void)state;
	assert_int_equal(fln_failure_check_opts(&o), 0);
	o.on_failure = FLN_ON_FAILURE_NR;
	assert_int_equal(fln_failure_check_opts(&o), -EINVAL);
	o.on_failure = FLN_ON_FAILURE_ASK;
	assert_int_equal(fln_failure_check_opts(&o), -EINVAL);
	o.ask = answer;
	assert_int_equal(fln_failure_check_opts(&o), 0);
	o.max_failures = 1;
	assert_int_equal(fln_failure_check_opts(&o), -EINVAL);
	o.on_failure = FLN_ON_FAILURE_STOP;
	assert_int_equal(fln_failure_check_opts(&o), -EINVAL); /* ask without ASK */
	o.ask = NULL;
	assert_int_equal(fln_failure_check_opts(&o), 0);
}

static void an_image_and_a_guest_become_whole(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .lead_pages = 100 });

	(void)state;
	rig_put(r, 0, 1023);
	expect_no_event(r);
	rig_put(r, 1023, 1);
	assert_ptr_equal(expect_event(r, FLN_EVENT_IMAGE_FILLED).image, &r->image);
	for (uint64_t p = 0; p < 1024; p++) {
		uint32_t t = rig_touch(r, p);

		rig_settle(r);
		fake_reap(&r->fake, t);
		if (p < 1008) /* the last window of 16 makes the last block whole */
			expect_no_event(r);
	}
	assert_ptr_equal(expect_event(r, FLN_EVENT_GUEST_WHOLE).guest, &r->guest);
	/* Once: not again when a page has gone and come back. */
	fake_discard(&r->fake, rig_addr(r, 5), 1, false);
	rig_settle(r);
	assert_false(fln_blockmap_all(&r->region.map, FLN_PLANE_PRESENT));
	(void)rig_touch(r, 5);
	rig_settle(r);
	assert_true(fln_blockmap_all(&r->region.map, FLN_PLANE_PRESENT));
	expect_no_event(r);
	rig_destroy(r);
}

/* Nothing of ours ran for a while: that was the process, and not the source. */
static void time_in_which_the_process_was_stopped_is_not_the_sources(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .timeout_ns = 3 * FLN_NS_PER_S });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r);
	fln_worker_round(&r->worker, 0);
	assert_true(r->worker.looked_ns > 0);
	rig_pass_time(r, 10 * FLN_NS_PER_S);
	r->worker.looked_ns -= 10 * FLN_NS_PER_S;
	fln_worker_round(&r->worker, 0);
	rig_held(r);
	assert_int_equal(rig_count(&r->shard.count.poisoned), 0);
	/* The slack of each look counts, and time that passes while it looks. */
	rig_pass_time(r, 2 * FLN_NS_PER_S);
	fln_worker_round(&r->worker, 0);
	rig_held(r);
	assert_int_equal(rig_count(&r->shard.count.poisoned), 0);
	rig_pass_time(r, 2 * FLN_NS_PER_S);
	fln_worker_round(&r->worker, 0);
	rig_held(r);
	rig_assert_killed(r, t);
	rig_settle(r);
	rig_destroy(r);
}

/*
 * The process is stopped while the worker is in the middle of a round: after its look at the
 * clock, and before it judges what is late.  The next look credits it.
 */
static void a_stop_in_the_middle_of_a_round_is_not_the_sources(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .timeout_ns = 3 * FLN_NS_PER_S });
	uint32_t t = rig_touch(r, 5);
	uint64_t looked;

	(void)state;
	rig_serve(r);
	/* Held since just now, and no look has been taken: it begins with the first fault. */
	looked = r->worker.looked_ns;
	assert_true(looked > 0);
	for (uint32_t i = 0; i < 2; i++) {
		rig_pass_time(r, 10 * FLN_NS_PER_S);
		r->worker.looked_ns -= 10 * FLN_NS_PER_S;
		rig_held(r);
		assert_int_equal(rig_count(&r->shard.count.poisoned), 0);
		fln_worker_round(&r->worker, 0);
		assert_true(r->worker.looked_ns > looked);
		rig_held(r);
		assert_int_equal(rig_count(&r->shard.count.poisoned), 0);
	}
	rig_pass_time(r, 4 * FLN_NS_PER_S);
	rig_held(r);
	rig_assert_killed(r, t);
	rig_settle(r);
	rig_destroy(r);
}

/* A worker that has nothing to do sleeps for as long as that lasts: no fault is credited with it. */
static void time_in_which_nothing_waited_is_not_credited(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 128, .timeout_ns = 3 * FLN_NS_PER_S });
	const struct fln_fault *fault;

	(void)state;
	(void)rig_touch(r, 5);
	rig_serve(r);
	fln_worker_round(&r->worker, 0);
	(void)rig_fill(r, UINT32_MAX);
	rig_settle(r);
	assert_int_equal(r->worker.nr_held, 0);
	/* What a round leaves that ends the last fault after its look. */
	r->worker.looked_ns = fln_now_ns() - 3600 * FLN_NS_PER_S;
	r->worker.polls = true; /* its shard is a fake, which no epoll set takes */
	assert_int_equal(fln_worker_watch(&r->worker, &r->shard), 0);
	(void)rig_touch(r, 120);
	fln_worker_round(&r->worker, 0);
	assert_int_equal(r->worker.nr_held, 1);
	fault = &r->worker.held[0].fault;
	assert_true(fault->stopped_ns < FLN_NS_PER_S);
	assert_true(fault->since_ns < fault->t0_ns + FLN_NS_PER_S);
	fln_worker_unwatch(&r->worker, &r->shard);
	(void)rig_fill(r, UINT32_MAX);
	rig_settle(r);
	rig_destroy(r);
}

/* A fault that is younger than the time its worker did not run is credited with all of it. */
static void a_fault_credited_with_more_than_its_age_is_not_late(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .timeout_ns = 3 * FLN_NS_PER_S });
	uint32_t t;

	(void)state;
	(void)rig_touch(r, 9);
	rig_serve(r);
	fln_worker_round(&r->worker, 0);
	t = rig_touch(r, 5);
	rig_serve(r);
	r->worker.looked_ns -= 10 * FLN_NS_PER_S;
	fln_worker_round(&r->worker, 0);
	rig_held(r);
	assert_int_equal(rig_count(&r->shard.count.poisoned), 0);
	(void)rig_fill(r, UINT32_MAX);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_settle(r);
	rig_destroy(r);
}

/* The guest fails for another page's sake: what waits for a read that hangs waits no more. */
static void a_failed_guest_waits_for_no_source(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r);
	rig_held(r);
	assert_int_equal(r->worker.nr_held, 1);
	assert_true(fln_guest_fail(&r->guest, -EIO));
	rig_held(r);
	rig_assert_killed(r, t);
	rig_settle(r);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_in_which_the_process_was_stopped_is_not_the_sources),
		cmocka_unit_test(a_stop_in_the_middle_of_a_round_is_not_the_sources),
		cmocka_unit_test(time_in_which_nothing_waited_is_not_credited),
		cmocka_unit_test(a_fault_credited_with_more_than_its_age_is_not_late),
		cmocka_unit_test(a_failed_guest_waits_for_no_source),
		cmocka_unit_test(poisoning_is_told_of),
		cmocka_unit_test(a_retry_without_a_fill_has_an_end),
		cmocka_unit_test(a_failed_page_is_read_again),
		cmocka_unit_test(only_so_often),
		cmocka_unit_test(a_push_ends_the_pause),
		cmocka_unit_test(a_late_page_has_as_many_chances),
		cmocka_unit_test(stop_takes_what_is_not_there_along),
		cmocka_unit_test(a_failed_guest_waits_for_no_push),
		cmocka_unit_test(asked_and_told_to_retry),
		cmocka_unit_test(asked_and_told_to_wait),
		cmocka_unit_test(asked_and_told_nonsense),
		cmocka_unit_test(asked_and_told_to_stop),
		cmocka_unit_test(asked_about_a_late_page),
		cmocka_unit_test(a_retry_waits_for_a_fill),
		cmocka_unit_test(memory_is_waited_for_with_pauses),
		cmocka_unit_test(the_cause_of_a_put_off_install_is_told),
		cmocka_unit_test(options),
		cmocka_unit_test(an_image_and_a_guest_become_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
