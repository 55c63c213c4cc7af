/* SPDX-License-Identifier: MIT */
/*
 * A discard that fln_guest_lock() overtakes: its event has been acted upon when the kernel
 * refuses it.  Its pages stay mapped, and residency says so.
 */
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 512u
#define NR_LOCKED 64u

struct discarder {
	uint8_t *mem;
	_Atomic uint32_t nr_refused;
	_Atomic bool stop;
};

static void discard(void *arg, uint32_t index)
{
	struct discarder *d = arg;

	(void)index;
	while (!atomic_load(&d->stop)) {
		if (madvise(d->mem, NR_LOCKED * PAGE, MADV_DONTNEED) != 0)
			atomic_fetch_add(&d->nr_refused, 1);
	}
}

/* Pages that are mapped, and not PRESENT. */
static uint32_t nr_unknown(struct bed *b, int pagemap)
{
	uint64_t entries[NR_LOCKED];
	uint8_t vec[NR_LOCKED];
	uint32_t nr = 0;

	CHECK(pread(pagemap, entries, sizeof(entries),
		    (off_t)((uintptr_t)b->mem / PAGE * sizeof(*entries))) ==
		      (ssize_t)sizeof(entries),
	      "/proc/self/pagemap: %s", strerror(errno));
	OK(fln_guest_residency(b->guest, (uintptr_t)b->mem, NR_LOCKED * PAGE, vec, NULL));
	for (uint32_t i = 0; i < NR_LOCKED; i++)
		nr += entries[i] >> 63 && vec[i] != FLN_RESIDENCY_PRESENT;
	return nr;
}

static void overtaken(void)
{
	uint32_t nr_rounds = test_scale(300, 1000, 10000);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct discarder d = { 0 };
	struct crew crew = { 0 };
	struct bed b;

	if (pagemap < 0)
		test_skip("/proc/self/pagemap: %s", strerror(errno));
	bed_init(&b, NR_PAGES);
	bed_up(&b);
	OK(fln_image_fill(b.image, 0, b.nr_pages * PAGE));
	d.mem = b.mem;
	crew_start(&crew, 1, discard, &d);
	for (uint32_t round = 0; round < nr_rounds; round++) {
		uint32_t before;

		OK(fln_guest_lock(b.guest, (uintptr_t)b.mem, NR_LOCKED * PAGE));
		before = atomic_load(&d.nr_refused);
		/* The second has begun after the lock. */
		wait_count(&d.nr_refused, before + 2, WAIT_S, "two refusals");
		CHECK(nr_unknown(&b, pagemap) == 0, "round %u: %u pages are mapped, not PRESENT",
		      round, nr_unknown(&b, pagemap));
		OK(fln_guest_unlock(b.guest, (uintptr_t)b.mem, NR_LOCKED * PAGE));
	}
	atomic_store(&d.stop, true);
	crew_wait(&crew, WAIT_S, "the discarding thread");
	bed_down(&b);
	(void)close(pagemap);
}

int main(void)
{
	test_init();
	if (TEST_TSAN || TEST_ASAN)
		test_skip("the sanitizers' mlock() does nothing");
	RUN(overtaken);
	return 0;
}
