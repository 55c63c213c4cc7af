/* SPDX-License-Identifier: MIT */
/* Regions come and go while others are in use; guests share an image, and an engine. */
#include "tests/integration/harness.h"
#include "tests/integration/place.h"

#include <stdlib.h>

#define NR_THREADS 150u

struct traffic {
	struct bed *bed;
	_Atomic bool stop;
	_Atomic uint64_t nr;
};

/* Reads pages of the bed's region, and makes them fault again and again. */
static void keep_reading(void *arg, uint32_t index)
{
	struct traffic *t = arg;
	struct bed *b = t->bed;
	uint64_t random = index, value;

	while (!atomic_load(&t->stop)) {
		uint64_t page = next_random(&random) % b->nr_pages;

		CHECK(touch_read(bed_page(b, page), &value) == TOUCH_OK &&
			      value == word_of(b->maker.salt, page, 0),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
		atomic_fetch_add(&t->nr, 1);
		if (atomic_load(&t->nr) % 64 == 0)
			sleep_ms(1);
	}
}

static void come_and_go(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct traffic traffic = { .bed = NULL };
	struct crew crew;
	struct bed b;

	bed_init(&b, 30000);
	b.maker.delay_ns = MS / 10;
	b.engine_opts.nr_workers = 2;
	bed_up(&b);
	traffic.bed = &b;
	crew_start(&crew, NR_THREADS, keep_reading, &traffic);
	for (uint32_t i = 0; i < test_scale(20, 150, 3000); i++) {
		struct fln_region *r[3];
		uint64_t value;

		STEP("round %u: adding three regions", i);
		for (uint32_t k = 0; k < 3; k++) {
			o.image = b.image;
			o.image_offset_bytes = (i * 31 + k * 1000) % 5000 * PAGE;
			o.len_bytes = (1 + (i + k * 700) % 1500) * PAGE;
			OK(fln_region_add(b.guest, &o, &r[k]));
		}
		STEP("round %u: touching them", i);
		for (uint32_t k = 0; k < 3; k++) {
			uint64_t first = (i * 31 + k * 1000) % 5000;
			uint64_t nr = 1 + (i + k * 700) % 1500;
			uint8_t *p = fln_region_addr(r[k]);

			for (uint64_t page = 0; page < nr; page += 1 + nr / 5) {
				CHECK(touch_read(p + page * PAGE, &value) == TOUCH_OK &&
					      value == word_of(1, first + page, 0),
				      "page %llu of region %u reads 0x%llx",
				      (unsigned long long)page, k, (unsigned long long)value);
			}
		}
		STEP("round %u: removing them", i);
		OK(fln_region_remove(r[1]));
		OK(fln_region_remove(r[0]));
		OK(fln_region_remove(r[2]));
	}
	atomic_store(&traffic.stop, true);
	crew_wait(&crew, 30, "threads that read meanwhile");
	bed_down(&b);
}

/* Threads wait in the region that is removed: SIGBUS or SIGSEGV, nobody else notices. */
static void removed_under_waiters(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct toucher t[16];
	struct fln_region *r;
	struct fln_stats s;
	struct bed b;
	uint64_t value;

	bed_init(&b, 4096);
	bed_up(&b);
	OK(fln_image_fill(b.image, 0, 512 * PAGE));
	o.image = b.image;
	o.len_bytes = 2048 * PAGE;
	o.image_offset_bytes = 2048 * PAGE;
	OK(fln_region_add(b.guest, &o, &r));
	atomic_store(&b.maker.gate_closed, true);
	for (uint32_t i = 0; i < 16; i++)
		toucher_read(&t[i], (uint8_t *)fln_region_addr(r) + i * 128 * PAGE);
	toucher_expect_asleep(&t[0], 30, "the source hangs");
	place_keep(fln_region_addr(r), 2048 * PAGE);
	STEP("fln_region_remove under waiters");
	OK(fln_region_remove(r));
	for (uint32_t i = 0; i < 16; i++) {
		enum touch end = toucher_wait(&t[i], "a thread in a region that was removed");

		CHECK(end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV, "the thread %s",
		      touch_name(end));
	}
	place_give_back();
	CHECK(touch_read(bed_page(&b, 100), &value) == TOUCH_OK && value == word_of(1, 100, 0),
	      "the other region");
	atomic_store(&b.maker.gate_closed, false);
	settled_stats(b.guest, &s); /* none of the region's is left */
	CHECK(s.invalid == 0, "a removed region's faults were called invalid");
	read_all(&b, 16);
	bed_down(&b);
}

/* Two guests share an image: what one fills and writes the other sees. */
static void two_guests_one_image(void)
{
	struct fln_region *second_region;
	struct fln_guest *second;
	struct bed b, other;
	uint64_t value;

	bed_init(&b, 6000);
	bed_up(&b);
	OK(fln_guest_create(b.engine, NULL, &second));
	OK(fln_region_add(second, &b.region_opts, &second_region));
	OK(fln_guest_start(second));
	memset(&other, 0, sizeof(other));
	other.nr_pages = b.nr_pages;
	other.maker.salt = b.maker.salt;
	other.mem = fln_region_addr(second_region);
	for (uint64_t page = 0; page < b.nr_pages; page += 97) {
		CHECK(touch_read(other.mem + page * PAGE + 8, &value) == TOUCH_OK &&
			      value == word_of(1, page, 1),
		      "page %llu", (unsigned long long)page);
		CHECK(touch_write(bed_page(&b, page), page + 5) == TOUCH_OK, "write");
		CHECK(touch_read(other.mem + page * PAGE, &value) == TOUCH_OK && value == page + 5,
		      "page %llu: the other guest reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
		CHECK(touch_write(bed_page(&b, page), word_of(1, page, 0)) == TOUCH_OK, "write");
	}
	read_all(&b, 100);
	read_all(&other, 100);
	CHECK(atomic_load(&b.maker.nr_bytes) == b.nr_pages * PAGE, "something was filled twice");
	/* One stops; the other goes on. */
	OK(fln_guest_stop(second));
	check_stats(second, true, NULL);
	OK(fln_image_discard(b.image, 0, 10 * PAGE));
	CHECK(touch_read(bed_page(&b, 3), &value) == TOUCH_OK && value == 0, "page 3");
	OK(fln_guest_destroy(second));
	bed_down(&b);
}

/* Two guests of one engine, with contents of their own. */
static void two_guests_one_engine(void)
{
	struct bed a, b;

	bed_init(&a, 5000);
	bed_up(&a);
	bed_init(&b, 7000);
	b.engine = a.engine;
	b.maker.salt = 2;
	bed_up(&b);
	read_all(&a, 100);
	read_all(&b, 100);
	check_stats(b.guest, false, NULL);
	OK(fln_guest_destroy(a.guest));
	read_all(&b, 10);
	OK(fln_image_destroy(a.image));
	fln_source_destroy(a.source);
	bed_down(&b);
}

/* Two regions of one guest on the same pages of an image, at different places in a block. */
static void two_views(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r;
	uint64_t value;
	struct bed b;

	bed_init(&b, 3000);
	bed_up(&b);
	o.image = b.image;
	o.image_offset_bytes = 133 * PAGE;
	o.len_bytes = 2000 * PAGE;
	OK(fln_region_add(b.guest, &o, &r));
	for (uint64_t page = 0; page < 2000; page += 7) {
		uint8_t *p = (uint8_t *)fln_region_addr(r) + page * PAGE;

		CHECK(touch_read(p, &value) == TOUCH_OK && value == word_of(1, page + 133, 0),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
	read_all(&b, 16);
	bed_down(&b);
}

/* Regions of one stripe each: their faults come through nearly all shards. */
static void small_regions_are_on_many_shards(void)
{
	enum {
		NR = 64,
		NR_SHARDS = 32
	};
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *regions[NR];
	uint32_t nr_used = 0;
	struct bed b;

	bed_init(&b, (NR + 1) * BLOCK / PAGE);
	b.region_opts.len_bytes = BLOCK;
	b.guest_opts.nr_shards = NR_SHARDS;
	bed_up(&b);
	o.image = b.image;
	o.len_bytes = BLOCK;
	for (uint32_t i = 0; i < NR; i++) {
		uint64_t value;

		o.image_offset_bytes = (i + 1) * BLOCK;
		OK(fln_region_add(b.guest, &o, &regions[i]));
		CHECK(touch_read(fln_region_addr(regions[i]), &value) == TOUCH_OK &&
			      value == word_of(b.maker.salt, (i + 1) * BLOCK / PAGE, 0),
		      "region %u reads 0x%llx", i, (unsigned long long)value);
	}
	for (uint32_t i = 0; i < NR_SHARDS; i++) {
		struct fln_stats s = FLN_STATS_INIT;

		OK(fln_shard_stats(b.guest, i, &s));
		nr_used += s.faults > 0;
	}
	CHECK(nr_used >= NR_SHARDS - NR_SHARDS / 8, "faults came through %u of %u shards", nr_used,
	      NR_SHARDS);
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(come_and_go);
	RUN(removed_under_waiters);
	RUN(two_guests_one_image);
	RUN(two_guests_one_engine);
	RUN(two_views);
	RUN(small_regions_are_on_many_shards);
	return 0;
}
