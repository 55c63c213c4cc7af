/* SPDX-License-Identifier: MIT */
/*
 * Fifty private guests of one image at once.  What they write stays their own, and
 * the memory that all of them need is one image plus what they wrote: so says the
 * kernel, in the proportional set sizes of their mappings.
 */
#include "tests/integration/harness.h"

#include <stdlib.h>
#include <unistd.h>

#define NR_GUESTS 50u
#define NR_THREADS 4u /* of a guest */
#define WRITE_EVERY 64u

struct clone {
	struct fln_guest *guest;
	struct fln_region *region;
	uint8_t *mem;
};

static struct bed bed;
static struct clone clones[NR_GUESTS];
static uint64_t nr_pages;

/* Every guest writes other pages, and some that others write too. */
static bool is_written(uint32_t guest, uint64_t page)
{
	return page % WRITE_EVERY == guest % 16;
}

static uint64_t stamp(uint32_t guest, uint64_t page)
{
	return ((uint64_t)guest + 1) << 40 | page;
}

/* Read all pages of a guest, and write some, each thread its own, in no order. */
static void live(void *arg, uint32_t index)
{
	uint32_t guest = index % NR_GUESTS, part = index / NR_GUESTS;
	uint8_t *mem = clones[guest].mem;
	uint64_t at = (guest * UINT64_C(7919) + part * 31) % nr_pages, value;

	(void)arg;
	for (uint64_t i = 0; i < nr_pages; i++, at = (at + 4099) % nr_pages) {
		if (at % NR_THREADS != part)
			continue;
		if (is_written(guest, at))
			CHECK(touch_write(mem + at * PAGE + 8, stamp(guest, at)) == TOUCH_OK,
			      "guest %u: page %llu cannot be written", guest,
			      (unsigned long long)at);
		CHECK(touch_read(mem + at * PAGE, &value) == TOUCH_OK && value == word_of(1, at, 0),
		      "guest %u: page %llu reads 0x%llx", guest, (unsigned long long)at,
		      (unsigned long long)value);
	}
}

/* All of each page of a guest. */
static void verify(void *arg, uint32_t index)
{
	uint64_t want[PAGE / sizeof(uint64_t)];

	(void)arg;
	for (uint32_t guest = index; guest < NR_GUESTS; guest += 2) {
		for (uint64_t page = 0; page < nr_pages; page++) {
			contents_of(1, page, want);
			if (is_written(guest, page))
				want[1] = stamp(guest, page);
			CHECK(memcmp(want, clones[guest].mem + page * PAGE, PAGE) == 0,
			      "guest %u: page %llu is wrong", guest, (unsigned long long)page);
		}
	}
}

static void verify_image(void)
{
	uint64_t want[PAGE / sizeof(uint64_t)], have[PAGE / sizeof(uint64_t)];

	for (uint64_t page = 0; page < nr_pages; page++) {
		contents_of(1, page, want);
		CHECK(pread(fln_image_memfd(bed.image), have, PAGE, (off_t)(page * PAGE)) ==
				      (ssize_t)PAGE &&
			      memcmp(want, have, PAGE) == 0,
		      "page %llu of the image has changed", (unsigned long long)page);
	}
}

static bool is_clones(uint64_t addr)
{
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		uint64_t at = (uintptr_t)clones[i].mem;

		if (addr >= at && addr < at + nr_pages * PAGE)
			return true;
	}
	return false;
}

/* What the mappings of all guests need, in pages: each shared page counted once in all. */
static uint64_t pss_pages(void)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uint64_t sum_kib = 0, kib;
	bool counts = false;
	char line[512];

	CHECK(smaps, "/proc/self/smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), smaps)) {
		char *end;
		uint64_t lo = strtoull(line, &end, 16);

		if (end > line && *end == '-')
			counts = is_clones(lo);
		else if (counts && sscanf(line, "Pss: %lu kB", &kib) == 1)
			sum_kib += kib;
	}
	(void)fclose(smaps);
	return sum_kib * 1024 / PAGE;
}

static void add_clones(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;

	o.image = bed.image;
	o.len_bytes = nr_pages * PAGE;
	o.sharing = FLN_SHARING_PRIVATE;
	bed.guest_opts.nr_vcpus = NR_THREADS;
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		STEP("guest %u", i);
		OK(fln_guest_create(bed.engine, &bed.guest_opts, &clones[i].guest));
		OK(fln_region_add(clones[i].guest, &o, &clones[i].region));
		OK(fln_guest_start(clones[i].guest));
		clones[i].mem = fln_region_addr(clones[i].region);
	}
}

static void remove_clones(void)
{
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		STEP("the end of guest %u", i);
		OK(fln_guest_stop(clones[i].guest));
		check_stats(clones[i].guest, true, NULL);
		OK(fln_guest_destroy(clones[i].guest));
	}
	STEP("fln_image_destroy");
	OK(fln_image_destroy(bed.image));
	fln_source_destroy(bed.source);
	OK(fln_engine_destroy(bed.engine));
}

static void clones_of(uint64_t pages, bool filled)
{
	uint64_t written = 0, want, have;
	struct crew crew;

	nr_pages = pages;
	bed_init(&bed, nr_pages);
	/* Inside a virtual machine, first reads of large folios by 4 KiB entries may take long. */
	bed.image_opts.folio = FLN_FOLIO_SMALL;
	maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	if (filled) {
		STEP("filling the image");
		OK(fln_image_fill(bed.image, 0, nr_pages * PAGE));
	}
	add_clones();
	STEP("%u guests of one image", NR_GUESTS);
	crew_start(&crew, NR_GUESTS * NR_THREADS, live, NULL);
	crew_wait(&crew, 200, "threads of the guests");
	STEP("the memory that they need");
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		for (uint64_t page = 0; page < nr_pages; page++)
			written += is_written(i, page);
	}
	want = nr_pages + written;
	have = pss_pages();
	test_note("%u guests of %llu pages have written %llu: %llu pages in all, %llu are due",
		  NR_GUESTS, (unsigned long long)nr_pages, (unsigned long long)written,
		  (unsigned long long)have, (unsigned long long)want);
	/* Less it may be, where the kernel takes back what nobody uses. */
	CHECK(have <= want + want / 10 && have >= want / 2, "%llu pages are needed, %llu are due",
	      (unsigned long long)have, (unsigned long long)want);
	STEP("verifying all of them");
	crew_start(&crew, 2, verify, NULL);
	crew_wait(&crew, 200, "threads that verify");
	verify_image();
	CHECK(atomic_load(&bed.maker.nr_bytes) == nr_pages * PAGE,
	      "%llu bytes were read of the source, once for all is %llu",
	      (unsigned long long)atomic_load(&bed.maker.nr_bytes),
	      (unsigned long long)(nr_pages * PAGE));
	remove_clones();
}

/* Less where each access is dear. */
static uint64_t pages(void)
{
	return TEST_TSAN || TEST_ASAN ? 4096 : test_scale(16384, 65536, 262144);
}

static void of_a_filled_image(void)
{
	clones_of(pages(), true);
}

static void of_an_image_that_is_being_filled(void)
{
	clones_of(pages() / 2, false);
}

int main(void)
{
	test_init();
	RUN(of_a_filled_image);
	RUN(of_an_image_that_is_being_filled);
	return 0;
}
