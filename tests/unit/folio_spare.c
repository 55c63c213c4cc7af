/* SPDX-License-Identifier: MIT */
/*
 * Memory that large folios take beyond what is filled: how much it is when guests discard parts of
 * them, how it is given back, and what holes in them count as.
 */
#include "sources/image.h"
#include "sources/image_cache.h"
#include "sources/image_discard.h"
#include "sources/image_punch_unfilled.h"
#include "sources/image_state.h"
#include "tests/support/rig.h"
#include "tests/unit/folio_kernel.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SPARE 2048u /* pages, the bound */

static uint64_t nr_in_memory(const struct bare *b)
{
	struct stat st;

	assert_int_equal(fstat(b->f.opts.memfd, &st), 0);
	return (uint64_t)st.st_blocks / 8;
}

/* As a guest does, by MADV_REMOVE. */
static void take_out(const struct bare *b, uint64_t page, uint64_t nr_pages)
{
	assert_int_equal(fallocate(b->f.opts.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)BYTES(page), (off_t)BYTES(nr_pages)),
			 0);
}

static void discards_of_parts_are_no_way_round_the_bound(void **state)
{
	struct bare b;

	(void)state;
	bare_init(&b, SPARE, NULL);
	for (uint64_t block = 0; block < NR_BLOCKS; block++) {
		(void)write_pages(&b, block * 512, 64);
		fln_folio_gone(&b.f, block * 512 + 511, 1);
		take_out(&b, block * 512 + 511, 1);
		assert_true(nr_in_memory(&b) <= 2 * count(&b.f.nr_asked) + SPARE);
	}
	assert_int_equal(count(&b.f.nr_large), 0);
	assert_true(count(&b.f.nr_bounded) > NR_BLOCKS / 2);
	bare_deinit(&b);
}

/* Nobody says what the kernel has taken out, but the file has it no longer. */
static void memory_that_is_gone_is_not_beyond_the_bound(void **state)
{
	struct bare b;

	(void)state;
	bare_init(&b, SPARE, NULL);
	for (uint64_t block = 0; block < NR_BLOCKS; block++) {
		assert_true(write_pages(&b, block * 512, 1));
		fln_folio_gone(&b.f, block * 512, 512);
		take_out(&b, block * 512, 512);
		fln_folio_unfilled(&b.f, block * 512, 1);
	}
	assert_int_equal(count(&b.f.nr_asked), 0);
	assert_int_equal(count(&b.f.nr_bounded), 0);
	assert_false(fln_folio_must_trim(&b.f));
	bare_deinit(&b);
}

static void punched_blocks_take_nothing(void **state)
{
	struct bare b;

	(void)state;
	bare_init(&b, UINT64_MAX, NULL);
	for (uint64_t block = 0; block < 4; block++)
		assert_true(write_pages(&b, block * 512, 100));
	fln_folio_gone(&b.f, 512 - 1, 1025);
	fln_folio_punched(&b.f, 512 - 1, 1025); /* the end of one, and two */
	assert_int_equal(count(&b.f.nr_spare), 2 * 412);
	assert_int_equal(count(&b.f.nr_large), 1);
	assert_false(write_pages(&b, 512, 100));
	assert_int_equal(count(&b.f.nr_spare), 2 * 412);
	bare_deinit(&b);
}

static struct rig *large_rig(struct rig_opts opts)
{
	opts.nr_pages = 1024;
	opts.large = true;
	return rig_create(&opts);
}

/* What is discarded no longer pays for memory beyond it. */
static void discards_lower_the_bound(void **state)
{
	struct rig *r = large_rig((struct rig_opts){ .pushed = true });
	struct fln_folios *f = &r->image.folios;

	(void)state;
	for (uint32_t i = 0; i < 2; i++)
		rig_put(r, 512 * i, 512);
	assert_int_equal(count(&f->nr_asked), 1024);
	assert_int_equal(fln_image_discard(&r->image, BYTES(10), BYTES(100)), 0);
	assert_int_equal(count(&f->nr_asked), 924);
	assert_int_equal(fln_image_discard(&r->image, 0, BYTES(512)), 0);
	assert_int_equal(count(&f->nr_asked), 512);
	assert_int_equal(count(&f->nr_spare), 0);
	rig_destroy(r);
}

/* A block that is split has memory to give back as one that is large. */
static void split_blocks_are_trimmed(void **state)
{
	struct rig *r = large_rig((struct rig_opts){ .pushed = false });
	struct fln_folios *f = &r->image.folios;

	(void)state;
	for (uint32_t p = 50; p < 60; p++)
		r->hole[p] = true;
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(100)), 0);
	fln_image_give_up(&r->image, 300, 2);
	assert_false(fln_image_block_is_large(&r->image, 0));
	assert_int_equal(count(&f->nr_spare), 512 - 90);
	/* All but what is filled, the holes, and the discarded pages, which a guest may have. */
	assert_int_equal(fln_image_trim(&r->image, 0), 512 - 102);
	assert_int_equal(count(&f->nr_spare), 12);
	assert_int_equal(fln_image_trim(&r->image, 0), 0);
	/* Pages that are filled now are new ones. */
	assert_int_equal(fln_image_fill(&r->image, BYTES(100), BYTES(100)), 0);
	assert_int_equal(count(&f->nr_spare), 12);
	assert_int_equal(count(&f->nr_asked), 190);
	assert_int_equal(fln_image_discard(&r->image, 0, BYTES(512)), 0);
	assert_int_equal(count(&f->nr_spare), 0);
	rig_destroy(r);
}

/* A fault on a hole is one whether ZEROPAGE or CONTINUE maps it. */
static void holes_count_as_zeros(void **state)
{
	struct rig *r = large_rig((struct rig_opts){ .window = 1 });
	uint32_t t;

	(void)state;
	r->hole[5] = true;
	assert_int_equal(fln_image_fill(&r->image, 0, BYTES(64)), 0);
	assert_true(fln_image_block_is_large(&r->image, 0));
	t = rig_touch(r, 5);
	rig_settle(r);
	rig_assert_read(r, t, 0);
	assert_int_equal(rig_count(&r->shard.count.zero), 1);
	t = rig_touch(r, 6);
	rig_settle(r);
	rig_assert_read(r, t, rig_due(r, 6));
	assert_int_equal(rig_count(&r->shard.count.zero), 1);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(discards_of_parts_are_no_way_round_the_bound, reset),
		cmocka_unit_test_setup(memory_that_is_gone_is_not_beyond_the_bound, reset),
		cmocka_unit_test_setup(punched_blocks_take_nothing, reset),
		cmocka_unit_test_setup(discards_lower_the_bound, reset),
		cmocka_unit_test_setup(split_blocks_are_trimmed, reset),
		cmocka_unit_test_setup(holes_count_as_zeros, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
