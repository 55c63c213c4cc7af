/* SPDX-License-Identifier: MIT */
/*
 * How the access is taken away at the end of a region (engine/life/deny.c), on the fake
 * kernel: by runs, and by fewer where mappings are short.
 */
#include "engine/life/deny.h"

#include "base/page.h"
#include "engine/life/deny_kernel.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "tests/support/cm.h"
#include "tests/support/death.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define NR_PAGES 1024u
#define FEWEST 64u /* runs that a region may have in any case */

static struct {
	uint64_t left;      /* mappings, as the process has them; 0: unknown */
	uint32_t room;      /* for so many runs, then ENOMEM */
	uint32_t nr_runs;   /* of the last walk */
	uint32_t nr_walks;  /* that mapped something */
	uint64_t last_addr; /* runs come in order: a lower one begins a walk */
} kernel;

static uint64_t nr_left(void)
{
	return kernel.left;
}

static int vacate(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	struct fake_uffd *f = &((struct rig *)r->guest->ask_ctx)->fake;

	if (kernel.nr_walks == 0 || addr <= kernel.last_addr) {
		kernel.nr_walks++;
		kernel.nr_runs = 0;
	}
	kernel.last_addr = addr;
	/* mprotect() cuts mappings as well. */
	f->deny_errno = kernel.nr_runs == kernel.room ? ENOMEM : 0;
	if (f->deny_errno)
		return -ENOMEM;
	kernel.nr_runs++;
	return fake_memory.vacate(r, addr, len_bytes);
}

static struct fln_memory_ops ops;

/* A region all of whose pages are filled but for those that @is_missing says. */
static struct rig *rig(bool (*is_missing)(uint64_t page))
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = NR_PAGES, .pushed = true });

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		if (!is_missing(page))
			rig_put(r, page, 1);
	}
	ops = fake_memory;
	ops.vacate = vacate;
	ops.nr_left = nr_left;
	r->engine.memory = &ops;
	r->engine.opts.max_stripes = 0; /* all are in use */
	kernel.left = 0;
	kernel.room = UINT32_MAX;
	kernel.nr_walks = 0;
	return r;
}

static bool is_denied(struct rig *r, uint64_t page)
{
	return fake_page(&r->fake, rig_addr(r, page))->denied;
}

/* What is missing is denied.  Returns how many filled pages are as well. */
static uint32_t nr_lost(struct rig *r, bool (*is_missing)(uint64_t page))
{
	uint32_t nr = 0;

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		if (is_missing(page))
			assert_true(is_denied(r, page));
		else
			nr += is_denied(r, page);
	}
	return nr;
}

static void end(struct rig *r)
{
	fln_region_deny_free(&r->region);
	r->engine.memory = &fake_memory;
	rig_destroy(r);
}

static bool is_odd(uint64_t page)
{
	return page % 2;
}

static void as_many_runs_as_there_are(void **state)
{
	struct rig *r = rig(is_odd);
	uint32_t nr_lines = r->nr_log_lines;

	(void)state;
	kernel.left = 8 * NR_PAGES;
	assert_int_equal(fln_region_deny(&r->region), 0);
	assert_int_equal(kernel.nr_runs, NR_PAGES / 2);
	assert_int_equal(nr_lost(r, is_odd), 0);
	assert_int_equal(r->nr_log_lines, nr_lines);
	end(r);
}

/* Each gap that is closed costs a page, so not one is closed more than must be. */
static void the_fewest_that_there_must_be(void **state)
{
	struct rig *r = rig(is_odd);
	uint32_t nr_lines = r->nr_log_lines;
	uint64_t nr;

	(void)state;
	assert_int_equal(fln_region_deny(&r->region), 0);
	/* What was joined is not mapped over. */
	nr = r->fake.nr_denied;
	assert_in_range(nr, FEWEST, FEWEST + 1);
	assert_int_equal(kernel.nr_runs, nr - 1);
	assert_int_equal(nr_lost(r, is_odd), NR_PAGES / 2 - nr);
	assert_int_equal(r->nr_log_lines, nr_lines + 1);
	end(r);
}

/* Single pages, and stretches of 8 between them: 128 runs. */
static bool is_scattered(uint64_t page)
{
	return page % 16 == 0 || page % 16 == 2;
}

static void the_smallest_gaps_are_closed(void **state)
{
	struct rig *r = rig(is_scattered);

	(void)state;
	assert_int_equal(fln_region_deny(&r->region), 0);
	assert_in_range(r->fake.nr_denied, FEWEST, FEWEST + 1);
	/* 64 gaps of one page would do; those of 13 pages stay open. */
	assert_in_range(nr_lost(r, is_scattered), NR_PAGES / 16 - 1, NR_PAGES / 16);
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		if (page % 16 > 2)
			assert_false(is_denied(r, page));
	}
	end(r);
}

/* The kernel has less room than it said: with fewer runs it has enough. */
static void mappings_run_out(void **state)
{
	struct rig *r = rig(is_odd);

	(void)state;
	kernel.left = 8 * NR_PAGES;
	kernel.room = 200;
	assert_int_equal(fln_region_deny(&r->region), 0);
	assert_true(kernel.nr_walks > 1);
	assert_in_range(kernel.nr_runs, FEWEST, kernel.room);
	(void)nr_lost(r, is_odd);
	end(r);
}

/* With no room for those that there must be: an error, and nothing is hidden. */
static void no_room_at_all(void **state)
{
	struct rig *r = rig(is_odd);

	(void)state;
	kernel.room = 3;
	assert_int_equal(fln_region_deny(&r->region), -ENOMEM);
	r->fake.deny_errno = 0;
	end(r);
}

static bool is_none(uint64_t page)
{
	(void)page;
	return false;
}

static void nothing_to_deny(void **state)
{
	struct rig *r = rig(is_none);

	(void)state;
	assert_int_equal(fln_region_deny(&r->region), 0);
	assert_int_equal(kernel.nr_walks, 0);
	assert_false(r->region.sealed);
	fln_region_vacate(&r->region);
	assert_int_equal(kernel.nr_walks, 0);
	end(r);
}

/* No worker reads UNMAP: the access is taken away, and mapped over when nothing is registered. */
static void nobody_reads_events(void **state)
{
	struct rig *r = rig(is_scattered);

	(void)state;
	kernel.left = 8 * NR_PAGES;
	r->shard.worker = NULL;
	assert_int_equal(fln_region_deny(&r->region), 0);
	assert_int_equal(kernel.nr_walks, 0);
	assert_int_equal(r->fake.nr_denied, NR_PAGES / 8);
	assert_true(r->region.sealed);
	assert_int_equal(nr_lost(r, is_scattered), 0);
	fln_region_vacate(&r->region);
	assert_int_equal(kernel.nr_runs, NR_PAGES / 8);
	r->shard.worker = &r->worker;
	end(r);
}

static void deny(void *region)
{
	(void)fln_region_deny(region);
}

static void out_of_turn(void **state)
{
	struct rig *r = rig(is_none);

	(void)state;
	r->guest.turn.taken = false;
	assert_true(aborts(deny, &r->region));
	r->guest.turn.taken = true;
	end(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_runs_as_there_are),
		cmocka_unit_test(the_fewest_that_there_must_be),
		cmocka_unit_test(the_smallest_gaps_are_closed),
		cmocka_unit_test(mappings_run_out),
		cmocka_unit_test(no_room_at_all),
		cmocka_unit_test(nothing_to_deny),
		cmocka_unit_test(nobody_reads_events),
		cmocka_unit_test(out_of_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
