/* SPDX-License-Identifier: MIT */
/* The baselines serve right contents, holes as zeros, and can be stopped. */
#include "baselines/handler.h"
#include "baselines/probe.h"
#include "baselines/shmem.h"

#include <dirent.h>
#include <errno.h>
#include <faultlane/base.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

static void touch_all(const struct fln_shmem *s)
{
	for (uint32_t i = 0; i < NR_PAGES; i++) {
		uint32_t page = i * 7 % NR_PAGES; /* NR_PAGES is no multiple of 7 */
		volatile uint64_t *word =
			(volatile uint64_t *)(void *)((char *)s->addr + (uint64_t)page * PAGE);

		assert_true(*word == word_of(page));
	}
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
	touch_all(&s);
	fln_handler_stats(handler, &stats);
	if (design == FLN_HANDLER_SINGLE)
		assert_int_equal(stats.faults - stats.refaults, NR_PAGES);
	else
		assert_true(stats.faults - stats.refaults <=
			    NR_PAGES / (first ? first : 1) + 1); /* holes too */
	assert_int_equal(stats.failed, 0);
	assert_true(stats.refaults <= NR_PAGES / 16); /* the kernel may take back what was mapped */
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

/* Threads of this process that may run on exactly one processor. */
static uint32_t nr_pinned(void)
{
	uint32_t nr = 0;
	DIR *dir = opendir("/proc/self/task");

	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		cpu_set_t set;

		if (e->d_name[0] != '.' &&
		    sched_getaffinity((pid_t)strtol(e->d_name, NULL, 10), sizeof(set), &set) == 0)
			nr += CPU_COUNT(&set) == 1;
	}
	(void)closedir(dir);
	return nr;
}

/* Threads that were joined are still there for a moment. */
static uint32_t settle_pinned(uint32_t want)
{
	uint32_t nr = nr_pinned();

	for (uint32_t i = 0; i < 1000 && nr != want; i++) {
		(void)usleep(1000);
		nr = nr_pinned();
	}
	return nr;
}

/* The first processor that this process may use. */
static uint32_t first_cpu(void)
{
	uint32_t cpu = 0;
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

static void serve_per_vcpu(uint32_t nr, bool pin)
{
	struct fln_handler_stats stats;
	struct fln_handler *handler;
	struct fln_handler_opts opts = { .design = FLN_HANDLER_PER_VCPU,
					 .nr_readers = nr,
					 .user_mode_only = user_mode_only };
	struct fln_shmem s;
	uint32_t cpus[32], pinned = nr_pinned();

	for (uint32_t i = 0; i < 32; i++)
		cpus[i] = first_cpu();
	make_memory(&s);
	opts.addr = s.addr;
	opts.len_bytes = s.len_bytes;
	opts.reader_cpus = pin ? cpus : NULL;
	assert_int_equal(fln_handler_start(&opts, &handler), 0);
	if (pin && pinned == 0) /* else this process is on one processor altogether */
		assert_int_equal(settle_pinned(nr), nr);
	touch_all(&s);
	/* The last thread to touch goes on before its reader has counted what it was. */
	for (uint32_t i = 0; i < 1000; i++) {
		fln_handler_stats(handler, &stats);
		if (stats.zero == NR_PAGES / 3 && stats.service.count == stats.faults)
			break;
		(void)usleep(1000);
	}
	assert_int_equal(stats.faults - stats.refaults, NR_PAGES);
	assert_int_equal(stats.zero, NR_PAGES / 3);
	assert_int_equal(stats.failed, 0);
	assert_int_equal(stats.service.count, stats.faults);
	fln_handler_stop(handler);
	assert_int_equal(settle_pinned(pinned), pinned);
	fln_shmem_deinit(&s);
}

static void each_vcpu_has_its_reader(void **state)
{
	static const uint32_t counts[] = { 1, 2, 7, 32 };

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		serve_per_vcpu(counts[i], false);
		serve_per_vcpu(counts[i], true);
	}
}

/* How many of its pages are in the page tables. */
static uint32_t nr_mapped(const struct fln_shmem *s)
{
	static uint64_t entries[NR_PAGES];
	off_t at = (off_t)((uintptr_t)s->addr / PAGE * sizeof(entries[0]));
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint32_t nr = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, entries, sizeof(entries), at), sizeof(entries));
	(void)close(fd);
	for (uint32_t page = 0; page < NR_PAGES; page++)
		nr += (uint32_t)(entries[page] >> 63);
	return nr;
}

static void populated_memory_is_mapped(void **state)
{
	struct fln_shmem s;

	(void)state;
	for (int write = 0; write <= 1; write++) {
		const uint64_t half = NR_PAGES / 2 * PAGE;

		make_memory(&s);
		assert_int_equal(nr_mapped(&s), 0);
		assert_int_equal(fln_shmem_populate(&s, half, half, write), 0);
		/* Reclaim may have taken some, and reading maps a few neighbours. */
		assert_in_range(nr_mapped(&s), NR_PAGES / 2 - 20, NR_PAGES - 1);
		assert_int_equal(fln_shmem_populate(&s, 0, half, write), 0);
		assert_in_range(nr_mapped(&s), NR_PAGES - 20, NR_PAGES);
		touch_all(&s);
		fln_shmem_deinit(&s);
	}
	assert_int_equal(fln_shmem_init(&s, PAGE), 0);
	assert_int_equal(fln_shmem_map(&s), 0);
	assert_true(fln_shmem_populate(&s, 1, PAGE, false) < 0);
	assert_non_null(strstr(fln_last_error(), "offset 1"));
	fln_shmem_deinit(&s);
}

static void large_pages_have_the_contents(void **state)
{
	uint64_t large_bytes = 0;
	struct fln_shmem s;
	int rc;

	(void)state;
	make_memory(&s);
	rc = fln_shmem_collapse(&s, &large_bytes);
	if (rc != -ENOTSUP)
		assert_int_equal(rc, 0);
	assert_in_range(large_bytes, 0, NR_PAGES / 512 * UINT64_C(2097152));
	if (large_bytes == 0) {
		print_message("the kernel had no large page to give\n");
	} else {
		/* A touch maps one wholly, as it does for nothing else: writes map no neighbours. */
		assert_int_equal(nr_mapped(&s), 0);
		*(volatile uint64_t *)s.addr = word_of(0);
		assert_int_equal(nr_mapped(&s), 512);
	}
	touch_all(&s);
	fln_shmem_deinit(&s);
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
	const uint32_t no_cpu = 100000;
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
	opts.window_first = 0;
	opts.nr_readers = 2; /* not for a single one */
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "2 readers"));
	opts.design = FLN_HANDLER_PER_VCPU; /* of one page */
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	opts.nr_readers = 0;
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	opts.nr_readers = 1;
	opts.reader_cpus = &no_cpu;
	assert_int_equal(fln_handler_start(&opts, &handler), -EINVAL);
	assert_non_null(strstr(fln_last_error(), "100000"));
	assert_null(handler);
	fln_handler_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_serves),
		cmocka_unit_test(windows_serve),
		cmocka_unit_test(each_vcpu_has_its_reader),
		cmocka_unit_test(populated_memory_is_mapped),
		cmocka_unit_test(large_pages_have_the_contents),
		cmocka_unit_test(punched_page_comes_back_as_zero),
		cmocka_unit_test(bad_options_are_named),
	};
	struct fln_probe_access access;

	fln_probe_access(&access);
	if (access.device && access.syscall && access.syscall_user_mode) {
		(void)printf("SKIP: userfaultfd is unavailable: %s\n",
			     strerror(access.syscall_user_mode));
		return 77;
	}
	user_mode_only = access.device && access.syscall;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
