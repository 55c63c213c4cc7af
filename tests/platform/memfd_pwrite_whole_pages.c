/* SPDX-License-Identifier: MIT */
/*
 * A pwrite of whole pages from an aligned, resident buffer is seen page by page
 * whole or not at all: threads that touch pages of a MISSING-only mapping while
 * they are filled never see a page half filled or zero.  (Publishing by the cache
 * rests on it.)
 */
#include "platform.h"

#include <pthread.h>
#include <time.h>

enum {
	THREADS = 8,
	ROUNDS = 8,
	BLOCKS = 16,
	PAGES = BLOCKS * 512,
	WORDS = 512
};

static uint64_t *mem;
static _Atomic int running;
static _Atomic unsigned int wrong;
static _Atomic uint64_t checked;

static uint64_t word(uint64_t page, uint64_t i)
{
	return (page + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ i;
}

static void *reader(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 2654435761u + 1;
	uint64_t nr = 0;

	for (int i = 0; i < PAGES / 2; i++) {
		uint64_t page;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		page = (seed >> 33) % PAGES;
		/* From the end: what a copy that is under way writes last. */
		for (uint64_t w = WORDS; w-- > 0;) {
			volatile uint64_t *at = &mem[page * WORDS + w];

			if (*at != word(page, w)) {
				atomic_fetch_add(&wrong, 1);
				break;
			}
		}
		nr++;
	}
	atomic_fetch_add(&checked, nr);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void fill_block(int fd, uint64_t *buf, uint64_t block)
{
	ssize_t n;

	for (uint64_t p = 0; p < 512; p++)
		for (uint64_t w = 0; w < WORDS; w++)
			buf[p * WORDS + w] = word(block * 512 + p, w);
	n = pwrite(fd, buf, PLT_BLOCK, (off_t)(block * PLT_BLOCK));
	PLT_CHECK(n == (ssize_t)PLT_BLOCK, "pwrite of 2 MiB: expected all, saw %zd (%s)", n,
		  strerror(errno));
}

static void run(uint64_t *buf, uintptr_t round)
{
	uint64_t until = plt_now_ns() + (uint64_t)PLT_WAIT_MS * 1000000u;
	bool filled[BLOCKS] = { false };
	int uffd = plt_uffd(UFFD_FEATURE_MISSING_SHMEM);
	int fd = plt_memfd(PAGES * PLT_PAGE);
	pthread_t threads[THREADS];

	mem = (uint64_t *)(void *)plt_map(fd, PAGES * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, PAGES * PLT_PAGE, PLT_MISSING);
	atomic_store(&running, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		PLT_CHECK(pthread_create(&threads[i], NULL, reader,
					 (void *)(i + round * THREADS)) == 0,
			  "pthread_create");
	while (atomic_load(&running) > 0) {
		struct uffd_msg msgs[16];
		unsigned int nr;

		PLT_CHECK(plt_now_ns() < until, "waited 8 s for the readers, %d are left",
			  atomic_load(&running));
		nr = plt_poll(uffd, 1) ? plt_read(uffd, msgs, 16) : 0;
		for (unsigned int i = 0; i < nr; i++) {
			uint64_t at = msgs[i].arg.pagefault.address & ~(PLT_PAGE - 1);
			uint64_t block = (at - (uintptr_t)mem) / PLT_BLOCK;

			if (!filled[block])
				fill_block(fd, buf, block);
			filled[block] = true;
			plt_expect_err(plt_wake(uffd, (uint8_t *)mem + block * PLT_BLOCK,
						PLT_BLOCK),
				       0, "WAKE");
		}
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	munmap(mem, PAGES * PLT_PAGE);
	close(uffd);
	close(fd);
}

int main(void)
{
	uint64_t *buf;

	plt_init();
	buf = (uint64_t *)(void *)plt_map(-1, PLT_BLOCK, MAP_PRIVATE | MAP_ANONYMOUS);
	memset(buf, 0xff, PLT_BLOCK);
	for (uintptr_t i = 0; i < ROUNDS && atomic_load(&wrong) == 0; i++)
		run(buf, i);
	PLT_CHECK(atomic_load(&wrong) == 0, "expected whole pages only, saw %u wrong of %llu",
		  atomic_load(&wrong), (unsigned long long)atomic_load(&checked));
	plt_note("%llu page reads, 0 wrong", (unsigned long long)atomic_load(&checked));
	plt_pass();
}
