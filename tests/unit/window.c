/* SPDX-License-Identifier: MIT */
/* The window policy: every window of every policy, for every page. */
#include "engine/window.h"
#include "base/page.h"

#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/base.h>

#define FAULTS 64u

static void properties(const struct fln_window_policy *p)
{
	for (uint32_t page = 0; page < FLN_BLOCK_PAGES; page++) {
		uint32_t before = 0;

		for (uint32_t n = 0; n < FAULTS; n++) {
			struct fln_window w = fln_window_for(p, n, page);
			uint32_t pages = w.hi - w.lo;

			assert_true(w.lo <= page && page < w.hi);
			assert_true(w.hi <= FLN_BLOCK_PAGES);
			assert_true(fln_is_pow2(pages));
			assert_int_equal(w.lo % pages, 0);
			assert_in_range(pages, p->first, p->max);
			assert_true(pages >= before);
			before = pages;
		}
	}
}

static void every_policy(void **state)
{
	struct fln_window_policy p;

	(void)state;
	for (uint32_t first = 1; first <= FLN_BLOCK_PAGES; first *= 2) {
		for (uint32_t max = first; max <= FLN_BLOCK_PAGES; max *= 2) {
			assert_int_equal(fln_window_policy_init(&p, first, max), 0);
			properties(&p);
		}
	}
	assert_int_equal(fln_window_policy_init(&p, 0, 0), 0);
	properties(&p);
}

static void fixed_window(void **state)
{
	struct fln_window_policy p;

	(void)state;
	assert_int_equal(fln_window_policy_init(&p, 16, 16), 0);
	for (uint32_t n = 0; n < FAULTS; n++) {
		struct fln_window w = fln_window_for(&p, n, 37);

		assert_int_equal(w.lo, 32);
		assert_int_equal(w.hi, 48);
	}
}

static void dense_blocks_end_at_the_maximum(void **state)
{
	struct fln_window_policy p;
	struct fln_window w;

	(void)state;
	assert_int_equal(fln_window_policy_init(&p, 0, 0), 0);
	w = fln_window_for(&p, FLN_BLOCK_PAGES, 511);
	assert_int_equal(w.lo, 0);
	assert_int_equal(w.hi, FLN_BLOCK_PAGES);
	w = fln_window_for(&p, UINT32_MAX, 0);
	assert_int_equal(w.hi, FLN_BLOCK_PAGES);
}

static void a_small_maximum_alone_is_enough(void **state)
{
	struct fln_window_policy p;

	(void)state;
	assert_int_equal(fln_window_policy_init(&p, 0, 1), 0);
	assert_int_equal(p.first, 1);
	properties(&p);
}

/* Of vCPUs, unless something is said. */
static void kvm_begins_larger(void **state)
{
	struct fln_window_policy p;

	(void)state;
	assert_int_equal(fln_window_first_kvm(0, 0), 256);
	assert_int_equal(fln_window_first_kvm(0, 512), 256);
	assert_int_equal(fln_window_first_kvm(4, 0), 4);
	for (uint32_t max = 1; max <= FLN_BLOCK_PAGES; max *= 2) {
		assert_int_equal(fln_window_policy_init(&p, fln_window_first_kvm(0, max), max), 0);
		assert_int_equal(p.first, max < 256 ? max : 256);
		properties(&p);
	}
	/* What is wrong is still told by its own name. */
	assert_int_equal(fln_window_policy_init(&p, fln_window_first_kvm(0, 3), 3), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "window_max"));
}

static void bad_options(void **state)
{
	static const struct {
		uint32_t first, max;
	} bad[] = { { 3, 0 }, { 0, 3 }, { 1024, 0 }, { 0, 1024 }, { 32, 16 }, { 1, UINT32_MAX } };
	struct fln_window_policy p;

	(void)state;
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fln_window_policy_init(&p, bad[i].first, bad[i].max), -EINVAL);
		assert_non_null(strstr(fln_last_error(), "window_"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_policy),
		cmocka_unit_test(fixed_window),
		cmocka_unit_test(dense_blocks_end_at_the_maximum),
		cmocka_unit_test(a_small_maximum_alone_is_enough),
		cmocka_unit_test(kvm_begins_larger),
		cmocka_unit_test(bad_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
