/* SPDX-License-Identifier: MIT */
/*
 * The end of guests of which little is filled: what is not is unreadable wherever it is,
 * and that costs neither time nor page tables by its size.
 */
#include "tests/integration/harness.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define NR_PAGES (1u << 20) /* 4 GiB, of which next to nothing is ever touched */
#define MIDDLE (NR_PAGES / 2 + 7)

static struct bed bed;

static void put_page(uint64_t page)
{
	static uint8_t buf[PAGE] __attribute__((aligned(PAGE)));

	contents_of(1, page, buf);
	OK(fln_image_put(bed.image, page * PAGE, buf, PAGE));
}

/* An image that is filled by nobody but us. */
static void begin(enum fln_sharing sharing, enum fln_delivery delivery)
{
	bed_init(&bed, NR_PAGES);
	bed.region_opts.sharing = sharing;
	bed.region_opts.delivery = delivery;
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	bed_up(&bed);
	put_page(0);
	put_page(MIDDLE);
}

static uint64_t page_table_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	CHECK(f, "/proc/self/status");
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmPTE: %lu", &kib) != 1)
		;
	(void)fclose(f);
	return kib;
}

static void expect_closed(void)
{
	static const uint64_t unfilled[] = { 1,          600,        40000,        MIDDLE - 8,
					     MIDDLE - 1, MIDDLE + 1, MIDDLE + 600, NR_PAGES - 1 };
	uint64_t value;

	for (uint32_t i = 0; i < sizeof(unfilled) / sizeof(unfilled[0]); i++) {
		enum touch end = i % 2 ? touch_write(bed_page(&bed, unfilled[i]), 1)
				       : touch_read(bed_page(&bed, unfilled[i]), &value);

		CHECK(end == TOUCH_SIGBUS, "page %llu: the thread %s",
		      (unsigned long long)unfilled[i], touch_name(end));
	}
	CHECK(touch_read(bed.mem, &value) == TOUCH_OK && value == word_of(1, 0, 0), "page 0");
	CHECK(touch_read(bed_page(&bed, MIDDLE), &value) == TOUCH_OK &&
		      value == word_of(1, MIDDLE, 0),
	      "page %u", MIDDLE);
}

/* Threads wait all over it; what the embedder has put there stays. */
static void stop_and_remove(enum fln_sharing sharing)
{
	static const uint64_t awaited[] = { 5, 70000, MIDDLE + 1, NR_PAGES - 3 };
	const uint32_t at = 100000, nr = 50;
	struct toucher t[4];
	uint64_t before, value;
	uint8_t *own;

	begin(sharing, FLN_DELIVERY_QUEUED);
	own = mmap(bed_page(&bed, at), nr * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(own == bed_page(&bed, at), "mmap: %s", strerror(errno));
	CHECK(touch_write(own + 3 * PAGE, 17) == TOUCH_OK, "write");
	for (uint32_t i = 0; i < 4; i++)
		toucher_read(&t[i], bed_page(&bed, awaited[i]));
	toucher_expect_asleep(&t[3], 20, "a page that nobody fills");
	before = page_table_kib();
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	for (uint32_t i = 0; i < 4; i++)
		toucher_expect(&t[i], TOUCH_SIGBUS, "the end of the guest");
	expect_closed();
	/* A word a page would be 8 MiB. */
	CHECK(page_table_kib() < before + 1024, "page tables grew from %llu to %llu KiB",
	      (unsigned long long)before, (unsigned long long)page_table_kib());
	check_stats(bed.guest, true, NULL);
	STEP("fln_region_remove");
	OK(fln_region_remove(bed.region));
	CHECK(touch_read(bed_page(&bed, 40000), &value) == TOUCH_SIGSEGV, "it is still mapped");
	CHECK(touch_read(bed_page(&bed, MIDDLE), &value) == TOUCH_SIGSEGV, "it is still mapped");
	CHECK(touch_read(own + 3 * PAGE, &value) == TOUCH_OK && value == 17, "not ours: %s",
	      "it has gone");
	(void)munmap(own, nr * PAGE);
	bed_down(&bed);
}

static void shared(void)
{
	stop_and_remove(FLN_SHARING_SHARED);
}

static void private(void)
{
	stop_and_remove(FLN_SHARING_PRIVATE);
}

/* What was given up is zero, before and after, in the middle of what is not filled. */
static void given_up(void)
{
	const uint64_t at = 300000, nr = 600;
	uint64_t value;

	for (uint32_t s = FLN_SHARING_SHARED; s <= FLN_SHARING_PRIVATE; s++) {
		begin(s, FLN_DELIVERY_QUEUED);
		CHECK(madvise(bed_page(&bed, at), nr * PAGE, MADV_DONTNEED) == 0, "madvise: %s",
		      strerror(errno));
		OK(fln_guest_stop(bed.guest));
		expect_closed();
		for (uint64_t i = 0; i < nr; i += 13)
			CHECK(touch_read(bed_page(&bed, at + i), &value) == TOUCH_OK && value == 0,
			      "page %llu", (unsigned long long)i);
		CHECK(touch_read(bed_page(&bed, at - 1), &value) == TOUCH_SIGBUS, "before it");
		CHECK(touch_read(bed_page(&bed, at + nr), &value) == TOUCH_SIGBUS, "after it");
		bed_down(&bed);
	}
}

/* Removed from a guest that goes on; a region in context. */
static void others(void)
{
	begin(FLN_SHARING_SHARED, FLN_DELIVERY_QUEUED);
	OK(fln_region_remove(bed.region));
	bed_down(&bed);

	begin(FLN_SHARING_SHARED, FLN_DELIVERY_IN_CONTEXT);
	OK(fln_guest_stop(bed.guest));
	expect_closed();
	bed_down(&bed);
}

/* What is mapped where cannot be looked up: nothing of the embedder's is mapped over. */
static void with_one_descriptor_left(void)
{
	const uint32_t at = 100000, nr = 50;
	int fds[4096], nr_fds = 0;
	struct rlimit limit;
	uint64_t value;
	uint8_t *own;

	begin(FLN_SHARING_SHARED, FLN_DELIVERY_QUEUED);
	own = mmap(bed_page(&bed, at), nr * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(own == bed_page(&bed, at), "mmap: %s", strerror(errno));
	CHECK(touch_write(own + 3 * PAGE, 17) == TOUCH_OK, "write");
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = 4096;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit: %s", strerror(errno));
	while (nr_fds < 4096 && (fds[nr_fds] = dup(0)) >= 0)
		nr_fds++;
	CHECK(nr_fds > 0 && nr_fds < 4096, "%d descriptors", nr_fds);
	(void)close(fds[--nr_fds]);
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	while (nr_fds > 0)
		(void)close(fds[--nr_fds]);
	CHECK(touch_read(own + 3 * PAGE, &value) == TOUCH_OK && value == 17, "it was mapped over");
	expect_closed();
	bed_down(&bed);
	(void)munmap(own, nr * PAGE);
}

int main(void)
{
	test_init();
	RUN(shared);
	RUN(private);
	RUN(given_up);
	RUN(others);
	RUN(with_one_descriptor_left);
	return 0;
}
