/* SPDX-License-Identifier: MIT */
/* What is mapped in truth, asked of the kernel about memory of this process. */
#include "engine/pagemap.h"

#include "base/page.h"
#include "engine/confirm.h"

#include "tests/support/cm.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define NR_PAGES 16u

static char *map_pages(uint32_t nr_pages)
{
	char *p = mmap(NULL, nr_pages * FLN_PAGE_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(madvise(p, nr_pages * FLN_PAGE_BYTES, MADV_NOHUGEPAGE), 0);
	return p;
}

static bool is_empty(const char *p, uint32_t page)
{
	return fln_pagemap_is_empty((uintptr_t)p + page * FLN_PAGE_BYTES);
}

static void a_page_is_empty_until_it_is_touched(void **state)
{
	char *p = map_pages(NR_PAGES);
	int fd = fln_pagemap_open();

	(void)state;
	if (fd < 0)
		skip();
	(void)close(fd);
	p[3 * FLN_PAGE_BYTES] = 1;
	for (uint32_t i = 0; i < NR_PAGES; i++)
		assert_int_equal(is_empty(p, i), i != 3);
	assert_int_equal(madvise(p + 3 * FLN_PAGE_BYTES, FLN_PAGE_BYTES, MADV_DONTNEED), 0);
	assert_true(is_empty(p, 3));
	assert_int_equal(munmap(p, NR_PAGES * FLN_PAGE_BYTES), 0);
}

/* The caller acts upon "empty": a page is not, where nothing can be told. */
static void without_a_descriptor_nothing_is_called_empty(void **state)
{
	struct rlimit old, none;
	char *p = map_pages(NR_PAGES);

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_false(is_empty(p, 0));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(munmap(p, NR_PAGES * FLN_PAGE_BYTES), 0);
}

static void pages_that_are_mapped(void **state)
{
	struct fln_mask mapped;
	char *p = map_pages(NR_PAGES);
	int fd = fln_pagemap_open();

	(void)state;
	if (fd < 0)
		skip();
	p[3 * FLN_PAGE_BYTES] = p[4 * FLN_PAGE_BYTES] = p[9 * FLN_PAGE_BYTES] = 1;
	assert_true(fln_pagemap_mapped(fd, (uintptr_t)p, 0, NR_PAGES, &mapped));
	for (uint32_t i = 0; i < NR_PAGES; i++)
		assert_int_equal(fln_mask_test(&mapped, i), i == 3 || i == 4 || i == 9);
	/* Of a part no more is told than is asked for. */
	assert_true(fln_pagemap_mapped(fd, (uintptr_t)p, 4, 9, &mapped));
	assert_int_equal(fln_mask_count(&mapped), 1);
	assert_true(fln_mask_test(&mapped, 4));
	assert_false(fln_pagemap_mapped(-1, (uintptr_t)p, 0, NR_PAGES, &mapped));
	assert_true(fln_mask_empty(&mapped));
	(void)close(fd);
	assert_int_equal(munmap(p, NR_PAGES * FLN_PAGE_BYTES), 0);
}

/* More runs than one call returns. */
static void scattered_pages_that_are_mapped(void **state)
{
	char *p = map_pages(FLN_BLOCK_PAGES);
	struct fln_mask mapped;
	int fd = fln_pagemap_open();

	(void)state;
	if (fd < 0)
		skip();
	for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i += 3)
		p[i * FLN_PAGE_BYTES] = 1;
	assert_true(fln_pagemap_mapped(fd, (uintptr_t)p, 1, FLN_BLOCK_PAGES, &mapped));
	for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i++)
		assert_int_equal(fln_mask_test(&mapped, i), i != 0 && i % 3 == 0);
	(void)close(fd);
	assert_int_equal(munmap(p, FLN_BLOCK_BYTES), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_is_empty_until_it_is_touched),
		cmocka_unit_test(without_a_descriptor_nothing_is_called_empty),
		cmocka_unit_test(pages_that_are_mapped),
		cmocka_unit_test(scattered_pages_that_are_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
