/* SPDX-License-Identifier: MIT */
/* What is done with a block: released, filled to its end, trimmed; and what controls tell. */
#include "engine/block_policy.h"

#include "tests/support/cm.h"

#include <stdbool.h>

/* Every combination of what a decision depends on, one by one. */
#define NR_CASES (4 * 2 * 2 * 2 * 2 * 2 * 3)

static struct fln_block_case nth_case(uint32_t n)
{
	struct fln_block_case c = { .option = FLN_RELEASE_AUTO };

	c.option = (enum fln_release)(n % 4 ? n % 4 : FLN_RELEASE_AUTO);
	n /= 4;
	c.asked = n % 2;
	n /= 2;
	c.large = c.may_be_large = n % 2;
	n /= 2;
	c.mapped = n % 2;
	n /= 2;
	c.quiet = n % 2;
	n /= 2;
	c.control = n % 2;
	n /= 2;
	c.seen = (enum fln_density_seen)(n % 3);
	return c;
}

/* The option comes first, whatever else is known. */
static void options_are_kept(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < NR_CASES; n++) {
		struct fln_block_case c = nth_case(n);

		if (c.option == FLN_RELEASE_NEVER)
			assert_false(fln_policy_releases(&c));
		if (c.option == FLN_RELEASE_ON_CALL)
			assert_int_equal(fln_policy_releases(&c), c.asked);
		if (c.option == FLN_RELEASE_AUTO && c.asked)
			assert_true(fln_policy_releases(&c));
		if (c.option != FLN_RELEASE_AUTO) {
			assert_false(fln_policy_releases_at_fault(&c));
			assert_false(fln_policy_trims(&c));
		}
	}
}

/* What is released at a fault would be released by a sweep: sweeps end what faults begin. */
static void sweeps_agree_with_faults(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < NR_CASES; n++) {
		struct fln_block_case c = nth_case(n);

		if (fln_policy_releases_at_fault(&c))
			assert_true(fln_policy_releases(&c));
	}
}

/* A control stays registered until it is quiet or mapped, or it could tell nothing. */
static void controls_stay(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < NR_CASES; n++) {
		struct fln_block_case c = nth_case(n);

		if (!c.control)
			continue;
		assert_false(fln_policy_releases_at_fault(&c));
		if (!c.asked && !c.quiet && !c.mapped)
			assert_false(fln_policy_releases(&c));
	}
}

static void by_folio_and_density(void **state)
{
	struct fln_block_case c = { .option = FLN_RELEASE_AUTO };

	(void)state;
	/* Small folios, a dense guest or an unknown one: windows, until the block is quiet. */
	assert_false(fln_policy_releases(&c));
	assert_false(fln_policy_releases_at_fault(&c));
	c.seen = FLN_SEEN_DENSE;
	assert_false(fln_policy_releases(&c));
	c.quiet = true;
	assert_true(fln_policy_releases(&c));
	c.quiet = false;
	c.mapped = true;
	assert_true(fln_policy_releases(&c));
	/* A sparse one: at the first fault. */
	c.mapped = false;
	c.seen = FLN_SEEN_SPARSE;
	assert_true(fln_policy_releases_at_fault(&c));
	/* Large folios: at once. */
	c.seen = FLN_SEEN_DENSE;
	c.large = true;
	assert_true(fln_policy_releases(&c));
	assert_true(fln_policy_releases_at_fault(&c));
	/* But by a sweep, which joins entries of many blocks at once, where there are some. */
	c.has_entries = true;
	assert_true(fln_policy_releases(&c));
	assert_false(fln_policy_releases_at_fault(&c));
}

static void rest_of_a_block(void **state)
{
	struct fln_block_case c = { .option = FLN_RELEASE_AUTO, .may_be_large = true };

	(void)state;
	/* Any number of faults that wait for the same part. */
	c.nr_faults = 100;
	assert_false(fln_policy_fills_rest(&c));
	/* One that waits for another part than was filled. */
	c.nr_faults = 2;
	c.nr_filled = 64;
	assert_true(fln_policy_fills_rest(&c));
	c.option = FLN_RELEASE_ON_CALL;
	assert_false(fln_policy_fills_rest(&c));
	c.option = FLN_RELEASE_AUTO;
	c.nr_filled = 0;
	c.seen = FLN_SEEN_DENSE;
	assert_true(fln_policy_fills_rest(&c));
	c.seen = FLN_SEEN_SPARSE;
	c.nr_filled = 64;
	assert_false(fln_policy_fills_rest(&c));
	/* A network that takes 1 ms for 64 pages; a disk that takes 60 µs. */
	c.seen = FLN_SEEN_DENSE;
	c.source_ns = 1000 * 1000 / 64;
	assert_false(fln_policy_fills_rest(&c));
	c.source_ns = 60 * 1000 / 64;
	assert_true(fln_policy_fills_rest(&c));
	c.may_be_large = false;
	assert_false(fln_policy_fills_rest(&c));
}

static void trims_what_is_quiet(void **state)
{
	struct fln_block_case c = { .option = FLN_RELEASE_AUTO, .has_spare = true };

	(void)state;
	assert_false(fln_policy_trims(&c));
	c.quiet = true;
	assert_true(fln_policy_trims(&c));
	c.has_spare = false;
	assert_false(fln_policy_trims(&c));
}

/* Pages of a control after one in @nr pages was touched, and its part mapped. */
static struct fln_mask touched(uint32_t nr)
{
	struct fln_mask m = { { 0 } };

	for (uint32_t page = 0; page < FLN_BLOCK_PAGES; page += nr) {
		uint32_t lo = (uint32_t)fln_align_down(page, FLN_CONTROL_PAGES);

		fln_mask_set_range(&m, lo, lo + FLN_CONTROL_PAGES);
	}
	return m;
}

static void turnout_from_controls(void **state)
{
	struct fln_turnout t = { 0 };
	struct fln_mask dense = touched(8), sparse = touched(64);

	(void)state;
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_UNKNOWN);
	fln_turnout_note(&t, &sparse);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_UNKNOWN); /* one proves nothing */
	fln_turnout_note(&t, &sparse);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_SPARSE);
	fln_turnout_note(&t, &dense);
	fln_turnout_note(&t, &dense);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_UNKNOWN); /* they disagree */
	/* What is newer counts more: a guest that becomes dense is soon called so, and back. */
	for (uint32_t i = 0; i < 1000; i++)
		fln_turnout_note(&t, &dense);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_DENSE);
	for (uint32_t i = 0; i < 200; i++)
		fln_turnout_note(&t, &sparse);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_SPARSE);
}

/* All of a control is mapped: by a fault for each part, or by something else, which proves nothing. */
static void turnout_from_mapped_controls(void **state)
{
	struct fln_turnout t = { 0 };
	struct fln_mask sparse = touched(64);

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		fln_turnout_note_mapped(&t, 3);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_UNKNOWN);
	for (uint32_t i = 0; i < 10; i++)
		fln_turnout_note_mapped(&t, FLN_BLOCK_PAGES / FLN_CONTROL_PAGES);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_DENSE);
	/* A few that were left when their guest went on are outvoted. */
	for (uint32_t i = 0; i < 3; i++)
		fln_turnout_note(&t, &sparse);
	assert_int_equal(fln_turnout_of(&t), FLN_SEEN_DENSE);
}

/* One block in FLN_CONTROL_BLOCKS, spread over memory. */
static void controls_are_spread(void **state)
{
	uint64_t base = UINT64_C(0x7f0000000000);
	uint32_t nr = 0, nr_blocks = 1u << 16, longest = 0, since = 0;

	(void)state;
	for (uint32_t i = 0; i < nr_blocks; i++) {
		bool control = fln_block_is_control(base + i * FLN_BLOCK_BYTES);

		nr += control;
		since = control ? 0 : since + 1;
		longest = since > longest ? since : longest;
	}
	assert_in_range(nr, nr_blocks / FLN_CONTROL_BLOCKS / 2, nr_blocks / FLN_CONTROL_BLOCKS * 2);
	assert_in_range(longest, FLN_CONTROL_BLOCKS, FLN_CONTROL_BLOCKS * 32);
}

/* The region's goes first, then the guest's; a default is never left. */
static void which_option_holds(void **state)
{
	(void)state;
	for (enum fln_release r = 0; r < FLN_RELEASE_NR; r++) {
		for (enum fln_release g = 0; g < FLN_RELEASE_NR; g++) {
			enum fln_release want = r ? r : g ? g : FLN_RELEASE_ON_CALL;

			assert_int_equal(fln_release_option(r, g), want);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_kept),
		cmocka_unit_test(sweeps_agree_with_faults),
		cmocka_unit_test(controls_stay),
		cmocka_unit_test(by_folio_and_density),
		cmocka_unit_test(rest_of_a_block),
		cmocka_unit_test(trims_what_is_quiet),
		cmocka_unit_test(turnout_from_mapped_controls),
		cmocka_unit_test(turnout_from_controls),
		cmocka_unit_test(controls_are_spread),
		cmocka_unit_test(which_option_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
