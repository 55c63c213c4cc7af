/* SPDX-License-Identifier: MIT */
/* The end of a region on the fake kernel: faults while it is unregistered. */
#include "engine/life/closing.h"

#include "base/page.h"
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fault_beside_unregister_is_woken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
