/* SPDX-License-Identifier: MIT */
/* Cycles of create and destroy leave no descriptor, mapping or thread behind. */
#include "tests/integration/harness.h"

#include <malloc.h>
#include <stdlib.h>

static void cycle(uint32_t number)
{
	struct bed b;

	bed_init(&b, 1100);
	b.guest_opts.nr_shards = 8;
	bed_up(&b);
	read_all(&b, 8);
	if (number % 2)
		OK(fln_region_remove(b.region));
	if (number % 3 == 2)
		OK(fln_engine_stop(b.engine));
	bed_down(&b);
}

static void cycles(void)
{
	uint32_t fds = 0, maps = 0, threads = 0, warm = 10;
	uint32_t nr = warm + test_scale(15, 50, 500);

	for (uint32_t i = 0; i < nr; i++) {
		STEP("cycle %u", i);
		cycle(i);
		/* The first ones leave what stays: the RCU's thread, cached stacks, heaps. */
		if (i == warm - 1) {
			threads = settle_threads(2);
			fds = count_fds();
			maps = count_maps();
		}
	}
	threads = settle_threads(threads) - threads;
	fds = count_fds() - fds;
	maps = count_maps() - maps;
	test_note("%u cycles: %d descriptors, %d mappings, %d threads more", nr - warm, (int)fds,
		  (int)maps, (int)threads);
	CHECK((int)fds == 0, "%d descriptors are left", (int)fds);
	CHECK((int)threads <= 0, "%d threads are left", (int)threads);
	/* Sanitizers map as they go. */
	if (!TEST_ASAN && !TEST_TSAN)
		CHECK((int)maps <= 4, "%d mappings are left", (int)maps);
}

static _Atomic int64_t nr_bytes_given;

static void *counted_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	void *p = NULL;

	(void)ctx;
	(void)node;
	if (posix_memalign(&p, align_bytes < sizeof(p) ? sizeof(p) : align_bytes, size_bytes) != 0)
		return NULL;
	atomic_fetch_add(&nr_bytes_given, (int64_t)size_bytes);
	return p;
}

static void counted_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	(void)ctx;
	(void)node;
	free(ptr);
	atomic_fetch_sub(&nr_bytes_given, (int64_t)size_bytes);
}

/* What calls on ranges allocate is given back: by the next call, or at the end. */
static void lists_of_ranges(void)
{
	struct fln_allocator counted = { .size = sizeof(counted),
					 .alloc = counted_alloc,
					 .free = counted_free };
	uint64_t addr;
	struct bed b;

	bed_init(&b, 2048);
	b.engine_opts.allocator = &counted;
	bed_up(&b);
	addr = (uint64_t)(uintptr_t)b.mem;
	for (uint32_t i = 0; i < 8; i++) {
		uint64_t at = addr + i * 16 * PAGE;

		OK(fln_guest_populate(b.guest, at, 8 * PAGE, NULL));
		OK(fln_guest_lock(b.guest, at, 4 * PAGE));
		OK(fln_guest_advise(b.guest, at, 8 * PAGE,
				    i % 2 ? FLN_ADVICE_RANDOM : FLN_ADVICE_SEQUENTIAL));
		OK(fln_guest_advise(b.guest, at, 8 * PAGE, FLN_ADVICE_WILLNEED));
		if (i % 3 == 0)
			OK(fln_guest_unlock(b.guest, at, 2 * PAGE));
	}
	bed_down(&b);
	CHECK(nr_bytes_given == 0, "%lld bytes were not given back", (long long)nr_bytes_given);
}

int main(void)
{
	(void)mallopt(M_ARENA_MAX, 1);
	test_init();
	RUN(cycles);
	RUN(lists_of_ranges);
	return 0;
}
