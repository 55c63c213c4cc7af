/* SPDX-License-Identifier: MIT */
/*
 * Orders of memory: a thread that sees that something was published sees all that came before it.
 * A thread writes a letter, by a plain store, and then what tells of it; another looks for
 * that, and reads the letter.  ThreadSanitizer says when nothing orders the two.
 */
#include "base/blockmap.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/region_map.h"
#include "sources/image_ready.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#define NR_LETTERS 100u
#define PAGE_NO 5u

struct post {
	struct rig *r;
	struct fln_blockmap map;
	struct fln_chunk *chunk;
	uint64_t letter;
	uint64_t round;
	void (*tell)(struct post *p);
	bool (*is_told)(struct post *p);
	void (*undo)(struct post *p); /* so that it can be told again */
};

static const struct fln_mask *page_mask(void)
{
	static struct fln_mask m;

	fln_mask_set(&m, PAGE_NO);
	return &m;
}

static void *writer_main(void *arg)
{
	struct post *p = arg;
	bool entered = fln_rcu_enter();

	p->letter = p->round;
	fln_rcu_read_lock();
	p->tell(p);
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	return NULL;
}

static void deliver(struct post *p)
{
	for (p->round = 1; p->round <= NR_LETTERS; p->round++) {
		pthread_t writer;
		bool told = false;

		assert_int_equal(pthread_create(&writer, NULL, writer_main, p), 0);
		while (!told) {
			fln_rcu_read_lock();
			told = p->is_told(p);
			fln_rcu_read_unlock();
			if (!told)
				(void)sched_yield();
		}
		assert_int_equal(p->letter, p->round);
		assert_int_equal(pthread_join(writer, NULL), 0);
		p->undo(p);
	}
}

static void map_begin(struct post *p)
{
	assert_true(fln_rcu_enter());
	assert_int_equal(fln_blockmap_init(&p->map, 0, FLN_BLOCK_PAGES, 4, 0), 0);
}

static void map_end(struct post *p)
{
	fln_blockmap_deinit(&p->map);
	fln_rcu_leave(true);
}

static void make_chunk(struct post *p)
{
	assert_non_null(fln_blockmap_chunk(&p->map, 0));
}

static bool has_chunk(struct post *p)
{
	return fln_blockmap_peek(&p->map, 0) != NULL;
}

static void give_chunk_back(struct post *p)
{
	fln_rcu_read_lock();
	assert_true(fln_blockmap_collapse(&p->map, 0, fln_blockmap_peek(&p->map, 0), 0));
	fln_rcu_read_unlock();
	fln_blockmap_drain(&p->map);
}

static void a_chunk_tells(void **state)
{
	struct post p = { .tell = make_chunk, .is_told = has_chunk, .undo = give_chunk_back };

	(void)state;
	map_begin(&p);
	deliver(&p);
	map_end(&p);
}

static void make_present(struct post *p)
{
	assert_true(fln_blockmap_swap_uniform(&p->map, 0, 0, 1u << FLN_PLANE_PRESENT));
}

static bool is_present(struct post *p)
{
	return fln_blockmap_uniform(&p->map, 0) == 1 << FLN_PLANE_PRESENT;
}

static void make_absent(struct post *p)
{
	assert_true(fln_blockmap_swap_uniform(&p->map, 0, 1u << FLN_PLANE_PRESENT, 0));
}

static void a_uniform_state_tells(void **state)
{
	struct post p = { .tell = make_present, .is_told = is_present, .undo = make_absent };

	(void)state;
	map_begin(&p);
	deliver(&p);
	map_end(&p);
}

static void settle(struct post *p)
{
	fln_region_settle(p->chunk, page_mask(), FLN_PAGE_PRESENT);
}

static bool is_settled(struct post *p)
{
	struct fln_mask m = fln_chunk_load(p->chunk, FLN_PLANE_PRESENT);

	return fln_mask_test(&m, PAGE_NO);
}

static void claim_again(struct post *p)
{
	fln_region_forget(p->chunk, page_mask());
	(void)fln_region_claim(p->chunk, page_mask());
}

static bool is_let_go(struct post *p)
{
	struct fln_mask m = fln_chunk_load(p->chunk, FLN_PLANE_CLAIMED);

	return !fln_mask_test(&m, PAGE_NO);
}

static void the_owner_of_a_page_tells(void **state)
{
	struct post p = { .tell = settle, .is_told = is_settled, .undo = claim_again };

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		p.is_told = i ? is_let_go : is_settled;
		map_begin(&p);
		fln_rcu_read_lock();
		p.chunk = fln_blockmap_chunk(&p.map, 0);
		(void)fln_region_claim(p.chunk, page_mask());
		fln_rcu_read_unlock();
		deliver(&p);
		map_end(&p);
	}
}

static void leave_directory(struct post *p)
{
	struct fln_guest *g = &p->r->guest;

	fln_lock(&g->lock);
	assert_int_equal(fln_directory_publish(g, &p->r->region), 0);
	fln_unlock(&g->lock);
}

static bool is_out_of_directory(struct post *p)
{
	return !fln_directory_find(&p->r->guest, p->r->region.addr);
}

static void enter_directory(struct post *p)
{
	struct fln_guest *g = &p->r->guest;

	fln_directory_reap(g);
	assert_int_equal(fln_directory_prepare(g), 0);
	fln_lock(&g->lock);
	assert_int_equal(fln_directory_publish(g, NULL), 0);
	fln_unlock(&g->lock);
	fln_directory_reap(g);
	assert_int_equal(fln_directory_prepare(g), 0);
}

static void a_directory_tells(void **state)
{
	struct post p = { .tell = leave_directory,
			  .is_told = is_out_of_directory,
			  .undo = enter_directory };

	(void)state;
	p.r = rig_create(NULL);
	assert_int_equal(fln_directory_prepare(&p.r->guest), 0);
	deliver(&p);
	rig_destroy(p.r);
}

static void fill_page(struct post *p)
{
	rig_put(p->r, p->round, 1);
}

static bool is_filled(struct post *p)
{
	return fln_image_state(&p->r->image, rig_image_page(p->r, p->round)) == FLN_IMAGE_FILLED;
}

static bool is_ready(struct post *p)
{
	struct fln_mask filled, zero;

	fln_image_ready(&p->r->image, rig_image_page(p->r, p->round), 1, &filled, &zero);
	return !fln_mask_empty(&filled);
}

static void keep_it(struct post *p)
{
	(void)p;
}

static void a_filled_page_tells(void **state)
{
	struct post p = { .tell = fill_page, .undo = keep_it };

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		p.is_told = i ? is_ready : is_filled;
		p.r = rig_create(NULL);
		deliver(&p);
		rig_destroy(p.r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chunk_tells),
		cmocka_unit_test(a_uniform_state_tells),
		cmocka_unit_test(the_owner_of_a_page_tells),
		cmocka_unit_test(a_directory_tells),
		cmocka_unit_test(a_filled_page_tells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
