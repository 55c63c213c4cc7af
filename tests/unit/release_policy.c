/* SPDX-License-Identifier: MIT */
/* When a whole block is released, by option and by call. */
#include "engine/release_policy.h"

#include "tests/support/cm.h"

#include <stdbool.h>

static void by_option(void **state)
{
	static const struct {
		enum fln_release option;
		bool asked, wanted;
	} cases[] = {
		{ FLN_RELEASE_AUTO, false, true },     { FLN_RELEASE_AUTO, true, true },
		{ FLN_RELEASE_ON_CALL, false, false }, { FLN_RELEASE_ON_CALL, true, true },
		{ FLN_RELEASE_NEVER, false, false },   { FLN_RELEASE_NEVER, true, false },
	};

	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fln_release_case c = { cases[i].option, cases[i].asked };

		assert_int_equal(fln_release_wants(&c), cases[i].wanted);
	}
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
		cmocka_unit_test(by_option),
		cmocka_unit_test(which_option_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
