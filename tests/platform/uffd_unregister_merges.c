/* SPDX-License-Identifier: MIT */
/*
 * Stripes of two userfaultfds are mappings of their own.  UNREGISTER of whole ones adds none, and
 * those that are alike again merge, so that one is left in the end; UNREGISTER of the middle of
 * a mapping splits it in three.
 */
#include "platform.h"

#define NR 8u

static unsigned int nr_mappings(const uint8_t *mem, uint64_t bytes)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long lo, hi;
	unsigned int nr = 0;
	char line[512];

	PLT_CHECK(maps, "/proc/self/maps: errno %d", errno);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx", &lo, &hi) == 2 && lo < (uintptr_t)mem + bytes &&
		    hi > (uintptr_t)mem)
			nr++;
	}
	(void)fclose(maps);
	return nr;
}

static void expect(const uint8_t *mem, unsigned int want, const char *when)
{
	unsigned int nr = nr_mappings(mem, NR * PLT_BLOCK);

	PLT_CHECK(nr == want, "%s: expected %u mappings, saw %u", when, want, nr);
}

int main(void)
{
	unsigned int order[NR] = { 2, 5, 3, 0, 7, 1, 6, 4 };
	unsigned int left[NR] = { 8, 8, 7, 7, 7, 5, 3, 1 };
	int uffd[2], fd;
	uint8_t *mem;

	plt_init();
	uffd[0] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	uffd[1] = plt_uffd(UFFD_FEATURE_MINOR_SHMEM);
	fd = plt_memfd(NR * PLT_BLOCK);
	mem = plt_map(fd, NR * PLT_BLOCK, MAP_SHARED);
	for (unsigned int i = 0; i < NR; i++)
		plt_register(uffd[i % 2], mem + i * PLT_BLOCK, PLT_BLOCK, PLT_BOTH);
	expect(mem, NR, "registered by turns");
	for (unsigned int i = 0; i < NR; i++) {
		plt_expect_err(plt_unregister(uffd[order[i] % 2], mem + order[i] * PLT_BLOCK,
					      PLT_BLOCK),
			       0, "UNREGISTER");
		expect(mem, left[i], "while they are unregistered");
	}
	plt_register(uffd[0], mem, NR * PLT_BLOCK, PLT_BOTH);
	expect(mem, 1, "registered as one");
	plt_expect_err(plt_unregister(uffd[0], mem + PLT_BLOCK, PLT_BLOCK), 0, "UNREGISTER");
	expect(mem, 3, "without the middle");
	plt_expect_err(plt_unregister(uffd[0], mem + 2 * PLT_BLOCK, PLT_BLOCK), 0, "UNREGISTER");
	expect(mem, 3, "without more of the middle");
	plt_pass();
}
