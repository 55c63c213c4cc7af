/* SPDX-License-Identifier: MIT */
/*
 * What is mapped where, by /proc/self/maps (engine/mapping.c), and what the end of a region
 * puts in the place of its image (engine/vacant.c): real mappings of this process.
 */
#include "engine/mapping.h"

#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/vacant.h"
#include "sources/image.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NR_PAGES 64u
#define LEN (NR_PAGES * FLN_PAGE_BYTES)
#define FIRST 16u /* the image's page at the region's beginning */
#define MAX_PIECES 8u

static struct {
	struct fln_engine engine;
	struct fln_guest guest;
	struct fln_image image;
	struct fln_region region;
	char *mem;
	uint32_t nr_pieces;
	struct {
		uint64_t page, nr;
	} pieces[MAX_PIECES];
} f;

static uint64_t addr_of(uint64_t page)
{
	return f.region.addr + page * FLN_PAGE_BYTES;
}

static uint64_t offset_of(uint64_t page)
{
	return (FIRST + page) * FLN_PAGE_BYTES;
}

/* Anything over pages [page, page + nr). */
static void map_over(uint64_t page, uint64_t nr, int flags, int fd, uint64_t offset)
{
	void *at = f.mem + page * FLN_PAGE_BYTES;

	assert_ptr_equal(mmap(at, nr * FLN_PAGE_BYTES, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
			      fd, (off_t)offset),
			 at);
}

static void map_region(bool is_private)
{
	f.region.is_private = is_private;
	map_over(0, NR_PAGES, is_private ? MAP_PRIVATE : MAP_SHARED, f.image.memfd, offset_of(0));
}

static int set_up(void **state)
{
	struct stat st;

	(void)state;
	memset(&f, 0, sizeof(f));
	fln_vacant_open(&f.engine.vacant);
	f.guest.engine = &f.engine;
	f.image.memfd = memfd_create("image", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f.image.memfd, (off_t)(2 * LEN)), 0);
	assert_int_equal(fstat(f.image.memfd, &st), 0);
	f.image.inode = (uint64_t)st.st_ino;
	f.image.device = (uint64_t)st.st_dev;
	/* Between pages that are nobody's, so that no neighbour is one mapping with it. */
	f.mem = mmap(NULL, LEN + 2 * FLN_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(f.mem != MAP_FAILED);
	f.mem += FLN_PAGE_BYTES;
	f.region.guest = &f.guest;
	f.region.image = &f.image;
	f.region.addr = (uint64_t)(uintptr_t)f.mem;
	f.region.len_bytes = LEN;
	f.region.image_page = FIRST;
	map_region(false);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	(void)munmap(f.mem - FLN_PAGE_BYTES, LEN + 2 * FLN_PAGE_BYTES);
	(void)close(f.image.memfd);
	fln_vacant_close(&f.engine.vacant);
	return 0;
}

static int note(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	assert_ptr_equal(r, &f.region);
	assert_int_equal(moved, 0);
	assert_true(f.nr_pieces < MAX_PIECES);
	f.pieces[f.nr_pieces].page = (addr - r->addr) / FLN_PAGE_BYTES;
	f.pieces[f.nr_pieces++].nr = len_bytes / FLN_PAGE_BYTES;
	return 0;
}

static void assert_piece(uint32_t i, uint64_t page, uint64_t nr)
{
	assert_true(i < f.nr_pieces);
	assert_int_equal(f.pieces[i].page, page);
	assert_int_equal(f.pieces[i].nr, nr);
}

static void its_own_mapping_is_accepted(void **state)
{
	(void)state;
	assert_int_equal(fln_mapping_check(&f.region), 0);
	/* Of two mappings, too. */
	assert_int_equal(mprotect(f.mem + 8 * FLN_PAGE_BYTES, FLN_PAGE_BYTES, PROT_NONE), 0);
	assert_int_equal(fln_mapping_check(&f.region), 0);
	map_region(true);
	assert_int_equal(fln_mapping_check(&f.region), 0);
}

static void others_are_refused(void **state)
{
	int other = memfd_create("other", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(other, (off_t)(2 * LEN)), 0);
	f.region.is_private = true;
	assert_int_equal(fln_mapping_check(&f.region), -EINVAL);
	f.region.is_private = false;
	map_over(20, 1, MAP_SHARED, f.image.memfd, offset_of(21));
	assert_int_equal(fln_mapping_check(&f.region), -EINVAL);
	map_over(20, 1, MAP_SHARED, other, offset_of(20));
	assert_int_equal(fln_mapping_check(&f.region), -EINVAL);
	map_over(20, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(fln_mapping_check(&f.region), -EINVAL);
	assert_int_equal(munmap(f.mem + 20 * FLN_PAGE_BYTES, FLN_PAGE_BYTES), 0);
	assert_int_equal(fln_mapping_check(&f.region), -EINVAL);
	map_region(false);
	assert_int_equal(fln_mapping_check(&f.region), 0);
	(void)close(other);
}

/* What lies somewhere else, or has gone, is none of it. */
static void each_piece_that_is_at_home(void **state)
{
	(void)state;
	map_over(10, 2, MAP_SHARED, f.image.memfd, offset_of(11));
	assert_int_equal(munmap(f.mem + 30 * FLN_PAGE_BYTES, FLN_PAGE_BYTES), 0);
	assert_int_equal(mprotect(f.mem + 40 * FLN_PAGE_BYTES, FLN_PAGE_BYTES, PROT_NONE), 0);
	assert_int_equal(fln_mapping_each(&f.region, addr_of(5), addr_of(60), 0, note), 0);
	assert_int_equal(f.nr_pieces, 3);
	assert_piece(0, 5, 5);
	assert_piece(1, 12, 18);
	assert_piece(2, 31, 29); /* whatever its protection */
	f.nr_pieces = 0;
	assert_int_equal(fln_mapping_each_seen(&f.region, addr_of(10), addr_of(12), 0, note), 0);
	assert_int_equal(f.nr_pieces, 0);
}

static void access_is_given_back(void **state)
{
	(void)state;
	assert_int_equal(mprotect(f.mem + 7 * FLN_PAGE_BYTES, 3 * FLN_PAGE_BYTES, PROT_NONE), 0);
	map_over(20, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(mprotect(f.mem + 20 * FLN_PAGE_BYTES, FLN_PAGE_BYTES, PROT_NONE), 0);
	assert_int_equal(fln_mapping_each_denied(&f.region, note), 0);
	assert_int_equal(f.nr_pieces, 1); /* the other is not the image's */
	assert_piece(0, 7, 3);
	assert_int_equal(fln_mapping_allow(&f.region), 0);
	f.nr_pieces = 0;
	assert_int_equal(fln_mapping_each_denied(&f.region, note), 0);
	assert_int_equal(f.nr_pieces, 0);
	f.mem[8 * FLN_PAGE_BYTES] = 5;
	assert_int_equal(f.mem[8 * FLN_PAGE_BYTES], 5);
}

/* A file without pages and zeros, where the image's pages were, and nowhere else. */
static void what_an_end_has_left(void **state)
{
	const struct fln_vacant *v = &f.engine.vacant;

	(void)state;
	map_region(true);
	assert_int_equal(fln_vacant_map(v, addr_of(4), 2 * FLN_PAGE_BYTES, offset_of(4), true), 0);
	assert_int_equal(fln_vacant_map_zeros(v, addr_of(9), FLN_PAGE_BYTES, offset_of(9)), 0);
	assert_int_equal(fln_vacant_map(v, addr_of(30), FLN_PAGE_BYTES, offset_of(31), true), 0);
	assert_int_equal(f.mem[9 * FLN_PAGE_BYTES], 0);
	f.mem[9 * FLN_PAGE_BYTES] = 1; /* the process's own */
	assert_int_equal(fln_mapping_each_left(&f.region, note), 0);
	assert_int_equal(f.nr_pieces, v->zero_fd > 0 ? 2 : 1);
	assert_piece(0, 4, 2);
	if (v->zero_fd > 0)
		assert_piece(1, 9, 1);
	assert_int_equal(fln_mapping_check(&f.region), -EINVAL);
	map_over(30, 1, MAP_PRIVATE, f.image.memfd, offset_of(30));
	assert_int_equal(fln_mapping_check(&f.region), v->zero_fd > 0 ? 0 : -EINVAL);
	/* Shared, it is not where it was. */
	f.region.is_private = false;
	f.nr_pieces = 0;
	assert_int_equal(fln_mapping_each_left(&f.region, note), 0);
	assert_int_equal(f.nr_pieces, 0);
}

/* Within [lo, hi), and what the mapping that reaches beyond it has up to a limit. */
static void access_is_taken_away(void **state)
{
	struct fln_mapping_due due = fln_mapping_due(&f.region, 0);

	(void)state;
	map_over(12, 1, MAP_SHARED, f.image.memfd, offset_of(13)); /* nobody's business */
	assert_int_equal(fln_mapping_deny(&due, addr_of(10), addr_of(20), addr_of(24), false), 0);
	assert_int_equal(fln_mapping_each_denied(&f.region, note), 0);
	assert_int_equal(f.nr_pieces, 2);
	assert_piece(0, 10, 2);
	assert_piece(1, 13, 11);
}

static void mappings_are_counted(void **state)
{
	uint64_t before = fln_mapping_nr_left(), after;

	(void)state;
	if (before == 0)
		skip(); /* no /proc */
	for (uint64_t page = 1; page < 21; page += 2)
		assert_int_equal(mprotect(f.mem + page * FLN_PAGE_BYTES, FLN_PAGE_BYTES, PROT_NONE),
				 0);
	after = fln_mapping_nr_left();
	assert_in_range(before - after, 19, 21); /* and perhaps one of the C library's */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(its_own_mapping_is_accepted), TEST(others_are_refused),
		TEST(each_piece_that_is_at_home),  TEST(access_is_given_back),
		TEST(what_an_end_has_left),        TEST(access_is_taken_away),
		TEST(mappings_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
