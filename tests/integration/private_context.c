/* SPDX-License-Identifier: MIT */
/*
 * A private region that its threads resolve themselves (with discards that bring the
 * image back): writes are private, holes are zero, and the image stays as it is.
 */
#include "tests/integration/context_bed.h"

#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES (THREADS * 16u)
#define EVERY_ZERO 7u

static struct bed bed;

static uint64_t due(uint64_t page)
{
	return page % EVERY_ZERO == EVERY_ZERO - 1 ? 0 : word_of(1, page, 0);
}

static void expect(uint64_t page, uint32_t word, uint64_t want, const char *what)
{
	uint64_t value = 0;
	enum touch end = touch_read(bed_page(&bed, page) + word * sizeof(value), &value);

	CHECK(end == TOUCH_OK && value == want, "%s: page %llu: the thread %s, 0x%llx", what,
	      (unsigned long long)page, touch_name(end), (unsigned long long)value);
}

static void live(void *arg, uint32_t index)
{
	uint64_t random = index + 1;

	(void)arg;
	OK(fln_thread_enter());
	for (uint64_t i = 0; i < NR_PAGES / THREADS; i++) {
		uint64_t page = i * THREADS + index;

		if (next_random(&random) % 2)
			expect(page, 0, due(page), "contents");
		CHECK(touch_write(bed_page(&bed, page) + 8, page + 1) == TOUCH_OK, "write");
		expect(page, 0, due(page), "contents beside a write");
		expect(page, 1, page + 1, "its own write");
		if (i % 4)
			continue;
		CHECK(madvise(bed_page(&bed, page), PAGE, MADV_DONTNEED) == 0, "madvise: %s",
		      strerror(errno));
		expect(page, 0, due(page), "contents after a discard");
		CHECK(touch_write(bed_page(&bed, page) + 8, page + 1) == TOUCH_OK, "write");
	}
	fln_thread_leave();
}

static void run(bool filled)
{
	struct crew crew;

	bed_init(&bed, NR_PAGES);
	bed.maker.every_zero = EVERY_ZERO;
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed.region_opts.discard = FLN_DISCARD_IMAGE;
	context_up(&bed, filled);
	STEP("%u threads in context", THREADS);
	crew_start(&crew, THREADS, live, NULL);
	crew_wait(&crew, 60, "threads in context");
	OK(fln_guest_stop(bed.guest));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t words[2] = { 1, 1 };

		expect(page, 1, page + 1, "its own write, after the stop");
		CHECK(pread(fln_image_memfd(bed.image), words, sizeof(words),
			    (off_t)(page * PAGE)) == (ssize_t)sizeof(words) &&
			      words[0] == due(page) &&
			      words[1] == (due(page) ? word_of(1, page, 1) : 0),
		      "page %llu of the image has changed", (unsigned long long)page);
	}
	bed_down(&bed);
}

static void filled_before(void)
{
	run(true);
}

static void filled_meanwhile(void)
{
	run(false);
}

int main(void)
{
	test_init();
	context_init();
	RUN(filled_before);
	RUN(filled_meanwhile);
	return 0;
}
