/* SPDX-License-Identifier: MIT */
/*
 * The edges of release: guests to which regions are added one by one, or from which they are
 * removed; blocks at the ends of regions and images; mappings that are cut, or run out; processes
 * that end.
 */
#include "tests/integration/release_bed.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Events of the bed's guest that are in the queue. */
static uint32_t nr_events(uint32_t kind)
{
	struct fln_event e = FLN_EVENT_INIT;
	uint32_t nr = 0;

	while (fln_engine_next_event(bed.engine, &e) == 1)
		nr += e.kind == kind && e.guest == bed.guest;
	return nr;
}

/* A foreign guest's memory, which this process has itself; the region is of its first @nr pages. */
static void up_foreign(uint64_t nr)
{
	int uffd;

	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	bed.mem =
		mmap(NULL, LEN + BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bed.mem != MAP_FAILED, "mmap: %s", strerror(errno));
	bed.mem = (uint8_t *)(((uintptr_t)bed.mem + BLOCK - 1) & ~(BLOCK - 1));
	(void)madvise(bed.mem, LEN, MADV_NOHUGEPAGE);
	uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);
	CHECK(raw_register(uffd, bed.mem, LEN, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	bed.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	bed.guest_opts.foreign_uffd = uffd;
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.region_opts.addr = (uintptr_t)bed.mem;
	bed.region_opts.len_bytes = nr * PAGE;
	bed_up(&bed);
}

static void populate(uint64_t page, uint64_t nr)
{
	STEP("populating %llu pages", (unsigned long long)nr);
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed_page(&bed, page), nr * PAGE, NULL));
}

static struct fln_region *add_second_half(void)
{
	struct fln_region_opts o = bed.region_opts;
	struct fln_region *second;

	o.addr = (uintptr_t)bed.mem + LEN / 2;
	o.len_bytes = LEN / 2;
	o.image_offset_bytes = LEN / 2;
	OK(fln_region_add(bed.guest, &o, &second));
	return second;
}

/* What is registered before its region is added waits, though all of the others is released. */
static void foreign_regions_one_by_one(void)
{
	struct toucher t;

	up_foreign(NR_PAGES / 2);
	populate(0, NR_PAGES / 2);
	wait_released(LEN / 2);
	sleep_ms(100);
	CHECK(nr_events(FLN_EVENT_GUEST_RELEASED) == 0 && stats().userfaultfds == 1,
	      "its userfaultfd is closed");
	(void)add_second_half();
	expect_page(NR_PAGES - 1, due(NR_PAGES - 1), "a page of the second region");
	populate(NR_PAGES / 2, NR_PAGES / 2);
	CHECK(release().released_bytes == LEN, "not all is released");
	expect_event(FLN_EVENT_GUEST_RELEASED);
	CHECK(stats().userfaultfds == 0, "its userfaultfd is open");
	bed_down(&bed);

	/* All is said to be added, and yet a thread waits where no region is. */
	up_foreign(NR_PAGES / 2);
	populate(0, NR_PAGES / 2);
	toucher_read(&t, bed_page(&bed, NR_PAGES - 7));
	STEP("until its fault is held");
	for (uint64_t t0 = now_ns(); stats().in_flight == 0; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "no fault is held");
	CHECK(release().released_bytes == LEN / 2, "not all is released");
	CHECK(nr_events(FLN_EVENT_GUEST_RELEASED) == 0, "its userfaultfd is closed");
	(void)add_second_half();
	toucher_expect_value(&t, due(NR_PAGES - 7), "a page of the second region");
	bed_down(&bed);

	/* Blocks that are copied after the call let it go, too. */
	up_foreign(NR_PAGES);
	CHECK(release().released_bytes == 0, "some of it is released");
	populate(0, NR_PAGES);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	bed_down(&bed);
}

/* The last page of a block is copied while others, discarded, are not mapped. */
static void foreign_with_discarded_pages(void)
{
	uint64_t word;

	up_foreign(NR_PAGES);
	fill(0, NR_PAGES);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, LEN, FLN_ADVICE_RANDOM));
	for (uint64_t page = 0; page < 511; page++)
		CHECK(touch_read(bed_page(&bed, page), &word) == TOUCH_OK, "read");
	CHECK(madvise(bed_page(&bed, 5), 20 * PAGE, MADV_DONTNEED) == 0, "madvise");
	sleep_ms(200);
	CHECK(touch_read(bed_page(&bed, 511), &word) == TOUCH_OK, "read");
	wait_released(BLOCK);
	bed_down(&bed);
}

/* The process ends: that is no want of mappings. */
static void foreign_process_ends(void)
{
	struct fln_release_report r;
	struct peer peer;
	uint64_t addr;
	int uffd;

	peer_start(&peer);
	OK((int)peer_do(&peer, PEER_FOREIGN, 0, LEN, -1, &uffd, &addr));
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	bed.guest_opts.foreign_uffd = uffd;
	bed.region_opts.addr = addr;
	bed_up(&bed);
	bed.mem = (uint8_t *)(uintptr_t)addr;
	populate(0, NR_PAGES);
	peer_stop(&peer);
	r = release();
	CHECK(r.limited_bytes == 0 && r.kept_bytes == LEN, "%llu limited, %llu kept",
	      (unsigned long long)r.limited_bytes, (unsigned long long)r.kept_bytes);
	bed_down(&bed);
}

/* A region ends before one of its image's blocks does; so its block may be whole, and no more. */
static void ends_within_a_block(void)
{
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.region_opts.len_bytes = 256 * PAGE;
	bed_up(&bed);
	sleep_ms(50);
	fill(0, 256);
	wait_released(256 * PAGE);
	expect_event(FLN_EVENT_GUEST_RELEASED);
	bed_down(&bed);

	/* Its blocks lie across the image's: at both ends. */
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed.region_opts.image_offset_bytes = 100 * PAGE;
	bed.region_opts.len_bytes = 2 * BLOCK;
	bed_up(&bed);
	for (uint64_t page = 100; page < 1124; page += 128) {
		fill(page, 128);
		sleep_ms(50);
	}
	wait_released(2 * BLOCK);
	bed_down(&bed);
}

static void mapped_read_only(void)
{
	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	fill(0, NR_PAGES);
	CHECK(mprotect(bed_page(&bed, 512), BLOCK, PROT_READ) == 0, "mprotect");
	populate(0, NR_PAGES);
	CHECK(release().released_bytes == LEN, "not all is released");
	populate(0, NR_PAGES);
	OK(fln_guest_lock(bed.guest, (uintptr_t)bed_page(&bed, 512), PAGE));
	OK(fln_guest_unlock(bed.guest, (uintptr_t)bed_page(&bed, 512), PAGE));
	expect_page(512, due(512), "a page that is mapped read-only");
	bed_down(&bed);
}

/* The region that kept the guest is removed. */
static void the_last_one_is_removed(void)
{
	struct fln_region_opts o;
	struct fln_region *other;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.release = FLN_RELEASE_AUTO;
	bed_up(&bed);
	o = bed.region_opts;
	o.release = FLN_RELEASE_NEVER;
	OK(fln_region_add(bed.guest, &o, &other));
	fill(0, NR_PAGES);
	wait_released(LEN);
	CHECK(nr_events(FLN_EVENT_GUEST_RELEASED) == 0, "the guest is released");
	OK(fln_region_remove(other));
	expect_event(FLN_EVENT_GUEST_RELEASED);
	CHECK(stats().userfaultfds == 0, "%llu userfaultfds",
	      (unsigned long long)stats().userfaultfds);
	expect_page(5, due(5), "a page that stays");
	bed_down(&bed);
}

/* Counters never go back, and a region that cannot be added changes nothing. */
static void opened_again(void)
{
	struct fln_region_opts o;
	struct fln_region *other;
	struct fln_stats before;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	o = bed.region_opts;
	populate(0, NR_PAGES);
	CHECK(release().released_bytes == LEN, "not all is released");
	CHECK(nr_events(FLN_EVENT_GUEST_RELEASED) == 1, "no event");
	before = stats();
	o.addr = (uintptr_t)bed.mem;
	CHECK(fln_region_add(bed.guest, &o, &other) < 0, "two regions at a place");
	CHECK(nr_events(FLN_EVENT_GUEST_RELEASED) == 0, "another event");
	CHECK(stats().userfaultfds == 0, "%llu userfaultfds",
	      (unsigned long long)stats().userfaultfds);
	o.addr = 0;
	OK(fln_region_add(bed.guest, &o, &other));
	CHECK(stats().installs >= before.installs && stats().wakes >= before.wakes,
	      "%llu installs, %llu wakes; %llu, %llu before", (unsigned long long)stats().installs,
	      (unsigned long long)stats().wakes, (unsigned long long)before.installs,
	      (unsigned long long)before.wakes);
	CHECK(release().released_bytes == 2 * LEN, "not all is released");
	CHECK(nr_events(FLN_EVENT_GUEST_RELEASED) == 1, "no event");
	bed_down(&bed);
}

/* Mappings of private memory with pages of its own do not merge: the budget has them all. */
static void private_mappings_stay(void)
{
	uint32_t most = 0;

	bed_init(&bed, 64 * 512);
	bed.engine_opts.max_stripes = 16;
	bed.guest_opts.nr_shards = 2;
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed.region_opts.discard = FLN_DISCARD_IMAGE;
	bed_up(&bed);
	for (uint32_t turn = 0, block = 0; turn < 64; turn++, block = (block + 37) % 64) {
		CHECK(touch_write(bed_page(&bed, block * 512ull), turn) == TOUCH_OK, "write");
		fill(block * 512ull, 512);
		(void)release();
		most = nr_mappings() > most ? nr_mappings() : most;
		CHECK(nr_mappings() <= 16, "%u mappings after %u blocks", nr_mappings(), turn);
	}
	test_note("up to %u mappings, %u in the end", most, nr_mappings());
	bed_down(&bed);
}

/* Take all mappings that this process may have, but @nr.  Return: NULL: there is no end of them. */
static uint8_t *take_mappings(uint64_t room, uint32_t nr)
{
	uint8_t *taken =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t at = PAGE;

	CHECK(taken != MAP_FAILED, "mmap: %s", strerror(errno));
	while (at < room && mprotect(taken + at, PAGE, PROT_READ) == 0)
		at += 2 * PAGE;
	if (at >= room) {
		(void)munmap(taken, room);
		return NULL;
	}
	/* There may be room for one boundary, but not for two. */
	(void)mprotect(taken, PAGE, PROT_WRITE);
	for (at -= 2 * PAGE; nr > 0; nr--, at -= 2 * PAGE)
		(void)munmap(taken + at, PAGE);
	return taken;
}

/* The kernel unregisters one mapping of two, and has none left to cut the other, for some @nr. */
static void half_a_run_with(uint32_t nr_left)
{
	uint64_t room = (uint64_t)200000 * PAGE;
	struct fln_release_report r;
	uint8_t *taken;

	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = 1;
	bed_up(&bed);
	fill(6 * 512, 4 * 512);
	CHECK(mprotect(bed_page(&bed, 8 * 512), 8 * BLOCK, PROT_READ) == 0, "mprotect");
	taken = take_mappings(room, nr_left);
	if (taken) {
		r = release();
		(void)munmap(taken, room);
		test_note("%u mappings left: %llu released, %llu limited", nr_left,
			  (unsigned long long)r.released_bytes,
			  (unsigned long long)r.limited_bytes);
		CHECK(r.released_bytes + r.limited_bytes == 4 * BLOCK, "%llu released",
		      (unsigned long long)r.released_bytes);
	} else {
		test_note("this process may have more than 200 000 mappings");
	}
	populate(6 * 512, 4 * 512);
	for (uint64_t page = 6 * 512; page < 10 * 512; page += 100)
		expect_page(page, due(page), "a page of a run");
	CHECK(release().released_bytes == 4 * BLOCK, "not all is released");
	bed_down(&bed);
}

static void half_a_run(void)
{
	for (uint32_t nr_left = 0; nr_left < 5; nr_left++)
		half_a_run_with(nr_left);
}

int main(void)
{
	test_init();
	RUN(foreign_regions_one_by_one);
	RUN(foreign_with_discarded_pages);
	RUN(foreign_process_ends);
	RUN(ends_within_a_block);
	RUN(mapped_read_only);
	RUN(the_last_one_is_removed);
	RUN(opened_again);
	RUN(private_mappings_stay);
	/* The sanitizers map memory of their own at any moment. */
	if (!TEST_ASAN && !TEST_TSAN)
		RUN(half_a_run);
	return 0;
}
