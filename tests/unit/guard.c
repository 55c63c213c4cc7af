/* SPDX-License-Identifier: MIT */
/* The oldest fault and what it waits for, what is told, and what cannot go on. */
#include "engine/life/guard.h"
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/events.h"
#include "engine/held.h"
#include "engine/life/closing.h"
#include "engine/oldest.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "engine/waiting.h"
#include "engine/watch.h"
#include "engine/worker.h"
#include "sources/image.h"
#include "sources/image_state.h"

#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)
#define STALL_MS 1000u

static struct rig *rig_of(struct rig_opts opts)
{
	return rig_create(&opts);
}

/* The oldest fault is at a page of the region, and waits for this. */
static struct fln_oldest_fault expect_oldest(struct rig *r, uint64_t page, uint32_t waits_for)
{
	struct fln_oldest_fault f = FLN_OLDEST_FAULT_INIT;
	struct fln_stats stats = FLN_STATS_INIT;

	fln_oldest_note(&r->worker);
	assert_int_equal(fln_guest_oldest_fault(&r->guest, &f), 1);
	assert_int_equal(f.addr, rig_addr(r, page));
	assert_ptr_equal(f.region, &r->region);
	assert_int_equal(f.offset_bytes, fln_pages_to_bytes(page));
	assert_string_equal(fln_waits_for_name(f.waits_for), fln_waits_for_name(waits_for));
	assert_int_equal(f.worker, r->worker.opts.index);
	assert_true(f.age_ns > 0);
	assert_int_equal(fln_guest_stats(&r->guest, &stats), 0);
	assert_true(stats.oldest_ns >= f.age_ns);
	return f;
}

static void expect_none(struct rig *r)
{
	struct fln_oldest_fault f = FLN_OLDEST_FAULT_INIT;
	struct fln_stats stats = FLN_STATS_INIT;

	fln_oldest_note(&r->worker);
	assert_null(r->worker.noted);
	assert_int_equal(fln_guest_oldest_fault(&r->guest, &f), 0);
	assert_int_equal(fln_guest_stats(&r->guest, &stats), 0);
	assert_int_equal(stats.oldest_ns, 0);
}

static void it_waits_for_its_source(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .nr_fills = 2 });
	struct fln_oldest_fault f;

	(void)state;
	expect_none(r);
	(void)rig_touch(r, 5);
	rig_serve(r);
	(void)rig_touch(r, 9);
	rig_serve(r);
	(void)expect_oldest(r, 5, FLN_WAITS_FILLER);
	/* As a filler thread does, when it takes the fill. */
	fln_lock(&r->image.lock);
	atomic_store(&fln_fill_find(&r->image, rig_image_page(r, 5))->begun_ns,
		     fln_now_ns() - FLN_NS_PER_S);
	fln_unlock(&r->image.lock);
	f = expect_oldest(r, 5, FLN_WAITS_SOURCE);
	assert_true(f.waits_ns >= FLN_NS_PER_S);
	rig_pass_time(r, FLN_NS_PER_S);
	f = expect_oldest(r, 5, FLN_WAITS_SOURCE);
	assert_true(f.age_ns >= FLN_NS_PER_S);
	(void)rig_fill(r, 1);
	rig_held(r);
	(void)expect_oldest(r, 9, FLN_WAITS_FILLER);
	rig_settle(r);
	expect_none(r);
	rig_destroy(r);
}

/* Two faults of one read() are equally old: in whatever order they are held, it is one of them. */
static void of_equals_it_is_always_the_same(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	struct fln_held first;

	(void)state;
	(void)rig_touch(r, 9);
	(void)rig_touch(r, 5);
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 2);
	(void)expect_oldest(r, 5, FLN_WAITS_FILLER);
	first = r->worker.held[0];
	r->worker.held[0] = r->worker.held[1];
	r->worker.held[1] = first;
	(void)expect_oldest(r, 5, FLN_WAITS_FILLER);
	fln_serve_held(&r->worker); /* puts the index right, too */
	rig_settle(r);
	expect_none(r);
	rig_destroy(r);
}

static void all_fills_are_in_use(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .nr_fills = 1 });

	(void)state;
	(void)rig_touch(r, 9);
	rig_serve(r);
	(void)rig_touch(r, 5);
	rig_serve(r);
	/* The first is read; the second has found no fill, and is the only one that is left. */
	(void)rig_fill(r, 1);
	fln_drop_held(&r->worker, &r->shard);
	fake_run(&r->fake);
	(void)rig_touch(r, 20);
	rig_serve(r);
	(void)rig_touch(r, 30);
	rig_serve(r);
	r->worker.held[0].fault.t0_ns = fln_now_ns();
	(void)expect_oldest(r, 30, FLN_WAITS_FILL);
	rig_settle(r);
	rig_destroy(r);
}

static void it_waits_to_be_pushed(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .pushed = true });
	uint32_t t = rig_touch(r, 7);

	(void)state;
	rig_serve(r);
	(void)expect_oldest(r, 7, FLN_WAITS_PUT);
	rig_put(r, 7, 1);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 7));
	expect_none(r);
	rig_destroy(r);
}

static void it_waits_for_another_attempt(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .max_failures = 3 });

	(void)state;
	(void)rig_touch(r, 5);
	r->bad[5] = true;
	rig_serve(r);
	(void)rig_fill(r, 1);
	rig_held(r);
	(void)expect_oldest(r, 5, FLN_WAITS_RETRY);
	r->bad[5] = false;
	rig_settle(r);
	expect_none(r);
	rig_destroy(r);
}

/* The attempt would be due, and others have all the fills. */
static void its_attempt_waits_for_a_fill(void **state)
{
	struct rig *r =
		rig_of((struct rig_opts){ .nr_pages = 64, .max_failures = 3, .nr_fills = 1 });

	(void)state;
	(void)rig_touch(r, 5);
	r->bad[5] = true;
	rig_serve(r);
	(void)rig_fill(r, 1);
	rig_held(r);
	(void)expect_oldest(r, 5, FLN_WAITS_RETRY);
	(void)rig_touch(r, 20);
	rig_serve(r); /* takes the fill */
	rig_pass_time(r, FLN_NS_PER_S);
	rig_held(r);
	(void)expect_oldest(r, 5, FLN_WAITS_FILL);
	r->bad[5] = false;
	rig_settle(r);
	expect_none(r);
	rig_destroy(r);
}

/* What the kernel or somebody else puts off. */
static void it_waits_for_others(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1 });
	struct fln_mask page = fln_mask_range(3, 4), got;
	struct fln_chunk *c;

	(void)state;
	rig_put(r, 0, 64);
	r->fake.fail_in = 1;
	r->fake.fail_errno = ENOMEM;
	(void)rig_touch(r, 1);
	rig_serve(r);
	(void)expect_oldest(r, 1, FLN_WAITS_MEMORY);
	rig_settle(r);
	r->fake.fail_in = 1;
	r->fake.fail_errno = EAGAIN;
	(void)rig_touch(r, 2);
	rig_serve(r);
	(void)expect_oldest(r, 2, FLN_WAITS_EVENT);
	rig_settle(r);
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&r->region.map, 0);
	got = fln_region_claim(c, &page);
	fln_rcu_read_unlock();
	assert_int_equal(fln_mask_count(&got), 1);
	(void)rig_touch(r, 3);
	rig_serve(r);
	(void)expect_oldest(r, 3, FLN_WAITS_CLAIM);
	fln_region_settle(c, &got, FLN_PAGE_ABSENT);
	rig_settle(r);
	expect_none(r);
	rig_destroy(r);
}

static void it_waits_for_ever(void **state)
{
	/* Foreign: there the access cannot be taken away either. */
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .window = 1, .foreign = true });

	(void)state;
	r->bad[4] = true;
	r->fake.fail_in = 1;
	r->fake.fail_times = 2;
	r->fake.fail_errno = EINVAL;
	(void)rig_touch(r, 4);
	rig_serve(r);
	(void)rig_fill(r, 1);
	rig_held(r);
	(void)expect_oldest(r, 4, FLN_WAITS_POISON);
	r->fake.fail_in = 0;
	rig_settle(r);
	rig_destroy(r);
}

/*
 * A slow source, and four times the faults that a worker can hold: the rest sleeps on in
 * the kernel, however long that lasts, and all are served in the end.
 */
static void there_is_no_room(void **state)
{
	struct rig *r = rig_of((struct rig_opts){
		.nr_pages = 256, .window = 1, .batch_max = 16, .held_max = 64, .nr_fills = 8 });
	uint32_t t[256];

	(void)state;
	for (uint32_t i = 0; i < 256; i++)
		t[i] = rig_touch(r, i);
	for (uint32_t i = 0; i < 40; i++) {
		rig_serve(r);
		rig_held(r);
		assert_true(r->worker.nr_held <= 64);
		assert_true(rig_nr_queued_fills(r) <= 8);
	}
	assert_int_equal(COUNT(r, held_full), 256 - 64);
	assert_int_equal(fake_count(&r->fake, FAKE_WAITING), 256);
	/* With those that are held out of the way, what was put back is the oldest. */
	for (uint32_t i = 0; i < r->worker.nr_held; i++)
		r->worker.held[i].fault.t0_ns = fln_now_ns();
	(void)expect_oldest(r, 64, FLN_WAITS_ROOM);
	rig_settle(r);
	for (uint32_t i = 0; i < 256; i++)
		rig_assert_read(r, t[i], rig_due(r, i));
	expect_none(r);
	rig_destroy(r);
}

static uint32_t take_events(struct rig *r, uint32_t kind, uint64_t value)
{
	struct fln_event e = FLN_EVENT_INIT;
	uint32_t nr = 0;

	while (fln_engine_next_event(&r->engine, &e) == 1) {
		assert_int_equal(e.kind, kind);
		assert_int_equal(e.value, value);
		nr++;
	}
	return nr;
}

static void a_stall_is_told_of_once(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64, .pushed = true });

	(void)state;
	r->engine.guests = &r->guest;
	r->engine.opts.stall_report_ms = STALL_MS;
	(void)rig_touch(r, 7);
	(void)rig_touch(r, 8);
	rig_serve(r);
	fln_oldest_note(&r->worker);
	fln_guard_look(&r->engine, fln_now_ns());
	assert_int_equal(take_events(r, FLN_EVENT_FAULT_STALLED, 0), 0);
	rig_pass_time(r, FLN_NS_PER_S);
	fln_oldest_note(&r->worker);
	for (uint32_t i = 0; i < 3; i++)
		fln_guard_look(&r->engine, fln_now_ns());
	assert_int_equal(take_events(r, FLN_EVENT_FAULT_STALLED, rig_addr(r, 7)), 1);
	assert_int_equal(r->nr_log_lines, 1);
	assert_non_null(strstr(r->last_line, "pushed"));
	/* It ends, and the next is as old. */
	rig_put(r, 7, 1);
	rig_held(r);
	fln_oldest_note(&r->worker);
	for (uint32_t i = 0; i < 3; i++)
		fln_guard_look(&r->engine, fln_now_ns());
	assert_int_equal(take_events(r, FLN_EVENT_FAULT_STALLED, rig_addr(r, 8)), 1);
	r->engine.opts.stall_report_ms = UINT32_MAX;
	r->guest.told_t0_ns = 0;
	fln_guard_look(&r->engine, fln_now_ns());
	assert_int_equal(take_events(r, FLN_EVENT_FAULT_STALLED, 0), 0);
	r->engine.guests = NULL;
	rig_put(r, 8, 1);
	rig_settle(r);
	rig_destroy(r);
}

static void a_worker_that_does_not_come_back(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint64_t now = fln_now_ns(), index = r->worker.opts.index;

	(void)state;
	r->engine.workers = &r->worker;
	r->engine.opts.nr_workers = 1;
	r->engine.opts.stall_report_ms = STALL_MS;
	fln_worker_round(&r->worker, 0);
	for (uint32_t i = 0; i < 3; i++)
		fln_guard_look(&r->engine, now += STALL_MS * FLN_NS_PER_MS / 2);
	assert_int_equal(take_events(r, FLN_EVENT_WORKER_STALLED, index), 1);
	assert_true(atomic_load(&r->worker.stalled_since_ns) > 0);
	/* It comes back, and stays away once more. */
	fln_worker_round(&r->worker, 0);
	fln_guard_look(&r->engine, now += FLN_NS_PER_MS);
	assert_int_equal(atomic_load(&r->worker.stalled_since_ns), 0);
	for (uint32_t i = 0; i < 9; i++)
		fln_guard_look(&r->engine, now += STALL_MS * FLN_NS_PER_MS);
	assert_int_equal(take_events(r, FLN_EVENT_WORKER_STALLED, index), 1);
	/* One that waits for something to do is none of them. */
	atomic_fetch_add(&r->worker.beat, 1);
	for (uint32_t i = 0; i < 9; i++)
		fln_guard_look(&r->engine, now += STALL_MS * FLN_NS_PER_MS);
	assert_int_equal(take_events(r, FLN_EVENT_WORKER_STALLED, index), 0);
	r->engine.workers = NULL;
	r->engine.opts.nr_workers = 0;
	rig_destroy(r);
}

static void a_worker_without_its_epoll_set(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	struct fln_worker *w = &r->worker;
	uint64_t index = w->opts.index;
	bool only_ms;
	uint32_t t;

	(void)state;
	rig_put(r, 0, 60); /* not all: nobody is told of an image that is filled */
	fln_worker_round(w, 0);
	only_ms = w->only_ms; /* false, unless a filter refuses epoll_pwait2() */
	/* Its shard is a fake, which no set takes: so it has none while there are sets. */
	assert_int_equal(close(w->epoll_fd), 0);
	fln_worker_round(w, 0);
	assert_int_equal(take_events(r, FLN_EVENT_WORKER_FAILED, index), 1);
	assert_false(w->polls);
	fln_worker_kick(w);
	fln_worker_round(w, -1); /* the new set has its eventfd */
	assert_false(atomic_load(&w->kicked));
	assert_int_equal(w->only_ms, only_ms); /* a bad descriptor is no refusal */
	/* Somebody closes them all the time. */
	for (uint32_t i = 0; !w->polls; i++) {
		assert_true(i < 100);
		assert_int_equal(close(w->epoll_fd), 0);
		fln_worker_round(w, 0);
	}
	assert_true(take_events(r, FLN_EVENT_WORKER_FAILED, index) > 1);
	assert_int_equal(fln_worker_watch(w, &r->shard), 0);
	t = rig_touch(r, 3);
	fln_worker_round(w, -1);
	fake_run(&r->fake);
	rig_assert_read(r, t, rig_due(r, 3));
	fln_worker_unwatch(w, &r->shard);
	assert_null(w->shards);
	rig_destroy(r);
}

static void a_userfaultfd_that_cannot_be_read(void **state)
{
	static const int later[] = { EMFILE, ENFILE, ENOMEM };
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	uint32_t t = rig_touch(r, 3);

	(void)state;
	rig_put(r, 0, 60); /* not all: nobody is told of an image that is filled */
	/* Want of descriptors or memory passes. */
	for (uint32_t i = 0; i < 3; i++) {
		r->fake.read_errno = later[i];
		rig_serve(r);
		assert_false(atomic_load(&r->guest.failed));
	}
	r->fake.read_errno = 0;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 3));
	r->fake.read_errno = EIO;
	rig_serve(r);
	assert_true(atomic_load(&r->guest.failed));
	assert_true(atomic_load(&r->guest.must_stop));
	assert_true(atomic_load(&r->shard.unreadable));
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, 0), 1);
	assert_non_null(strstr(r->last_line, "stopped"));
	rig_destroy(r);
}

/* The kernel puts poisoning off for ever: closing has an end, and nothing reads zeros. */
static void closing_has_an_end(void **state)
{
	static const int errors[] = { ENOMEM, EAGAIN };

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .window = 1 });
		uint64_t t0 = fln_now_ns();

		rig_put(r, 0, 8);
		r->engine.close_patience_ns = 20 * FLN_NS_PER_MS;
		r->shard.worker = NULL;
		r->fake.fail_in = 1;
		r->fake.fail_times = UINT32_MAX;
		r->fake.fail_errno = errors[i];
		r->fake.deny_errno = EPERM;
		assert_int_equal(fln_region_close(&r->region), -EIO);
		/* Once for all of the region, and not for each block. */
		assert_true(fln_now_ns() - t0 >= 20 * FLN_NS_PER_MS);
		assert_true(r->region.close_waited_ns < 20 * FLN_NS_PER_MS + 10 * FLN_NS_PER_S);
		assert_true(r->region.unsafe);
		assert_true(r->shard.keep_open);
		assert_int_equal(fake_nr_mapped(&r->fake), 0);
		r->fake.fail_in = 0;
		rig_destroy(r);
	}
}

/* What the embedder has put in a region's place keeps its access. */
static void closing_leaves_others_alone(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 1024, .is_private = true });
	size_t len = 1024 * FLN_PAGE_BYTES;
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	void *own;

	(void)state;
#ifdef __SANITIZE_THREAD__
	/* It has mappings of its own where the rig has its region. */
	rig_destroy(r);
	assert_int_equal(close(zero), 0);
	skip();
#endif
	own = mmap((void *)(uintptr_t)RIG_ADDR, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(own, (void *)(uintptr_t)RIG_ADDR);
	assert_true(zero >= 0);
	rig_put(r, 0, 8);
	fake_discard(&r->fake, rig_addr(r, 3), 600, false);
	rig_serve(r);
	r->engine.memory = NULL; /* the kernel's */
	r->shard.worker = NULL;
	assert_int_equal(fln_region_close(&r->region), 0);
	assert_int_equal(read(zero, own, len), len); /* EFAULT: the access has gone */
	assert_int_equal(munmap(own, len), 0);
	assert_int_equal(close(zero), 0);
	rig_destroy(r);
}

static ssize_t read_of_closed(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr)
{
	(void)u;
	(void)msgs;
	(void)nr;
	return -EBADF;
}

/* Closed behind our back, while a copy lives: its worker's set must not go on naming it. */
static void a_userfaultfd_that_somebody_closes(void **state)
{
	struct rig *r = rig_of((struct rig_opts){ .nr_pages = 64 });
	const struct fln_uffd_ops *ops = r->shard.uffd.ops;
	struct fln_uffd_ops closed = *ops;
	int before = r->shard.uffd.fd, copy;
	struct fln_worker *w = &r->worker;
	uint32_t nr_lines;

	(void)state;
	closed.read = read_of_closed;
	r->shard.uffd.ops = &closed;
	r->shard.uffd.fd = eventfd(1, EFD_CLOEXEC); /* it always has something */
	copy = dup(r->shard.uffd.fd);
	assert_true(copy >= 0);
	assert_int_equal(fln_worker_watch(w, &r->shard), 0);
	assert_int_equal(close(r->shard.uffd.fd), 0);
	fln_worker_round(w, 0);
	assert_true(atomic_load(&r->guest.failed));
	assert_null(w->shards);
	nr_lines = r->nr_log_lines;
	for (uint32_t i = 0; i < 3; i++)
		assert_false(fln_worker_wait(w, 0, &(bool){ false }, &(bool){ false }));
	assert_int_equal(r->nr_log_lines, nr_lines);
	assert_false(w->polls);
	r->shard.uffd.fd = before;
	r->shard.uffd.ops = ops;
	assert_int_equal(close(copy), 0);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_waits_for_its_source),
		cmocka_unit_test(of_equals_it_is_always_the_same),
		cmocka_unit_test(all_fills_are_in_use),
		cmocka_unit_test(it_waits_to_be_pushed),
		cmocka_unit_test(it_waits_for_another_attempt),
		cmocka_unit_test(its_attempt_waits_for_a_fill),
		cmocka_unit_test(it_waits_for_others),
		cmocka_unit_test(it_waits_for_ever),
		cmocka_unit_test(there_is_no_room),
		cmocka_unit_test(a_stall_is_told_of_once),
		cmocka_unit_test(a_worker_that_does_not_come_back),
		cmocka_unit_test(a_worker_without_its_epoll_set),
		cmocka_unit_test(a_userfaultfd_that_cannot_be_read),
		cmocka_unit_test(closing_has_an_end),
		cmocka_unit_test(closing_leaves_others_alone),
		cmocka_unit_test(a_userfaultfd_that_somebody_closes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
