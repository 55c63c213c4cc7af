/* SPDX-License-Identifier: MIT */
/* Blocks of a foreign region of which the map may not be believed: which are noted. */
#include "engine/doubt.h"

#include "base/alloc.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <stdbool.h>
#include <string.h>

#define BASE UINT64_C(0x700000000000)
#define NR_BLOCKS 200u /* more than three words */

static struct fln_engine engine;
static struct fln_guest guest;
static struct fln_region region;

static void *no_memory(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	(void)ctx;
	(void)size_bytes;
	(void)align_bytes;
	(void)node;
	return NULL;
}

static void nothing_to_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	(void)ctx;
	(void)size_bytes;
	(void)node;
	assert_null(ptr);
}

/* A region that begins within its first block. */
static void make_region(bool foreign, enum fln_discard discard, const struct fln_allocator *alloc)
{
	memset(&engine, 0, sizeof(engine));
	memset(&region, 0, sizeof(region));
	assert_int_equal(fln_alloc_init(&engine.alloc, alloc), 0);
	guest.engine = &engine;
	region.guest = &guest;
	region.base_addr = BASE;
	region.addr = BASE + 5 * FLN_PAGE_BYTES;
	region.foreign = foreign;
	region.discard = discard;
	region.map.nr_blocks = NR_BLOCKS;
}

static void assert_doubted(uint64_t first, uint64_t end)
{
	for (uint64_t b = 0; b < NR_BLOCKS; b++)
		assert_int_equal(fln_region_is_doubted(&region, b), b >= first && b < end);
}

static void blocks_of_what_was_given_up_are_noted(void **state)
{
	(void)state;
	make_region(true, FLN_DISCARD_IMAGE, NULL);
	assert_int_equal(fln_region_doubt_init(&region), 0);
	assert_doubted(0, 0);
	/* One page each at the end of one block and at the beginning of the next but one. */
	fln_region_doubt(&region, BASE + 64 * FLN_BLOCK_BYTES - FLN_PAGE_BYTES,
			 BASE + 65 * FLN_BLOCK_BYTES + FLN_PAGE_BYTES);
	assert_doubted(63, 66);
	/* Its end is not part of a range. */
	fln_region_doubt(&region, BASE + 66 * FLN_BLOCK_BYTES, BASE + 67 * FLN_BLOCK_BYTES);
	assert_doubted(63, 67);
	fln_region_doubt_free(&region);
	assert_doubted(0, 0);
}

static void the_first_and_the_last_block(void **state)
{
	(void)state;
	make_region(true, FLN_DISCARD_IMAGE, NULL);
	assert_int_equal(fln_region_doubt_init(&region), 0);
	fln_region_doubt(&region, region.addr, region.addr + FLN_PAGE_BYTES);
	assert_doubted(0, 1);
	fln_region_doubt_free(&region);
	assert_int_equal(fln_region_doubt_init(&region), 0);
	fln_region_doubt(&region, BASE + (NR_BLOCKS - 1) * FLN_BLOCK_BYTES,
			 BASE + NR_BLOCKS * FLN_BLOCK_BYTES);
	assert_doubted(NR_BLOCKS - 1, NR_BLOCKS);
	fln_region_doubt_free(&region);
}

/* The map of any other region knows what was given up, and is believed. */
static void other_regions_note_nothing(void **state)
{
	const struct {
		bool foreign;
		enum fln_discard discard;
	} others[] = { { false, FLN_DISCARD_IMAGE },
		       { false, FLN_DISCARD_ZERO },
		       { true, FLN_DISCARD_ZERO } };

	(void)state;
	for (uint32_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		make_region(others[i].foreign, others[i].discard, NULL);
		assert_int_equal(fln_region_doubt_init(&region), 0);
		assert_null(region.doubted);
		fln_region_doubt(&region, region.addr, BASE + NR_BLOCKS * FLN_BLOCK_BYTES);
		assert_doubted(0, 0);
		fln_region_doubt_free(&region);
	}
}

static void without_memory(void **state)
{
	struct fln_allocator a = { .size = sizeof(a), .alloc = no_memory, .free = nothing_to_free };

	(void)state;
	make_region(true, FLN_DISCARD_IMAGE, &a);
	assert_int_equal(fln_region_doubt_init(&region), -ENOMEM);
	fln_region_doubt_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_what_was_given_up_are_noted),
		cmocka_unit_test(the_first_and_the_last_block),
		cmocka_unit_test(other_regions_note_nothing),
		cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
