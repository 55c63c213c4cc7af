/* SPDX-License-Identifier: MIT */
/*
 * A page that has failed, and was given up: zeros are due, and no signal any more.
 *
 * One image, mapped by regions of each kind, in which the page has been poisoned.
 */
#include "tests/integration/context_bed.h"

#include <sys/mman.h>

#define NR_PAGES 1024u
#define NR_REGIONS 7u
#define NOT_MEANT 5u /* from here on the image's contents are due after a discard */

static const struct {
	const char *name;
	uint32_t delivery, sharing, discard;
} kinds[NR_REGIONS] = {
	{ "queued, shared", FLN_DELIVERY_QUEUED, FLN_SHARING_SHARED, FLN_DISCARD_ZERO },
	{ "in context, shared", FLN_DELIVERY_IN_CONTEXT, FLN_SHARING_SHARED, FLN_DISCARD_ZERO },
	{ "another guest's, shared", FLN_DELIVERY_QUEUED, FLN_SHARING_SHARED, FLN_DISCARD_ZERO },
	{ "queued, private", FLN_DELIVERY_QUEUED, FLN_SHARING_PRIVATE, FLN_DISCARD_ZERO },
	/* Discards that read zero are for queues. */
	{ "in context, private", FLN_DELIVERY_IN_CONTEXT, FLN_SHARING_PRIVATE, FLN_DISCARD_IMAGE },
	{ "queued, image due", FLN_DELIVERY_QUEUED, FLN_SHARING_SHARED, FLN_DISCARD_IMAGE },
	{ "in context, image due", FLN_DELIVERY_IN_CONTEXT, FLN_SHARING_SHARED, FLN_DISCARD_IMAGE },
};

/* The bed's region is the first; the third one has a guest of its own. */
static struct bed bed;
static struct fln_guest *other;
static uint8_t *mem[NR_REGIONS];

static struct fln_guest *guest_of(uint32_t i)
{
	return i == 2 ? other : bed.guest;
}

static uint64_t nr_bad; /* pages that the source cannot read, from the first on; others are zero */

static int64_t read_nothing(void *ctx, uint64_t offset, void *buf, uint64_t len)
{
	(void)ctx;
	if (offset < nr_bad * PAGE)
		return -EIO;
	memset(buf, 0, len);
	return (int64_t)len;
}

static void begin(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "nothing",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = read_nothing };

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.source_retries = UINT32_MAX; /* none */
	bed.engine_opts.fill_pages = 1;
	OK(fln_source_create(&ops, NULL, &bed.source));
	bed.image_opts.source = bed.source;
	bed_up(&bed);
	mem[0] = bed.mem;
	OK(fln_guest_create(bed.engine, NULL, &other));
	for (uint32_t i = 1; i < NR_REGIONS; i++) {
		struct fln_region_opts o = FLN_REGION_OPTS_INIT;
		struct fln_region *r;

		o.image = bed.image;
		o.len_bytes = NR_PAGES * PAGE;
		o.delivery = kinds[i].delivery;
		o.sharing = kinds[i].sharing;
		o.discard = kinds[i].discard;
		OK(fln_region_add(guest_of(i), &o, &r));
		mem[i] = fln_region_addr(r);
	}
	OK(fln_guest_start(other));
	OK(fln_thread_enter());
}

static void end(void)
{
	fln_thread_leave();
	OK(fln_guest_stop(other));
	OK(fln_guest_destroy(other));
	bed_down(&bed);
}

static void poison(uint64_t first, uint64_t nr)
{
	uint64_t value;

	for (uint64_t page = first; page < first + nr; page++) {
		for (uint32_t i = 0; i < NR_REGIONS; i++)
			CHECK(touch_read(mem[i] + page * PAGE, &value) == TOUCH_SIGBUS,
			      "%s, page %llu: it was read, though its source fails", kinds[i].name,
			      (unsigned long long)page);
	}
}

/* A touch is 0: now, or within WAIT_S of a discard whose event a worker has yet to act upon. */
static void expect_zero(uint64_t page, bool now)
{
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		uint8_t *at = mem[i] + page * PAGE, vec = UINT8_MAX;
		uint64_t t0 = now_ns(), value = 0;
		enum touch touch = touch_read(at, &value);

		while (!now && touch == TOUCH_SIGBUS && now_ns() - t0 < WAIT_S * 1000 * MS) {
			sleep_ms(1);
			touch = touch_read(at, &value);
		}
		CHECK(touch == TOUCH_OK && value == 0,
		      "%s, page %llu was given up: the thread %s, and read 0x%llx", kinds[i].name,
		      (unsigned long long)page, touch_name(touch), (unsigned long long)value);
		OK(fln_guest_residency(guest_of(i), (uintptr_t)at, PAGE, &vec, NULL));
		/* A worker maps the zeros before it notes that the poison is gone. */
		while (!now && vec == FLN_RESIDENCY_POISONED &&
		       now_ns() - t0 < WAIT_S * 1000 * MS) {
			sleep_ms(1);
			OK(fln_guest_residency(guest_of(i), (uintptr_t)at, PAGE, &vec, NULL));
		}
		CHECK(vec != FLN_RESIDENCY_POISONED && vec != FLN_RESIDENCY_ABSENT,
		      "%s, page %llu: residency is %u", kinds[i].name, (unsigned long long)page,
		      vec);
		OK(fln_guest_populate(guest_of(i), (uintptr_t)at, PAGE, NULL));
		CHECK(touch_write(at, i + 1) == TOUCH_OK && touch_read(at, &value) == TOUCH_OK &&
			      value == i + 1,
		      "%s, page %llu: an own write", kinds[i].name, (unsigned long long)page);
		/* What the next one finds is zero again. */
		if (kinds[i].sharing == FLN_SHARING_SHARED)
			(void)touch_write(at, 0);
	}
}

static void given_up_by_a_call(void)
{
	nr_bad = NR_PAGES;
	begin();
	poison(3, 4);
	poison(700, 1);
	OK(fln_image_discard(bed.image, 3 * PAGE, 4 * PAGE));
	for (uint64_t page = 3; page < 7; page++)
		expect_zero(page, true);
	poison(2, 1);
	poison(7, 1);
	OK(fln_image_discard(bed.image, 0, NR_PAGES * PAGE));
	expect_zero(700, true);
	expect_zero(2, true);
	end();
}

/* The last page of its block that was neither filled nor zero. */
static void given_up_last_of_its_block(void)
{
	nr_bad = 3;
	begin();
	poison(0, 3);
	OK(fln_image_fill(bed.image, 3 * PAGE, (NR_PAGES - 3) * PAGE));
	OK(fln_image_discard(bed.image, 0, PAGE));
	expect_zero(0, true);
	OK(fln_image_discard(bed.image, PAGE, 2 * PAGE));
	expect_zero(1, true);
	expect_zero(2, true);
	end();
}

static void given_up_by_the_guest(void)
{
	nr_bad = NR_PAGES;
	begin();
	poison(0, 24);
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t page = 8 * i;

		STEP("MADV_REMOVE: %s", kinds[i].name);
		CHECK(madvise(mem[i] + page * PAGE, 4 * PAGE, MADV_REMOVE) == 0, "madvise: %s",
		      strerror(errno));
		for (uint64_t p = page; p < page + 4; p++)
			expect_zero(p, false);
		poison(page + 4, 4);
	}
	end();
}

/* Where discards are not meant MADV_REMOVE leaves the poison, and what is to be lifted later. */
static void given_up_where_that_was_not_meant(void)
{
	nr_bad = NR_PAGES;
	begin();
	poison(40, 8);
	for (uint32_t i = NOT_MEANT; i < NR_REGIONS; i++) {
		STEP("MADV_REMOVE: %s", kinds[i].name);
		CHECK(madvise(mem[i] + 40 * PAGE, 8 * PAGE, MADV_REMOVE) == 0, "madvise: %s",
		      strerror(errno));
	}
	poison(40, 8);
	OK(fln_image_discard(bed.image, 40 * PAGE, 4 * PAGE));
	for (uint64_t page = 40; page < 44; page++)
		expect_zero(page, true);
	CHECK(madvise(mem[0] + 44 * PAGE, 4 * PAGE, MADV_REMOVE) == 0, "madvise: %s",
	      strerror(errno));
	for (uint64_t page = 44; page < 48; page++)
		expect_zero(page, false);
	end();
}

/* MADV_DONTNEED takes poison off: what has come since is mapped by populate, without a touch. */
static void populated_once_its_poison_has_gone(void)
{
	static uint64_t words[PAGE / sizeof(uint64_t)];
	uint64_t value;

	nr_bad = NR_PAGES;
	begin();
	poison(50, 1);
	words[0] = 77;
	OK(fln_image_put(bed.image, 50 * PAGE, words, PAGE));
	for (uint32_t i = NOT_MEANT; i < NR_REGIONS; i++) {
		uint8_t *at = mem[i] + 50 * PAGE;

		REFUSED(fln_guest_populate(guest_of(i), (uintptr_t)at, PAGE, NULL), -EIO,
			"has failed");
		CHECK(madvise(at, PAGE, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
		OK(fln_guest_populate(guest_of(i), (uintptr_t)at, PAGE, NULL));
		CHECK(touch_read(at, &value) == TOUCH_OK && value == 77, "%s: reads 0x%llx",
		      kinds[i].name, (unsigned long long)value);
	}
	end();
}

static void mapped_by_populate(void)
{
	nr_bad = NR_PAGES;
	begin();
	poison(5, 2);
	CHECK(madvise(mem[0] + 5 * PAGE, PAGE, MADV_REMOVE) == 0, "madvise: %s", strerror(errno));
	OK(fln_guest_populate(bed.guest, (uintptr_t)mem[0] + 5 * PAGE, PAGE, NULL));
	expect_zero(5, false);
	REFUSED(fln_guest_populate(bed.guest, (uintptr_t)mem[0] + 6 * PAGE, PAGE, NULL), -EIO,
		test_hex((uintptr_t)mem[0] + 6 * PAGE));
	end();
}

/* Contents that come too late for a page, and are then given up, are in the cache. */
static void given_up_after_they_came(void)
{
	uint64_t value, t0;

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.source_timeout_ns = 300 * MS;
	bed.engine_opts.fill_pages = 1;
	bed.guest_opts.window_first = bed.guest_opts.window_max = 1;
	atomic_store(&bed.maker.gate_closed, true);
	bed_up(&bed);
	CHECK(touch_read(bed_page(&bed, 9), &value) == TOUCH_SIGBUS, "a late page was read");
	atomic_store(&bed.maker.gate_closed, false);
	for (t0 = now_ns(); fln_image_filled_bytes(bed.image) == 0; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "page 9 does not come");
	CHECK(touch_read(bed_page(&bed, 9), &value) == TOUCH_SIGBUS,
	      "what comes later lifts no poison");
	CHECK(madvise(bed_page(&bed, 9), PAGE, MADV_REMOVE) == 0, "madvise: %s", strerror(errno));
	for (t0 = now_ns(); touch_read(bed_page(&bed, 9), &value) != TOUCH_OK; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "page 9 stays poisoned");
	CHECK(value == 0, "page 9 was given up, and reads 0x%llx", (unsigned long long)value);
	bed_down(&bed);
}

int main(void)
{
	test_init();
	context_init();
	RUN(given_up_by_a_call);
	RUN(given_up_last_of_its_block);
	RUN(given_up_by_the_guest);
	RUN(given_up_where_that_was_not_meant);
	RUN(populated_once_its_poison_has_gone);
	RUN(mapped_by_populate);
	RUN(given_up_after_they_came);
	return 0;
}
