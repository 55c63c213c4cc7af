/* SPDX-License-Identifier: MIT */
/* Memory of another process on the fake kernel: kinds of faults, regions that come late, shares. */
#include "base/clock.h"
#include "base/page.h"
#include "engine/event_queue.h"
#include "engine/held.h"
#include "engine/life/closing.h"
#include "engine/life/deny.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)

static struct rig *foreign(uint32_t nr_pages)
{
	struct rig *r = rig_create(
		&(struct rig_opts){ .nr_pages = nr_pages, .window = 1, .foreign = true });

	rig_put(r, 0, nr_pages);
	return r;
}

static uint32_t take_events(struct rig *r, uint32_t kind, int *error)
{
	struct fln_event e;
	uint32_t nr = 0;

	while (fln_event_take(&r->engine.events, &e)) {
		if (e.kind != kind)
			continue;
		nr++;
		*error = e.error;
		assert_ptr_equal(e.guest, &r->guest);
	}
	return nr;
}

static void write_protection_is_lifted(void **state)
{
	struct rig *r = foreign(64);
	uint32_t t = rig_touch(r, 3), u, v;

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 3));
	fake_protect(&r->fake, rig_addr(r, 3), 1);
	u = rig_touch(r, 3);
	v = rig_touch(r, 3);
	rig_serve(r);
	rig_serve(r);
	rig_assert_read(r, u, rig_due(r, 3));
	rig_assert_read(r, v, rig_due(r, 3));
	assert_int_equal(rig_thread(r, u)->nr_faults, 1);
	assert_int_equal(COUNT(r, resumed), 3);
	assert_int_equal(r->fake.nr_calls[FAKE_COPY], 1); /* not tried again */
	rig_destroy(r);
}

/* Put off by an event: held, and lifted later. */
static void lifting_is_put_off(void **state)
{
	struct rig *r = foreign(64);
	uint32_t t = rig_touch(r, 3), u;

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 3));
	fake_protect(&r->fake, rig_addr(r, 3), 1);
	u = rig_touch(r, 3);
	r->fake.unprotect_errno = EAGAIN;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	r->fake.unprotect_errno = 0;
	rig_held(r);
	rig_assert_read(r, u, rig_due(r, 3));
	rig_destroy(r);
}

/*
 * A page is copied, by the window of its neighbour, after the message of a discard has been
 * read and before the discard takes the page: the map says PRESENT, and the page has gone.
 */
static void a_copy_before_the_discard(void **state)
{
	(void)state;
	for (uint32_t discarded = 0; discarded < 2; discarded++) {
		struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = 1024,
							       .window = 16,
							       .foreign = true,
							       .discard = FLN_DISCARD_IMAGE });
		uint32_t t;

		rig_put(r, 0, 1024);
		if (discarded)
			fake_discard(&r->fake, rig_addr(r, 3), 1, false);
		t = rig_touch(r, 4);
		rig_serve(r);
		rig_settle(r);
		rig_assert_read(r, t, rig_due(r, 4));
		assert_true(rig_map_says(r, FLN_PLANE_PRESENT, 3));
		assert_int_equal(fake_page(&r->fake, rig_addr(r, 3))->pte,
				 discarded ? FAKE_ABSENT : FAKE_MAPPED);
		r->shard.worker = NULL;
		assert_int_equal(fln_region_close(&r->region), 0);
		/* What has gone, and what was never there; what is there stays. */
		assert_int_equal(fake_page(&r->fake, rig_addr(r, 3))->pte,
				 discarded ? FAKE_POISONED : FAKE_MAPPED);
		assert_int_equal(fake_page(&r->fake, rig_addr(r, 4))->pte, FAKE_MAPPED);
		assert_int_equal(fake_page(&r->fake, rig_addr(r, 600))->pte, FAKE_POISONED);
		rig_destroy(r);
	}
}

/* Cannot be lifted: the guest fails, once, and nobody is woken for nothing. */
static void protection_that_stays(void **state)
{
	struct rig *r = foreign(64);
	uint32_t t = rig_touch(r, 3), u;
	int error = 0;

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 3));
	fake_protect(&r->fake, rig_addr(r, 3), 1);
	r->fake.unprotect_errno = EINVAL;
	u = rig_touch(r, 3);
	rig_serve(r);
	for (uint32_t i = 0; i < 50; i++) {
		rig_held(r);
		rig_serve(r);
	}
	assert_int_equal(rig_thread(r, u)->nr_faults, 1);
	assert_int_equal(r->fake.nr_wake_calls, 0);
	assert_int_equal(COUNT(r, faults), 2);
	assert_int_equal(COUNT(r, resumed), 1);
	assert_true(atomic_load(&r->guest.failed));
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	assert_int_equal(error, -EOPNOTSUPP);
	rig_destroy(r);
}

/* Somebody has put a page into the cache behind page 5 of the region. */
static int cached_page(struct rig *r, uint64_t page)
{
	uint64_t words[FLN_PAGE_BYTES / sizeof(uint64_t)];
	struct fake_page *p = fake_page(&r->fake, rig_addr(r, page));
	int fd = memfd_create("theirs", MFD_CLOEXEC);

	assert_true(fd >= 0);
	for (uint32_t i = 0; i < FLN_PAGE_BYTES / sizeof(uint64_t); i++)
		words[i] = 77;
	assert_int_equal(pwrite(fd, words, sizeof(words), 0), sizeof(words));
	p->pte = FAKE_ABSENT;
	p->fd = fd;
	p->file_page = 0;
	return fd;
}

static void unknown_cache_is_not_read(void **state)
{
	struct rig *r = foreign(64);
	int fd = cached_page(r, 5), error = 0;
	uint32_t t = rig_touch(r, 5);

	(void)state;
	for (uint32_t i = 0; i < 20; i++) {
		rig_serve(r);
		rig_held(r);
	}
	rig_assert_killed(r, t);
	assert_int_equal(rig_thread(r, t)->nr_faults, 1);
	assert_int_equal(COUNT(r, poisoned), 1);
	assert_int_equal(COUNT(r, resumed), 0);
	assert_true(atomic_load(&r->guest.failed));
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	rig_destroy(r);
	(void)close(fd);
}

/* What was given up is the guest's own, whatever it holds. */
static void cache_of_discarded_memory_is_mapped(void **state)
{
	struct rig *r = foreign(64);
	uint32_t t = rig_touch(r, 5), u;
	int fd;

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 5));
	fake_discard(&r->fake, rig_addr(r, 5), 1, false);
	rig_serve(r);
	fd = cached_page(r, 5);
	u = rig_touch(r, 5);
	rig_serve(r);
	rig_assert_read(r, u, 77);
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 1);
	assert_false(atomic_load(&r->guest.failed));
	rig_destroy(r);
	(void)close(fd);
}

/* Page-table entries went and nobody said so: what we put there is in the cache still. */
static void cache_that_we_filled_is_mapped(void **state)
{
	struct rig *r = foreign(64);
	uint32_t t = rig_touch(r, 5), u;
	int fd;

	(void)state;
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 5));
	fd = cached_page(r, 5); /* not mapped any more */
	u = rig_touch(r, 5);
	rig_serve(r);
	rig_assert_read(r, u, 77);
	assert_int_equal(COUNT(r, resumed), 2);
	/* But once a page was there before us, PRESENT says nothing. */
	fake_zap(&r->fake, rig_addr(r, 5), 1);
	atomic_store(&r->guest.found_pages, true);
	u = rig_touch(r, 5);
	rig_serve(r);
	rig_assert_killed(r, u);
	rig_destroy(r);
	(void)close(fd);
}

/* It can be neither filled nor poisoned: said aloud, once, and held. */
static void a_page_that_cannot_even_be_poisoned(void **state)
{
	struct rig *r = foreign(64);
	uint32_t t = rig_touch(r, 5);
	int error = 0;

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_times = 1000000;
	r->fake.fail_errno = EINVAL;
	for (uint32_t i = 0; i < 20; i++) {
		rig_serve(r);
		rig_held(r);
	}
	assert_int_equal(rig_thread(r, t)->nr_faults, 1);
	assert_int_equal(r->worker.nr_held, 1);
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	assert_int_equal(error, -EINVAL);
	r->fake.fail_in = 0;
	rig_held(r);
	rig_destroy(r);
}

static struct fln_directory *hide_regions(struct rig *r)
{
	return atomic_exchange(&r->guest.directory, NULL);
}

/* Small pages, of which the kernel refuses one: the others of its block are not poisoned with it. */
static void a_refused_page_spares_its_block(void **state)
{
	struct rig *r = foreign(512);
	uint32_t t = rig_touch(r, 300), u;
	int error = 0;

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_times = 2; /* the copy, and the poison */
	r->fake.fail_errno = EINVAL;
	rig_serve(r);
	assert_int_equal(r->fake.nr_pages_done[FAKE_POISON], 0);
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	assert_int_equal(error, -EINVAL);
	assert_int_equal(r->worker.nr_held, 1);
	u = rig_touch(r, 0);
	rig_serve(r);
	rig_assert_read(r, u, rig_due(r, 0));
	rig_held(r); /* the copy goes through by now */
	rig_assert_read(r, t, rig_due(r, 300));
	rig_destroy(r);
}

/* A part of a huge page can be neither filled nor poisoned: all of it is poisoned. */
static void a_huge_page_is_poisoned_as_a_whole(void **state)
{
	struct rig *r = foreign(1024);
	uint32_t t = rig_touch(r, 300), u = rig_touch(r, 900);
	int error = 0;

	(void)state;
	r->fake.has_huge = true;
	rig_serve(r);
	rig_assert_killed(r, t);
	rig_assert_killed(r, u);
	assert_int_equal(r->fake.nr_pages_done[FAKE_POISON], 1024);
	assert_int_equal(COUNT(r, poisoned), 2);
	assert_int_equal(take_events(r, FLN_EVENT_PAGE_POISONED, &error), 2);
	rig_destroy(r);
}

/* The same where no region is: of small pages the one that is refused waits, and no other. */
static void a_refused_page_of_no_region(void **state)
{
	struct rig *r = foreign(1024);
	struct fln_directory *d = hide_regions(r);
	uint32_t t = rig_touch(r, 300), u;
	int error = 0;

	(void)state;
	rig_serve(r);
	rig_pass_time(r, 10 * FLN_NS_PER_S);
	r->fake.fail_in = 1;
	r->fake.fail_errno = EINVAL;
	fln_serve_held(&r->worker);
	assert_int_equal(r->fake.nr_pages_done[FAKE_POISON], 0);
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	assert_int_equal(r->worker.nr_held, 1);
	atomic_store(&r->guest.directory, d); /* the region has come after all */
	rig_held(r);
	u = rig_touch(r, 0);
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 300));
	rig_assert_read(r, u, rig_due(r, 0));
	d = hide_regions(r);
	r->fake.has_huge = true;
	u = rig_touch(r, 900);
	rig_serve(r);
	rig_pass_time(r, 10 * FLN_NS_PER_S);
	rig_held(r);
	rig_assert_killed(r, u);
	assert_int_equal(r->fake.nr_pages_done[FAKE_POISON], 512);
	assert_int_equal(take_events(r, FLN_EVENT_PAGE_POISONED, &error), 1);
	assert_int_equal(error, -ENOENT);
	atomic_store(&r->guest.directory, d);
	rig_destroy(r);
}

static void stop_is_honoured_when_copies_are_refused(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){
		.nr_pages = 64, .window = 1, .foreign = true, .on_failure = FLN_ON_FAILURE_STOP });
	uint32_t t;
	int error = 0;

	(void)state;
	rig_put(r, 0, 64);
	t = rig_touch(r, 5);
	r->fake.fail_in = 1;
	r->fake.fail_errno = EINVAL;
	rig_serve(r);
	rig_assert_killed(r, t);
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	assert_int_equal(error, -EINVAL);
	rig_destroy(r);
}

static void a_region_that_comes_late(void **state)
{
	struct rig *r = foreign(64);
	struct fln_directory *d = hide_regions(r);
	uint32_t t = rig_touch(r, 5);

	(void)state;
	rig_serve(r);
	rig_held(r);
	assert_int_equal(r->worker.nr_held, 1);
	assert_int_equal(rig_thread(r, t)->nr_faults, 1);
	atomic_store(&r->guest.directory, d);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 5));
	assert_int_equal(rig_thread(r, t)->nr_faults, 1);
	rig_destroy(r);
}

static void a_region_that_never_comes(void **state)
{
	struct rig *r = foreign(64);
	struct fln_directory *d = hide_regions(r);
	uint32_t t = rig_touch(r, 5);
	int error = 0;

	(void)state;
	rig_serve(r);
	assert_int_equal(r->worker.nr_held, 1);
	assert_true(r->worker.next_due_ns != UINT64_MAX);
	rig_pass_time(r, 10 * FLN_NS_PER_S);
	rig_held(r);
	rig_assert_killed(r, t);
	assert_int_equal(COUNT(r, failed), 1);
	assert_int_equal(take_events(r, FLN_EVENT_PAGE_POISONED, &error), 1);
	assert_int_equal(error, -ENOENT);
	atomic_store(&r->guest.directory, d);
	rig_destroy(r);
}

/* The same on a kernel that cannot poison: nobody is woken without progress. */
static void a_region_that_never_comes_before_poison(void **state)
{
	struct rig *r = foreign(64);
	struct fln_directory *d = hide_regions(r);
	uint32_t t = rig_touch(r, 5);
	int error = 0;

	(void)state;
	r->shard.uffd.range_ioctls = 0;
	rig_serve(r);
	rig_pass_time(r, 10 * FLN_NS_PER_S);
	for (uint32_t i = 0; i < 50; i++) {
		rig_held(r);
		rig_serve(r);
	}
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	assert_int_equal(rig_thread(r, t)->nr_faults, 1);
	assert_int_equal(r->fake.nr_wake_calls, 0);
	assert_int_equal(r->worker.nr_held, 1);
	/* Closed, the kernel would give it zeros. */
	assert_true(atomic_load(&r->shard.keep_open));
	assert_int_equal(take_events(r, FLN_EVENT_GUEST_FAILED, &error), 1);
	assert_int_equal(error, -EOPNOTSUPP);
	/* What has gone from there is not waited for. */
	fake_unmap(&r->fake, rig_addr(r, 5), 1);
	rig_serve(r);
	rig_held(r);
	assert_int_equal(r->worker.nr_held, 0);
	atomic_store(&r->guest.directory, d);
	rig_destroy(r);
}

/* Of a worker with two guests one that is greedy leaves room for the other. */
static void one_guest_leaves_room_for_another(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){
		.nr_pages = 512, .batch_max = 16, .held_max = 64, .window = 1, .foreign = true });
	static struct fln_guest greedy;
	static struct fln_shard shard;
	uint32_t t[40];

	(void)state;
	memset(&greedy, 0, sizeof(greedy));
	memset(&shard, 0, sizeof(shard));
	shard.guest = &greedy;
	r->worker.nr_guests = 2;
	for (uint64_t i = 0; i < 1000; i++) {
		struct fln_fault f = { .addr = FLN_PAGE_BYTES * (i + 1), .t0_ns = 1, .nr = 1 };

		fln_hold(&r->worker, &shard, &f, FLN_HELD_FILL);
	}
	assert_int_equal(r->worker.nr_held, 32);
	assert_int_equal(rig_count(&shard.count.held_full), 1000 - 32);
	/* Of the 32 that are left the other guest takes 16, and has them. */
	for (uint32_t i = 0; i < 40; i++)
		t[i] = rig_touch(r, i * 3);
	for (uint32_t i = 0; i < 4; i++)
		rig_serve(r);
	assert_int_equal(r->worker.nr_held, 48);
	assert_int_equal(COUNT(r, held_full), 40 - 16);
	fln_drop_held(&r->worker, &shard);
	assert_int_equal(r->worker.nr_held, 16);
	rig_settle(r);
	for (uint32_t i = 0; i < 40; i++)
		rig_assert_read(r, t[i], rig_due(r, i * 3));
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(write_protection_is_lifted),
		cmocka_unit_test(lifting_is_put_off),
		cmocka_unit_test(a_copy_before_the_discard),
		cmocka_unit_test(protection_that_stays),
		cmocka_unit_test(unknown_cache_is_not_read),
		cmocka_unit_test(cache_of_discarded_memory_is_mapped),
		cmocka_unit_test(cache_that_we_filled_is_mapped),
		cmocka_unit_test(a_page_that_cannot_even_be_poisoned),
		cmocka_unit_test(a_refused_page_spares_its_block),
		cmocka_unit_test(a_huge_page_is_poisoned_as_a_whole),
		cmocka_unit_test(a_refused_page_of_no_region),
		cmocka_unit_test(stop_is_honoured_when_copies_are_refused),
		cmocka_unit_test(a_region_that_comes_late),
		cmocka_unit_test(a_region_that_never_comes),
		cmocka_unit_test(a_region_that_never_comes_before_poison),
		cmocka_unit_test(one_guest_leaves_room_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
