/* SPDX-License-Identifier: MIT */
/*
 * The end of a region on the fake kernel: faults while it is unregistered, and runs that are
 * more than there are mappings for.
 */
#include "engine/life/closing.h"

#include "base/page.h"
#include "engine/life/deny.h"
#include "engine/state/guest.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define TOUCHED 700u /* in the region's second block */

/* A thread faults after UNREGISTER has woken all, and before it has the mapping's lock. */
static void touch_in_between(void *ctx, uint64_t start, uint64_t len_bytes)
{
	struct rig *r = ctx;
	uint64_t addr = rig_addr(r, TOUCHED);

	if (addr >= start && addr - start < len_bytes)
		*(uint32_t *)r->user = fake_touch(&r->fake, addr);
}

static void unregister_beside_a_fault(struct rig_opts opts, int error, uint32_t nr_calls)
{
	struct rig *r = rig_create(&opts);
	uint32_t t = UINT32_MAX;

	r->user = &t;
	r->fake.on_unregister = touch_in_between;
	r->fake.unregister_errno = error;
	r->region.nr_registered = r->region.plan.nr_stripes;
	fln_region_unregister(&r->region);
	assert_int_equal(r->fake.nr_unregisters, nr_calls);
	assert_int_equal(r->region.nr_registered, 0);
	assert_int_not_equal(t, UINT32_MAX);
	/* Nobody serves it any more: it sleeps for good unless it is woken now. */
	assert_int_equal(rig_thread(r, t)->state, FAKE_WOKEN);
	r->fake.threads[t].state = FAKE_IDLE;
	rig_destroy(r);
}

static void a_fault_beside_unregister_is_woken(void **state)
{
	const struct rig_opts foreign = { .nr_pages = 1024, .foreign = true };

	(void)state;
	unregister_beside_a_fault((struct rig_opts){ .nr_pages = 1024 }, 0, 1);
	unregister_beside_a_fault(foreign, 0, 1);
	/* Something else lies in the range: what is left of it goes block by block. */
	unregister_beside_a_fault(foreign, EINVAL, 3);
}

#define ALTERNATING 800u /* pages, of which every second is filled */

/* Which pages of @from to @end have been mapped over, and which are denied otherwise? */
static void count_denied(struct rig *r, uint64_t from, uint64_t end, uint32_t *vacated,
			 uint32_t *closed)
{
	*vacated = *closed = 0;
	for (uint64_t p = from; p < end; p++) {
		const struct fake_page *page = fake_page(&r->fake, rig_addr(r, p));

		*vacated += page->vacated;
		*closed += page->denied && !page->vacated;
	}
}

/*
 * What is not filled is mapped over, run by run, as long as mappings last.  What is joined
 * beyond that loses its access where it is: nothing is mapped over, now or later, for that
 * would cost more for each page that is mapped in it.
 */
static void joined_runs_are_not_mapped_over(void **state)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = 1024, .window = 1 });
	uint32_t vacated, closed, vacated_after, closed_after;

	(void)state;
	r->engine.opts.max_stripes = 0; /* as few mappings as there are runs at least */
	for (uint64_t p = 0; p < ALTERNATING; p += 2)
		rig_put(r, p, 1);
	assert_int_equal(fln_region_deny(&r->region), 0);
	for (uint64_t p = 0; p < 1024; p++) {
		const struct fake_page *page = fake_page(&r->fake, rig_addr(r, p));

		if (p >= ALTERNATING || p % 2)
			assert_true(page->denied);
		else
			assert_false(page->vacated);
	}
	count_denied(r, 0, 1024, &vacated, &closed);
	assert_in_range(vacated, 32, 64); /* a page each, and so many mappings */
	assert_in_range(closed, ALTERNATING / 2, 1024);
	assert_true(r->region.sealed);
	fln_region_vacate(&r->region);
	count_denied(r, 0, 1024, &vacated_after, &closed_after);
	assert_int_equal(vacated_after, vacated);
	assert_int_equal(closed_after, closed);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fault_beside_unregister_is_woken),
		cmocka_unit_test(joined_runs_are_not_mapped_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
