/* SPDX-License-Identifier: MIT */
/*
 * What a region unmaps is any thread's to map from then on.  Here one does at once: the linker
 * puts a munmap() of the test before the system's, which maps memory of its own into each hole.
 * At the end all of that must be there still.
 */
#include "engine/state/engine.h"
#include "tests/integration/harness.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 1500u
#define LEN (NR_PAGES * PAGE)
#define OURS 0x5a5a5a5a5a5a5a5aull

static struct bed bed;
static _Atomic uint64_t watched; /* a region's address; 0: none */
static _Atomic uint64_t nr_taken;

int __real_munmap(void *addr, size_t len);
int __wrap_munmap(void *addr, size_t len);

static void take(uint8_t *p, size_t len)
{
	void *q = mmap(p, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	CHECK(q == p, "%zu bytes at %p were not free after munmap(): %s", len, (void *)p,
	      strerror(errno));
	for (size_t at = 0; at < len; at += PAGE)
		*(uint64_t *)(void *)(p + at) = OURS;
	atomic_fetch_add(&nr_taken, len / PAGE);
}

int __wrap_munmap(void *addr, size_t len)
{
	uint64_t from = (uintptr_t)addr, region = atomic_load(&watched);
	int rc = __real_munmap(addr, len);

	if (rc == 0 && region && from >= region && from < region + LEN)
		take(addr, len);
	return rc;
}

/* A third of the pages is filled, some are written to and some are given up. */
static void use(uint64_t random)
{
	uint64_t value;

	for (uint64_t page = 0; page < NR_PAGES; page += 1 + next_random(&random) % 40) {
		uint64_t nr = 1 + next_random(&random) % 5;

		nr = page + nr < NR_PAGES ? nr : NR_PAGES - page;
		if (next_random(&random) % 2)
			CHECK(touch_write(bed_page(&bed, page), page) == TOUCH_OK, "page %llu",
			      (unsigned long long)page);
		else
			CHECK(touch_read(bed_page(&bed, page), &value) == TOUCH_OK, "page %llu",
			      (unsigned long long)page);
		if (next_random(&random) % 2)
			CHECK(madvise(bed_page(&bed, page), nr * PAGE, MADV_DONTNEED) == 0, "%s",
			      strerror(errno));
	}
}

static void check_taken(const uint8_t *p)
{
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t value = 0;

		CHECK(touch_read(p + page * PAGE, &value) == TOUCH_OK && value == OURS,
		      "page %llu was unmapped once more, after another thread had mapped it",
		      (unsigned long long)page);
	}
}

/* As where /dev/zero cannot be opened: zeros are anonymous memory, as a malloc()'s are. */
static void without_zero_device(void)
{
	struct fln_vacant *v = &bed.engine->vacant;

	if (v->zero_fd > 0)
		(void)close(v->zero_fd);
	v->zero_fd = 0;
}

static void one_end(enum fln_sharing sharing, enum fln_discard discard, bool no_zeros,
		    uint64_t random)
{
	uint8_t *p;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = 4;
	bed.guest_opts.window_first = bed.guest_opts.window_max = 4;
	bed.region_opts.sharing = sharing;
	bed.region_opts.discard = discard;
	bed_up(&bed);
	if (no_zeros)
		without_zero_device();
	use(random);
	if (random % 2)
		OK(fln_guest_stop(bed.guest));
	p = fln_region_addr(bed.region);
	STEP("fln_region_remove, sharing %u, discard %u, seed %llu", (unsigned int)sharing,
	     (unsigned int)discard, (unsigned long long)random);
	atomic_store(&nr_taken, 0);
	atomic_store(&watched, (uintptr_t)p);
	OK(fln_region_remove(bed.region));
	atomic_store(&watched, 0);
	CHECK(atomic_load(&nr_taken) == NR_PAGES, "%llu pages were unmapped",
	      (unsigned long long)atomic_load(&nr_taken));
	check_taken(p);
	CHECK(__real_munmap(p, LEN) == 0, "munmap: %s", strerror(errno));
	bed_down(&bed);
}

static void shared(void)
{
	for (uint64_t seed = 1; seed <= test_scale(2, 4, 40); seed++) {
		one_end(FLN_SHARING_SHARED, FLN_DISCARD_ZERO, false, seed);
		one_end(FLN_SHARING_SHARED, FLN_DISCARD_IMAGE, false, seed);
	}
}

static void private(void)
{
	for (uint64_t seed = 1; seed <= test_scale(2, 4, 40); seed++) {
		one_end(FLN_SHARING_PRIVATE, FLN_DISCARD_ZERO, false, seed);
		one_end(FLN_SHARING_PRIVATE, FLN_DISCARD_IMAGE, false, seed);
	}
}

static void private_without_zero_device(void)
{
	for (uint64_t seed = 1; seed <= test_scale(2, 4, 40); seed++)
		one_end(FLN_SHARING_PRIVATE, FLN_DISCARD_ZERO, true, seed);
}

int main(void)
{
	test_init();
	RUN(shared);
	RUN(private);
	RUN(private_without_zero_device);
	return 0;
}
