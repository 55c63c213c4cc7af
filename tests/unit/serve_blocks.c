/* SPDX-License-Identifier: MIT */
/* Blocks: regions that meet inside one, and blocks for which no chunk is left just now. */
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/serve_block.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sharding/stripes.h"
#include "sources/image.h"
#include "sources/image_life.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <faultlane/image.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_PAGES 300u
#define SECOND_PAGES 200u
#define COUNT(r, what) rig_count(&(r)->shard.count.what)

/* A second region, of an image of its own, that begins where the rig's ends. */
struct neighbour {
	struct rig *rig;
	struct fln_image image;
	struct fln_region region;
};

static void publish(struct rig *r)
{
	int rc;

	fln_lock(&r->guest.lock);
	rc = fln_directory_publish(&r->guest, NULL);
	fln_unlock(&r->guest.lock);
	assert_int_equal(rc, 0);
	fln_directory_reap(&r->guest);
}

/* I6, for both images. */
static void on_map(void *ctx, uint64_t addr)
{
	struct neighbour *n = ctx;
	const struct fln_region *at = addr >= n->region.addr ? &n->region : &n->rig->region;
	enum fln_image_page state =
		fln_image_state(at->image, fln_bytes_to_pages(addr - at->addr) + at->image_page);

	assert_true(state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO);
}

static void make_neighbour(struct neighbour *n)
{
	struct rig *r = n->rig;
	struct fln_image_init_opts o = { .filler = &r->filler, .opts = FLN_IMAGE_OPTS_INIT };
	static const char zeros[FLN_PAGE_BYTES];

	/* The rig's region ends early; its image goes on. */
	fln_blockmap_deinit(&r->region.map);
	r->region.len_bytes = fln_pages_to_bytes(FIRST_PAGES);
	assert_int_equal(fln_blockmap_init(&r->region.map, 0, FIRST_PAGES, 8, 0), 0);
	assert_int_equal(fln_stripe_plan_init(&r->region.plan, r->region.addr, r->region.len_bytes,
					      1, 0, 1),
			 0);

	o.opts.len_bytes = fln_pages_to_bytes(SECOND_PAGES);
	assert_int_equal(fln_image_init(&n->image, &o), 0);
	/* As monitors that prefault guest memory leave it: the cache has zeros. */
	for (uint64_t p = 0; p < SECOND_PAGES; p++)
		assert_int_equal(pwrite(n->image.memfd, zeros, sizeof(zeros),
					(off_t)fln_pages_to_bytes(p)),
				 (ssize_t)sizeof(zeros));
	n->region = r->region;
	n->region.image = &n->image;
	n->region.addr = rig_addr(r, FIRST_PAGES);
	n->region.len_bytes = n->image.len_bytes;
	n->region.image_page = 0;
	assert_int_equal(fln_stripe_plan_init(&n->region.plan, n->region.addr, n->region.len_bytes,
					      1, 0, 1),
			 0);
	assert_int_equal(fln_blockmap_init(&n->region.map, FIRST_PAGES, SECOND_PAGES, 8, 0), 0);
	for (uint64_t p = 0; p < SECOND_PAGES; p++)
		fake_page(&r->fake, n->region.addr + fln_pages_to_bytes(p))->vma = false;
	fake_map(&r->fake, n->region.addr, SECOND_PAGES, n->image.memfd, 0);
	r->fake.on_map = on_map;
	r->fake.ctx = n;
	n->region.next = &r->region;
	r->guest.regions = &n->region;
	publish(r);
}

static struct neighbour *neighbours(struct rig_opts opts)
{
	struct neighbour *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	opts.nr_pages = FLN_BLOCK_PAGES;
	opts.window = FLN_BLOCK_PAGES;
	n->rig = rig_create(&opts);
	make_neighbour(n);
	return n;
}

static void destroy_neighbours(struct neighbour *n)
{
	struct rig *r = n->rig;

	r->guest.regions = &r->region;
	publish(r);
	fln_blockmap_deinit(&n->region.map);
	assert_int_equal(fln_image_deinit(&n->image, UINT64_MAX), 0);
	rig_destroy(r);
	free(n);
}

static void put_second(struct neighbour *n, uint64_t page, uint64_t nr_pages)
{
	uint64_t words[FLN_PAGE_BYTES / sizeof(uint64_t)];

	for (uint64_t i = page; i < page + nr_pages; i++) {
		for (uint32_t w = 0; w < FLN_PAGE_BYTES / sizeof(uint64_t); w++)
			words[w] = 7000 + i;
		assert_int_equal(fln_image_put(&n->image, fln_pages_to_bytes(i), words,
					       FLN_PAGE_BYTES),
				 0);
	}
}

static uint32_t touch_second(struct neighbour *n, uint64_t page)
{
	return fake_touch(&n->rig->fake, n->region.addr + fln_pages_to_bytes(page));
}

/* What one image permits is not mapped over the other's pages. */
static void windows_of_two_regions_are_kept_apart(void **state)
{
	struct neighbour *n = neighbours((struct rig_opts){ .pushed = true });
	struct rig *r = n->rig;
	uint32_t a, b, waits;

	(void)state;
	rig_put(r, 0, FLN_BLOCK_PAGES);
	put_second(n, 0, 1);
	a = rig_touch(r, 0);
	b = touch_second(n, 0);
	rig_serve(r);
	rig_assert_read(r, a, rig_due(r, 0));
	rig_assert_read(r, b, 7000);
	assert_int_equal(fake_nr_mapped(&r->fake), FIRST_PAGES + 1);
	waits = touch_second(n, 100);
	rig_serve(r);
	assert_int_equal(rig_thread(r, waits)->state, FAKE_WAITING);
	put_second(n, 100, 1);
	rig_held(r);
	rig_assert_read(r, waits, 7100);
	destroy_neighbours(n);
}

/* Nor does one region's wish take the place of the other's. */
static void both_regions_are_mapped_later(void **state)
{
	struct neighbour *n = neighbours((struct rig_opts){ .pushed = true });
	struct rig *r = n->rig;
	uint32_t a, b;

	(void)state;
	rig_put(r, 0, FLN_BLOCK_PAGES);
	put_second(n, 0, SECOND_PAGES);
	b = touch_second(n, 50);
	a = rig_touch(r, 50);
	rig_serve(r);
	rig_assert_read(r, a, rig_due(r, 50));
	rig_assert_read(r, b, 7050);
	assert_int_equal(fake_nr_mapped(&r->fake), FIRST_PAGES + SECOND_PAGES);
	assert_int_equal(COUNT(r, failed), 0);
	destroy_neighbours(n);
}

/* What was left for later of a region is not another's that has come in its place. */
static void a_wish_ends_with_its_region(void **state)
{
	struct neighbour *n = neighbours((struct rig_opts){ .pushed = true });
	struct rig *r = n->rig;
	struct fln_region other;
	uint32_t a;

	(void)state;
	rig_put(r, 0, FLN_BLOCK_PAGES);
	put_second(n, 0, SECOND_PAGES);
	a = touch_second(n, 3);
	fln_serve_shard(&r->worker, &r->shard);
	assert_true(r->worker.nr_later > 0);
	memcpy(&other, &n->region, sizeof(other));
	r->guest.regions = &other;
	publish(r);
	fln_serve_later(&r->worker, UINT32_MAX);
	fake_run(&r->fake);
	rig_assert_read(r, a, 7003);
	assert_true(fake_nr_mapped(&r->fake) <= 16);
	destroy_neighbours(n);
}

/* A fault of no region next to one whose pages are small: they are not poisoned with it. */
static void a_stray_fault_spares_the_block(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = 100, .spare_pages = 100 });
	uint32_t stray, t;

	(void)state;
	rig_put(r, 0, 100);
	fake_map(&r->fake, rig_addr(r, 150), 1, r->image.memfd, 0);
	stray = fake_touch(&r->fake, rig_addr(r, 150));
	r->fake.fail_in = 1;
	r->fake.fail_errno = EINVAL;
	rig_serve(r);
	assert_int_equal(r->fake.nr_calls[FAKE_POISON], 1);
	rig_held(r); /* the call goes through by now */
	rig_assert_killed(r, stray);
	t = rig_touch(r, 5);
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 5));
	rig_destroy(r);
}

/* Chunks that wait for a grace period are waited for: what is mapped is known as mapped. */
static void a_fault_waits_for_chunks_on_their_way(void **state)
{
	struct rig *r =
		rig_create(&(struct rig_opts){ .nr_pages = 512, .nr_chunks = 2, .window = 512 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 512);
	fln_rcu_read_lock(); /* none comes back before this ends */
	for (uint32_t i = 0; i < 2; i++) {
		t = rig_touch(r, 7);
		rig_serve(r);
		rig_assert_read(r, t, rig_due(r, 7));
		assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 1 << FLN_PLANE_PRESENT);
		fake_discard(&r->fake, rig_addr(r, 0), 512, false);
		rig_serve(r);
	}
	t = rig_touch(r, 7);
	rig_serve(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	assert_int_equal(r->worker.nr_held, 1);
	rig_held(r);
	assert_int_equal(rig_thread(r, t)->state, FAKE_WAITING);
	fln_rcu_read_unlock();
	fln_blockmap_drain(&r->region.map);
	rig_held(r);
	rig_assert_read(r, t, rig_due(r, 7));
	assert_true(rig_map_says(r, FLN_PLANE_PRESENT, 7));
	assert_int_equal(COUNT(r, no_chunk), 0);
	rig_destroy(r);
}

/* Where there were never enough of them nobody waits. */
static void few_chunks_are_not_waited_for(void **state)
{
	struct rig *r =
		rig_create(&(struct rig_opts){ .nr_pages = 1024, .nr_chunks = 1, .window = 512 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 1024);
	fln_rcu_read_lock();
	t = rig_touch(r, 7);
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 7));
	t = rig_touch(r, 700);
	rig_serve(r);
	rig_assert_read(r, t, rig_due(r, 700));
	assert_int_equal(COUNT(r, no_chunk), 1);
	fln_rcu_read_unlock();
	rig_destroy(r);
}

/* What a window has mapped at once is not mapped once more later. */
static void nothing_is_left_of_a_small_window(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .window = 16 });
	uint32_t t;

	(void)state;
	rig_put(r, 0, 64);
	t = rig_touch(r, 20);
	fln_serve_shard(&r->worker, &r->shard);
	assert_int_equal(r->worker.nr_later, 0);
	fake_run(&r->fake);
	rig_assert_read(r, t, rig_due(r, 20));
	assert_int_equal(fake_nr_mapped(&r->fake), 16);
	rig_destroy(r);
}

/* All that a region has of its last block is given up without a chunk. */
static void a_part_of_a_block_is_forgotten_as_a_whole(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){
		.nr_pages = 512, .lead_pages = 100, .nr_chunks = 16, .window = 512 });
	uint32_t t[2];

	(void)state;
	rig_put(r, 0, 512);
	t[0] = rig_touch(r, 0);
	t[1] = rig_touch(r, 511);
	rig_settle(r);
	rig_assert_read(r, t[0], rig_due(r, 0));
	rig_assert_read(r, t[1], rig_due(r, 511));
	fln_blockmap_drain(&r->region.map);
	assert_true(fln_blockmap_all(&r->region.map, FLN_PLANE_PRESENT));
	fake_discard(&r->fake, rig_addr(r, 0), 512, false);
	rig_serve(r);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 0), 0);
	assert_int_equal(fln_blockmap_uniform(&r->region.map, 1), 0);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_of_two_regions_are_kept_apart),
		cmocka_unit_test(both_regions_are_mapped_later),
		cmocka_unit_test(a_wish_ends_with_its_region),
		cmocka_unit_test(a_stray_fault_spares_the_block),
		cmocka_unit_test(a_fault_waits_for_chunks_on_their_way),
		cmocka_unit_test(few_chunks_are_not_waited_for),
		cmocka_unit_test(nothing_is_left_of_a_small_window),
		cmocka_unit_test(a_part_of_a_block_is_forgotten_as_a_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
