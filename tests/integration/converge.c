/* SPDX-License-Identifier: MIT */
/*
 * A stampede: 256 threads on one page that is not filled, all of them waiting before the
 * source gives it.  It costs one fill and one install, and wakes them all.
 */
#include "tests/integration/harness.h"

#define NR_THREADS 256u
#define PAGE_NR 777u

struct herd {
	struct bed *bed;
	pthread_barrier_t barrier;
	_Atomic uint32_t nr_woken;
	bool write;
};

static void touch_the_page(void *arg, uint32_t index)
{
	struct herd *h = arg;
	uint64_t value;

	(void)pthread_barrier_wait(&h->barrier);
	if (h->write)
		CHECK(touch_write(bed_page(h->bed, PAGE_NR) + 8 * index, index) == TOUCH_OK,
		      "write");
	else
		CHECK(touch_read(bed_page(h->bed, PAGE_NR) + 8 * index, &value) == TOUCH_OK &&
			      value == word_of(1, PAGE_NR, index),
		      "word %u reads 0x%llx", index, (unsigned long long)value);
	atomic_fetch_add(&h->nr_woken, 1);
}

static void stampede(bool write, uint32_t window)
{
	struct herd h = { .write = write };
	struct crew crew;
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 4096);
	b.guest_opts.nr_vcpus = NR_THREADS;
	b.guest_opts.window_first = window;
	b.guest_opts.window_max = window;
	bed_up(&b);
	h.bed = &b;
	CHECK(pthread_barrier_init(&h.barrier, NULL, NR_THREADS) == 0, "barrier");
	atomic_store(&b.maker.gate_closed, true);
	crew_start(&crew, NR_THREADS, touch_the_page, &h);
	wait_held(&b, NR_THREADS, PAGE_NR + 1);
	CHECK(atomic_load(&h.nr_woken) == 0, "%u threads went on without the page",
	      atomic_load(&h.nr_woken));
	atomic_store(&b.maker.gate_closed, false);
	crew_wait(&crew, 30, "threads that wait for one page");
	settled_stats(b.guest, &s);
	test_note("%s, %s: %u threads, %llu faults: %u fill, %llu pages in %llu install calls, "
		  "%llu calls to wake, %u threads woken, %llu refaults",
		  write ? "write" : "read", window ? "windows of one page" : "windows as they are",
		  NR_THREADS, (unsigned long long)s.faults, atomic_load(&b.maker.nr_reads),
		  (unsigned long long)s.pages_installed, (unsigned long long)s.installs,
		  (unsigned long long)s.wakes, atomic_load(&h.nr_woken),
		  (unsigned long long)s.refaults);
	CHECK(atomic_load(&b.maker.nr_reads) == 1, "%u source reads",
	      atomic_load(&b.maker.nr_reads));
	CHECK(atomic_load(&h.nr_woken) == NR_THREADS, "%u woken", atomic_load(&h.nr_woken));
	/* The kernel may take the page back before its last thread has run. */
	CHECK(s.faults - s.refaults == NR_THREADS, "%llu faults, %llu refaults",
	      (unsigned long long)s.faults, (unsigned long long)s.refaults);
	if (window == 1)
		CHECK(s.installs - s.refaults == 1 && s.pages_installed - s.refaults == 1,
		      "%llu pages in %llu calls", (unsigned long long)s.pages_installed,
		      (unsigned long long)s.installs);
	/* The page that is waited for first; then what else was filled, before and after it. */
	CHECK(s.installs - s.refaults <= 3, "%llu install calls", (unsigned long long)s.installs);
	(void)pthread_barrier_destroy(&h.barrier);
	bed_down(&b);
}

static void reading_one_page(void)
{
	stampede(false, 1);
}

static void writing_one_page(void)
{
	stampede(true, 1);
}

static void reading_in_windows(void)
{
	stampede(false, 0);
}

static void writing_in_windows(void)
{
	stampede(true, 0);
}

int main(void)
{
	test_init();
	RUN(reading_one_page);
	RUN(writing_one_page);
	RUN(reading_in_windows);
	RUN(writing_in_windows);
	return 0;
}
