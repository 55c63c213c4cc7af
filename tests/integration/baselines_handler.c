/* SPDX-License-Identifier: MIT */
/* The baselines serve right contents, holes as zeros, and can be stopped. */
#include "baselines/handler.h"
#include "baselines/probe.h"
#include "baselines/shmem.h"

#include <errno.h>
#include <faultlane/base.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGE 4096u
#define NR_PAGES 1500u /* not a whole number of blocks */

static bool user_mode_only;

/* Every third page is a hole. */
static uint64_t word_of(uint32_t page)
{
	return page % 3 == 1 ? 0 : page + UINT64_C(0x100000000);
}

static void make_memory(struct fln_shmem *s)
{
	static uint64_t buf[PAGE / sizeof(uint64_t)];

	assert_int_equal(fln_shmem_init(s, NR_PAGES * PAGE), 0);
	for (uint32_t page = 0; page < NR_PAGES; page++) {
		buf[0] = word_of(page);
		if (buf[0])
			assert_int_equal(fln_shmem_put(s, (uint64_t)page * PAGE, buf, PAGE), 0);
	}
	assert_int_equal(fln_shmem_map(s), 0);
}

static void serve(enum fln_handler_design design, uint32_t first, uint32_t max)
{
	struct fln_handler_stats stats;
	struct fln_handler *handler;
	struct fln_handler_opts opts = { .design = design,
					 .window_first = first,
					 .window_max = max,
					 .user_mode_only = user_mode_only };
	struct fln_shmem s;

	make_memory(&s);
	opts.addr = s.addr;
	opts.len_bytes = s.len_bytes;
	assert_int_equal(fln_handler_start(&opts, &handler), 0);
	for (uint32_t i = 0; i < NR_PAGES; i++) {
		uint32_t page = i * 7 % NR_PAGES; /* NR_PAGES is no multiple of 7 */
		volatile uint64_t *word =
			(volatile uint64_t *)(void *)((char *)s.addr + (uint64_t)page * PAGE);

		assert_true(*word == word_of(page));
	}
	fln_handler_stats(handler, &stats);
	if (design == FLN_HANDLER_SINGLE)
		assert_int_equal(stats.faults - stats.refaults, NR_PAGES);
	else
		assert_true(stats.faults - stats.refaults <=
			    NR_PAGES / (first ? first : 1) + 1); /* holes too */
	assert_int_equal(stats.failed, 0);
	assert_true(stats.refaults <= 2); /* the kernel may take back what was mapped */
	fln_handler_stop(handler);
	fln_shmem_deinit(&s);
}

static void single_serves(void **state)
{
	(void)state;
	serve(FLN_HANDLER_SINGLE, 0, 0);
}

static void windows_serve(void **state)
{
	(void)state;
	serve(FLN_HANDLER_SINGLE_WINDOW, 0, 0);
	for (uint32_t window = 1; window <= 512; window *= 2)
		serve(FLN_HANDLER_SINGLE_WINDOW, window, window);
}

static void punched_page_comes_back_as_zero(void **state)
{
	struct fln_handler_opts opts = { .design = FLN_HANDLER_SINGLE_WINDOW,
					 .user_mode_only = user_mode_only };
	struct fln_handler_stats stats;
	struct fln_handler *handler;
	struct fln_shmem s;
	volatile uint64_t *word;

	(void)state;
	make_memory(&s);
	opts.addr = s.addr;
	opts.len_bytes = s.len_bytes;
	assert_int_equal(fln_handler_start(&opts, &handler), 0);
	word = s.addr;
	assert_true(*word == word_of(0));
	assert_int_equal(madvise(s.addr, PAGE, MADV_REMOVE), 0);
	assert_true(*word == 0); /* the handler knew it as mapped, and maps it again */
	fln_handler_stats(handler, &stats);
	assert_true(stats.refaults >= 1);
	fln_handler_stop(handler);
	fln_shmem_deinit(&s);
}

static void bad_options_are_named(void **state)
{
	static char page[PAGE];
	struct fln_handler *handler = NULL;
	struct fln_handler_opts opts = { .addr = page + 1, .len_bytes = PAGE };

	(void)state;
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "2 MiB"));
	opts.addr = (void *)(uintptr_t)(UINT64_C(2) << 20);
	opts.len_bytes = 4097;
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "4097"));
	opts.len_bytes = PAGE;
	opts.window_first = 3;
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	assert_null(handler);
	fln_handler_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_serves),
		cmocka_unit_test(windows_serve),
		cmocka_unit_test(punched_page_comes_back_as_zero),
		cmocka_unit_test(bad_options_are_named),
	};
	struct fln_probe_access access;

	fln_probe_access(&access);
	if (access.device && access.syscall && access.syscall_user_mode) {
		(void)printf("SKIP: userfaultfd is not to be had: %s\n",
			     strerror(access.syscall_user_mode));
		return 77;
	}
	user_mode_only = access.device && access.syscall;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
