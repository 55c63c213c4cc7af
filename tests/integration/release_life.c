/* SPDX-License-Identifier: MIT */
/*
 * What has been released and what ends or moves: it outlives guest and engine, lies beside other
 * memory, and takes no more mappings than there are.
 */
#include "tests/integration/release_bed.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* The bed, with a mapping of the caller's, which outlives it. */
static void up_on_own_mapping(int flags)
{
	bed_up_image(&bed);
	bed.mem = mmap(NULL, LEN + BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bed.mem != MAP_FAILED, "mmap: %s", strerror(errno));
	bed.mem = (uint8_t *)(((uintptr_t)bed.mem + BLOCK - 1) & ~(BLOCK - 1));
	CHECK(mmap(bed.mem, LEN, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		   fln_image_memfd(bed.image), 0) == bed.mem,
	      "mmap: %s", strerror(errno));
	bed.region_opts.addr = (uintptr_t)bed.mem;
	bed_up(&bed);
}

static void outlives_its_engine(void)
{
	uint64_t nr_wrong = 0;

	for (uint32_t sharing = 0; sharing < 2; sharing++) {
		bed_init(&bed, NR_PAGES);
		bed.region_opts.sharing = sharing ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
		bed.region_opts.discard = FLN_DISCARD_IMAGE;
		up_on_own_mapping(sharing ? MAP_PRIVATE : MAP_SHARED);
		CHECK(touch_write(bed_page(&bed, 9) + 16, 5) == TOUCH_OK, "write");
		fill(0, NR_PAGES);
		CHECK(release().released_bytes == LEN, "not all is released");
		CHECK(touch_write(bed_page(&bed, 10) + 16, 6) == TOUCH_OK, "write");
		bed_down(&bed);
		for (uint64_t page = 0; page < NR_PAGES; page++)
			nr_wrong += *(volatile uint64_t *)bed_page(&bed, page) != due(page);
		CHECK(nr_wrong == 0, "%llu pages are wrong", (unsigned long long)nr_wrong);
		CHECK(*(volatile uint64_t *)(bed_page(&bed, 9) + 16) == 5 &&
			      *(volatile uint64_t *)(bed_page(&bed, 10) + 16) == 6,
		      "writes are lost");
		(void)munmap(bed.mem, LEN);
	}
}

/* What is released stays readable, the rest becomes inaccessible. */
static void half_released_then_destroyed(void)
{
	struct toucher t;

	bed_init(&bed, NR_PAGES);
	up_on_own_mapping(MAP_SHARED);
	for (uint32_t block = 0; block < NR_BLOCKS; block += 2)
		fill(block * 512, 512);
	CHECK(release().released_bytes == LEN / 2, "half of it is not released");
	bed_down(&bed);
	for (uint64_t page = 0; page < NR_PAGES; page += 64) {
		toucher_read(&t, bed_page(&bed, page));
		if (page / 512 % 2 == 0)
			toucher_expect_value(&t, due(page), "a released page");
		else
			toucher_expect(&t, TOUCH_SIGBUS, "an unfilled page");
	}
	(void)munmap(bed.mem, LEN);
}

static void region_removed_and_added(void)
{
	struct fln_region *other;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed_up(&bed);
	fill(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	CHECK(stats().userfaultfds == 0, "userfaultfds");
	/* Its userfaultfds are opened again. */
	bed.region_opts.release = FLN_RELEASE_ON_CALL;
	bed.region_opts.delivery = FLN_DELIVERY_QUEUED;
	OK(fln_region_add(bed.guest, &bed.region_opts, &other));
	CHECK(stats().userfaultfds > 0, "no userfaultfd");
	CHECK(*(volatile uint64_t *)fln_region_addr(other) == due(0), "contents");
	CHECK(stats().faults == 1, "%llu faults", (unsigned long long)stats().faults);
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	OK(fln_region_remove(other));
	CHECK(release().released_bytes == LEN, "not all is released");
	expect_event(FLN_EVENT_GUEST_RELEASED);
	OK(fln_region_remove(bed.region));
	bed.region = NULL;
	bed_down(&bed);
}

static void calls_on_released_memory(void)
{
	struct fln_residency sum = FLN_RESIDENCY_INIT;
	uint64_t nr = 0, resident = 0;
	unsigned char vec[512];

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, 8 * 512);
	CHECK(release().released_bytes == 8 * BLOCK, "not all is released");
	OK(fln_guest_residency(bed.guest, (uintptr_t)bed.mem, LEN, NULL, &sum));
	CHECK(sum.nr_pages[FLN_RESIDENCY_RELEASED] == 8 * 512 &&
		      sum.nr_pages[FLN_RESIDENCY_ABSENT] == NR_PAGES - 8 * 512,
	      "%llu pages are released", (unsigned long long)sum.nr_pages[FLN_RESIDENCY_RELEASED]);
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	CHECK(mincore(bed.mem, BLOCK, vec) == 0, "mincore: %s", strerror(errno));
	for (uint32_t i = 0; i < 512; i++)
		resident += vec[i] & 1;
	CHECK(resident == 512, "%llu pages are resident", (unsigned long long)resident);
	(void)fln_guest_collapse(bed.guest, (uintptr_t)bed.mem, LEN, &nr);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_WILLNEED));
	CHECK(release().released_bytes == LEN, "not all is released");
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, LEN, NULL));
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_WILLNEED));
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_SEQUENTIAL));
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_DONTNEED));
	read_all(&bed, 4);
	OK(fln_guest_residency(bed.guest, (uintptr_t)bed.mem + PAGE, 3 * PAGE, vec, &sum));
	CHECK(vec[0] == FLN_RESIDENCY_RELEASED, "residency %u", vec[0]);
	bed_down(&bed);
}

/* Memory of the embedder's lies in a hole of the region, registered elsewhere: it stays so. */
static void beside_other_memory(void)
{
	uint8_t *hole;
	int uffd, other;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, NR_PAGES);
	hole = bed_page(&bed, 3 * 512 + 100);
	CHECK(mmap(hole, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == hole,
	      "mmap: %s", strerror(errno));
	uffd = raw_uffd(0);
	other = raw_uffd(0);
	CHECK(raw_register(uffd, hole, 4 * PAGE, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	CHECK(release().released_bytes == LEN, "not all is released");
	CHECK(stats().userfaultfds == 0, "userfaultfds");
	CHECK(raw_register(other, hole, 4 * PAGE, UFFDIO_REGISTER_MODE_MISSING) == EBUSY,
	      "the hole was unregistered");
	CHECK(raw_unregister(uffd, hole, 4 * PAGE) == 0, "unregister");
	CHECK(*(volatile uint8_t *)hole == 0, "the hole has contents");
	expect_page(3 * 512 + 99, due(3 * 512 + 99), "the page before the hole");
	expect_page(3 * 512 + 104, due(3 * 512 + 104), "the page behind it");
	(void)close(uffd);
	(void)close(other);
	bed_down(&bed);
	(void)munmap(hole, 4 * PAGE);
}

/* What mremap() moves before the release stays inaccessible, after it it keeps its contents. */
static void moved(void)
{
	uint8_t *room = mmap(NULL, 4 * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *first = room, *second = room + 2 * BLOCK;

	CHECK(room != MAP_FAILED, "mmap: %s", strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, NR_PAGES);
	CHECK(mremap(bed_page(&bed, 512), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, first) ==
		      first,
	      "mremap: %s", strerror(errno));
	CHECK(release().released_bytes == LEN, "not all is released");
	CHECK(mremap(bed_page(&bed, 5 * 512), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED,
		     second) == second,
	      "mremap: %s", strerror(errno));
	CHECK(touch_read(first, &(uint64_t){ 0 }) == TOUCH_SIGSEGV, "moved before the release");
	CHECK(*(volatile uint64_t *)second == due(5 * 512), "moved after the release");
	expect_page(6 * 512, due(6 * 512), "what stayed");
	bed_down(&bed);
	CHECK(touch_read(first, &(uint64_t){ 0 }) == TOUCH_SIGSEGV, "moved before the release");
	CHECK(*(volatile uint64_t *)second == due(5 * 512), "moved after the release");
	(void)munmap(room, 4 * BLOCK);
}

/* Scattered blocks take mappings: never more than the budget has, and in the end there is one. */
static void within_the_budget(void)
{
	struct fln_release_report r;
	uint32_t most = 0;

	bed_init(&bed, 64 * 512);
	bed.engine_opts.max_stripes = 16;
	bed.guest_opts.nr_shards = 4;
	bed_up(&bed);
	for (uint32_t turn = 0, block = 0; turn < 64; turn++, block = (block + 37) % 64) {
		fill(block * 512, 512);
		r = release();
		most = nr_mappings() > most ? nr_mappings() : most;
		CHECK(nr_mappings() <= 16, "%u mappings after %u blocks", nr_mappings(), turn);
		CHECK(r.released_bytes + r.limited_bytes == (turn + 1) * BLOCK,
		      "%llu released, %llu without a mapping", (unsigned long long)r.released_bytes,
		      (unsigned long long)r.limited_bytes);
	}
	CHECK(most > 8, "only %u mappings", most);
	CHECK(nr_mappings() == 1, "%u mappings in the end", nr_mappings());
	read_all(&bed, 4);
	bed_down(&bed);
}

/* The process has no mapping left: the block is served, and released once there are some. */
static void at_the_limit_of_mappings(void)
{
	uint64_t room = (uint64_t)200000 * PAGE;
	uint8_t *taken =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct fln_release_report r;
	uint64_t at = PAGE, word;

	CHECK(taken != MAP_FAILED, "mmap: %s", strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.guest_opts.nr_shards = 1; /* one stripe, which would be cut in three */
	bed_up(&bed);
	fill(10 * 512, 511);
	while (at < room && mprotect(taken + at, PAGE, PROT_READ) == 0)
		at += 2 * PAGE;
	if (at >= room) {
		test_note("this process may have more than 200 000 mappings");
	} else {
		fill(10 * 512 + 511, 1);
		r = release();
		CHECK(r.limited_bytes == BLOCK && r.released_bytes == 0, "%llu released",
		      (unsigned long long)r.released_bytes);
		/* On this thread: there is no mapping for another one's stack. */
		CHECK(touch_read(bed_page(&bed, 10 * 512 + 5), &word) == TOUCH_OK &&
			      word == due(10 * 512 + 5),
		      "a page of a block that could not be released");
	}
	STEP("until there are mappings again");
	(void)munmap(taken, room);
	wait_released(BLOCK); /* nobody asks for it */
	fill(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	read_all(&bed, 4);
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(outlives_its_engine);
	RUN(half_released_then_destroyed);
	RUN(region_removed_and_added);
	RUN(calls_on_released_memory);
	RUN(beside_other_memory);
	RUN(moved);
	RUN(within_the_budget);
	/* The sanitizers map memory of their own at any moment. */
	if (!TEST_ASAN && !TEST_TSAN)
		RUN(at_the_limit_of_mappings);
	return 0;
}
