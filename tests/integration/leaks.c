/* SPDX-License-Identifier: MIT */
/* Cycles of create and destroy leave no descriptor, mapping or thread behind. */
#include "tests/integration/harness.h"

#include <malloc.h>

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

int main(void)
{
	(void)mallopt(M_ARENA_MAX, 1);
	test_init();
	RUN(cycles);
	return 0;
}
