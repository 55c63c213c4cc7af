/* SPDX-License-Identifier: MIT */
/* 256 threads on one page whose source is slow: one fill, and all of them wake. */
#include "tests/integration/harness.h"

#define NR_THREADS 256u
#define PAGE_NR 777u

struct herd {
	struct bed *bed;
	_Atomic uint32_t nr_there;
	bool write;
};

static void touch_the_page(void *arg, uint32_t index)
{
	struct herd *h = arg;
	uint64_t value;

	atomic_fetch_add(&h->nr_there, 1);
	if (h->write)
		CHECK(touch_write(bed_page(h->bed, PAGE_NR) + 8 * index, index) == TOUCH_OK,
		      "write");
	else
		CHECK(touch_read(bed_page(h->bed, PAGE_NR) + 8 * index, &value) == TOUCH_OK &&
			      value == word_of(1, PAGE_NR, index),
		      "word %u reads 0x%llx", index, (unsigned long long)value);
}

static void on_one_page(bool write)
{
	struct fln_stats s;
	struct herd h = { .write = write };
	struct crew crew;
	struct bed b;

	bed_init(&b, 4096);
	b.guest_opts.nr_vcpus = NR_THREADS;
	bed_up(&b);
	h.bed = &b;
	atomic_store(&b.maker.gate_closed, true);
	crew_start(&crew, NR_THREADS, touch_the_page, &h);
	wait_count(&h.nr_there, NR_THREADS, 20, "threads on their way to the page");
	sleep_ms(100);
	atomic_store(&b.maker.gate_closed, false);
	crew_wait(&crew, 30, "threads that wait for one page");
	check_stats(b.guest, false, &s);
	test_note(
		"%u threads: %llu faults, %u source reads, %llu installs, %llu wakes, %llu refaults",
		NR_THREADS, (unsigned long long)s.faults, atomic_load(&b.maker.nr_reads),
		(unsigned long long)s.installs, (unsigned long long)s.wakes,
		(unsigned long long)s.refaults);
	CHECK(atomic_load(&b.maker.nr_reads) == 1, "%u source reads",
	      atomic_load(&b.maker.nr_reads));
	CHECK(s.faults <= 2 * NR_THREADS, "%llu faults", (unsigned long long)s.faults);
	bed_down(&b);
}

static void reading(void)
{
	on_one_page(false);
}

static void writing(void)
{
	on_one_page(true);
}

int main(void)
{
	test_init();
	RUN(reading);
	RUN(writing);
	return 0;
}
