/* SPDX-License-Identifier: MIT */
/* Options that grow, errors, version, the order of locks, the log and its limit. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "tests/support/cm.h"
#include "tests/support/death.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/version.h>
#include <stdbool.h>
#include <string.h>

struct opts_v1 {
	size_t size;
	uint64_t a;
};

struct opts_v2 {
	size_t size;
	uint64_t a;
	uint64_t b;
};

static void a_shorter_struct_is_padded(void **state)
{
	struct opts_v1 old = { .size = sizeof(old), .a = 7 };
	struct opts_v2 got = { .b = 9 };

	(void)state;
	assert_int_equal(fln_opts_copy(&got, sizeof(got), &old, "opts"), 0);
	assert_int_equal(got.a, 7);
	assert_int_equal(got.b, 0);
	assert_int_equal(got.size, sizeof(got));
}

static void a_longer_struct_must_be_zero_where_we_end(void **state)
{
	struct opts_v2 new = { .size = sizeof(new), .a = 7 };
	struct opts_v1 got;

	(void)state;
	assert_int_equal(fln_opts_copy(&got, sizeof(got), &new, "opts"), 0);
	assert_int_equal(got.a, 7);
	assert_int_equal(got.size, sizeof(got));
	new.b = UINT64_C(1) << 63;
	assert_int_equal(fln_opts_copy(&got, sizeof(got), &new, "opts_v1"), -E2BIG);
	assert_non_null(strstr(fln_last_error(), "opts_v1"));
	assert_non_null(strstr(fln_last_error(), "23"));
}

static void nothing_and_nonsense(void **state)
{
	struct opts_v1 bad = { .size = 0 }, got = { .a = 3 };

	(void)state;
	assert_int_equal(fln_opts_copy(&got, sizeof(got), NULL, "opts"), 0);
	assert_int_equal(got.a, 0);
	assert_int_equal(got.size, sizeof(got));
	for (size_t i = 0; i < 3; i++) {
		bad.size = (const size_t[]){ 0, sizeof(size_t) - 1, 4097 }[i];
		assert_int_equal(fln_opts_copy(&got, sizeof(got), &bad, "opts"), -EINVAL);
	}
	bad.size = sizeof(size_t); /* the size and nothing else */
	assert_int_equal(fln_opts_copy(&got, sizeof(got), &bad, "opts"), 0);
}

static void errors_and_version(void **state)
{
	char expect[64];

	(void)state;
	assert_int_equal(fln_fail(ENOMEM, "no room for %u", 17u), -ENOMEM);
	assert_string_equal(fln_last_error(), "no room for 17");
	assert_int_equal(fln_fail(EIO, "%01000d", 1), -EIO);
	assert_int_equal(strlen(fln_last_error()), 255); /* cut, not overrun */
	(void)snprintf(expect, sizeof(expect), "%d.%d.%d", FLN_VERSION_MAJOR, FLN_VERSION_MINOR,
		       FLN_VERSION_PATCH);
	assert_string_equal(fln_version(), expect);
}

static void *see_no_error(void *arg)
{
	*(bool *)arg = fln_last_error()[0] == '\0';
	return NULL;
}

static void errors_are_of_their_thread(void **state)
{
	pthread_t thread;
	bool empty = false;

	(void)state;
	(void)fln_fail(EIO, "mine");
	assert_int_equal(pthread_create(&thread, NULL, see_no_error, &empty), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(empty);
	assert_string_equal(fln_last_error(), "mine");
}

static void *other_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	(void)ctx;
	(void)size_bytes;
	(void)align_bytes;
	(void)node;
	return NULL;
}

static void allocators(void **state)
{
	struct fln_allocator a, half = { .size = sizeof(half), .alloc = other_alloc };
	unsigned char *p;

	(void)state;
	assert_int_equal(fln_alloc_init(&a, &half), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "free"));
	assert_int_equal(fln_alloc_init(&a, NULL), 0);
	p = fln_zalloc(&a, 100, FLN_NODE_ANY);
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % 64, 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(p[i], 0);
	fln_free(&a, p, 100, FLN_NODE_ANY);
	fln_free(&a, NULL, 100, FLN_NODE_ANY);
}

static struct fln_lock low, high;

static void upward(void *arg)
{
	(void)arg;
	fln_lock(&low);
	fln_lock(&high);
	fln_unlock(&high);
	fln_unlock(&low);
}

#ifdef FLN_DEBUG
static void downward(void *arg) FLN_NO_THREAD_SAFETY
{
	(void)arg;
	fln_lock(&high);
	fln_lock(&low);
}

static void same_rank(void *arg) FLN_NO_THREAD_SAFETY
{
	struct fln_lock another;

	(void)arg;
	fln_lock_init(&another, FLN_RANK_IMAGE);
	fln_lock(&low);
	fln_lock(&another);
}

static void call_out_with_a_lock(void *arg) FLN_NO_THREAD_SAFETY
{
	(void)arg;
	fln_lock(&low);
	fln_lock_assert_none();
}
#endif

static void locks_go_upward(void **state)
{
	(void)state;
	fln_lock_init(&low, FLN_RANK_IMAGE);
	fln_lock_init(&high, FLN_RANK_LEAF);
	assert_false(aborts(upward, NULL));
	upward(NULL);
	fln_lock_assert_none();
#ifdef FLN_DEBUG
	assert_true(aborts(downward, NULL));
	assert_true(aborts(same_rank, NULL));
	assert_true(aborts(call_out_with_a_lock, NULL));
#endif
	fln_lock_deinit(&low);
	fln_lock_deinit(&high);
}

static void a_deadline_that_has_passed(void **state)
{
	pthread_cond_t cond;

	(void)state;
	fln_lock_init(&low, FLN_RANK_IMAGE);
	fln_cond_init(&cond);
	fln_lock(&low);
	assert_false(fln_cond_wait_until(&cond, &low, fln_now_ns()));
	fln_unlock(&low);
	assert_int_equal(pthread_cond_destroy(&cond), 0);
	fln_lock_deinit(&low);
}

struct lines {
	uint32_t nr;
	char last[600];
};

static void take_line(void *ctx, enum fln_log_level level, const char *msg)
{
	struct lines *l = ctx;

	assert_int_equal(level, FLN_LOG_WARNING);
	l->nr++;
	(void)snprintf(l->last, sizeof(l->last), "%s", msg);
}

static void the_log_is_limited(void **state)
{
	struct fln_log_limit limit = { .next_ns = 0 };
	struct lines lines = { .nr = 0 };
	struct fln_log log = { .fn = take_line, .ctx = &lines }, none = { .fn = NULL };

	(void)state;
	fln_log(&none, FLN_LOG_WARNING, "nobody hears it");
	fln_log_limited(&none, &limit, FLN_LOG_WARNING, "nor this");
	fln_log(&log, FLN_LOG_WARNING, "%0600d", 1);
	assert_int_equal(strlen(lines.last), 511);
	for (int i = 0; i < 5; i++)
		fln_log_limited(&log, &limit, FLN_LOG_WARNING, "page %d", i);
	assert_int_equal(lines.nr, 2);
	assert_string_equal(lines.last, "page 0");
	limit.next_ns = 0; /* a second later */
	fln_log_limited(&log, &limit, FLN_LOG_WARNING, "page 5");
	assert_string_equal(lines.last, "page 5 (4 similar suppressed)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_shorter_struct_is_padded),
		cmocka_unit_test(a_longer_struct_must_be_zero_where_we_end),
		cmocka_unit_test(nothing_and_nonsense),
		cmocka_unit_test(errors_and_version),
		cmocka_unit_test(errors_are_of_their_thread),
		cmocka_unit_test(allocators),
		cmocka_unit_test(locks_go_upward),
		cmocka_unit_test(a_deadline_that_has_passed),
		cmocka_unit_test(the_log_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
