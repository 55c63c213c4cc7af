/* SPDX-License-Identifier: MIT */
/* Pushed contents: faults wait for them, the first win, and they race with fills. */
#include "tests/integration/harness.h"

#include <stdlib.h>

static void no_source(struct bed *b)
{
	/* An image that nobody fills but fln_image_put(). */
	OK(fln_engine_create(&b->engine_opts, &b->engine));
	OK(fln_engine_start(b->engine));
	OK(fln_image_create(b->engine, &b->image_opts, &b->image));
}

static void put_page(struct bed *b, uint64_t page, uint64_t salt)
{
	static _Thread_local _Alignas(8) char contents[PAGE], buf[PAGE + 1];

	contents_of(salt, page, contents);
	memcpy(buf + 1, contents, PAGE); /* not aligned: need not be */
	OK(fln_image_put(b->image, page * PAGE, buf + 1, PAGE));
}

static void faults_wait(void)
{
	struct fln_stats s;
	struct toucher early, late;
	struct bed b;

	bed_init(&b, 600);
	no_source(&b);
	bed_up(&b);
	toucher_read(&early, bed_page(&b, 3));
	toucher_write(&late, bed_page(&b, 599), 42);
	toucher_expect_asleep(&early, 50, "a page that was not pushed");
	wait_held(&b, 2, 4);
	wait_held(&b, 2, 598);
	put_page(&b, 599, 1);
	toucher_expect(&late, TOUCH_OK, "a write to a page that was pushed");
	CHECK(atomic_load(&early.end) == TOUCH_PENDING, "page 3 came with page 599");
	put_page(&b, 3, 1);
	toucher_expect_value(&early, word_of(1, 3, 0), "page 3 was pushed");
	settled_stats(b.guest, &s);
	CHECK(s.major == 2, "%llu major faults", (unsigned long long)s.major);
	CHECK(fln_image_filled_bytes(b.image) == 2 * PAGE, "%llu bytes filled",
	      (unsigned long long)fln_image_filled_bytes(b.image));
	REFUSED(fln_image_fill(b.image, 0, PAGE), -ENODATA, NULL);
	bed_down(&b);
}

static void first_wins(void)
{
	uint64_t value;
	struct bed b;

	bed_init(&b, 600);
	no_source(&b);
	bed_up(&b);
	put_page(&b, 5, 1);
	put_page(&b, 5, 2);
	CHECK(touch_read(bed_page(&b, 5), &value) == TOUCH_OK && value == word_of(1, 5, 0),
	      "the second put won");
	CHECK(touch_write(bed_page(&b, 5), 7) == TOUCH_OK, "write");
	put_page(&b, 5, 1);
	CHECK(touch_read(bed_page(&b, 5), &value) == TOUCH_OK && value == 7,
	      "a put took an own write back");
	OK(fln_image_discard(b.image, 6 * PAGE, PAGE));
	put_page(&b, 6, 1);
	CHECK(touch_read(bed_page(&b, 6), &value) == TOUCH_OK && value == 0,
	      "a put filled a discarded page");
	bed_down(&b);
}

/* A migration stream pushes in its own order, and twice, while 200 threads touch. */
struct stream {
	struct bed *bed;
	_Atomic bool done;
};

static void push(void *arg, uint32_t index)
{
	struct stream *s = arg;
	struct bed *b = s->bed;
	uint64_t piece = 16, seed = index, nr = b->nr_pages / piece;
	char *buf = malloc(piece * PAGE);
	uint64_t at = next_random(&seed) % nr;

	CHECK(buf, "no memory");
	for (uint64_t i = 0; i < nr; i++, at = (at + 7) % nr) {
		for (uint64_t p = 0; p < piece; p++)
			contents_of(1, at * piece + p, buf + p * PAGE);
		OK(fln_image_put(b->image, at * piece * PAGE, buf, piece * PAGE));
	}
	free(buf);
}

static void post_copy(void)
{
	struct stream s;
	struct crew pushers;
	struct bed b;

	/* 7 and the number of pieces have no common factor: every piece is pushed. */
	bed_init(&b, test_scale(16, 64, 512) * 128);
	while (b.nr_pages / 16 % 7 == 0)
		b.nr_pages += 16;
	b.image_opts.len_bytes = b.region_opts.len_bytes = b.nr_pages * PAGE;
	no_source(&b);
	bed_up(&b);
	s.bed = &b;
	crew_start(&pushers, 3, push, &s);
	read_all(&b, 200);
	crew_wait(&pushers, 60, "threads that push");
	bed_down(&b);
}

/* Pushed and read from a source at the same time: both have the same contents. */
static void races_with_fills(void)
{
	struct stream s;
	struct crew pushers;
	struct bed b;

	bed_init(&b, 4096 + 16);
	b.maker.delay_ns = MS / 10;
	bed_up(&b);
	s.bed = &b;
	crew_start(&pushers, 3, push, &s);
	read_all(&b, 200);
	crew_wait(&pushers, 60, "threads that push");
	CHECK(fln_image_filled_bytes(b.image) == b.nr_pages * PAGE, "%llu bytes filled of %llu",
	      (unsigned long long)fln_image_filled_bytes(b.image),
	      (unsigned long long)(b.nr_pages * PAGE));
	bed_down(&b);
}

/* A push does not wait for a source that hangs, and takes the place of what it does not deliver. */
static void beside_a_hanging_source(void)
{
	struct toucher held, other;
	uint64_t value;
	struct bed b;

	bed_init(&b, 1024);
	atomic_store(&b.maker.gate_closed, true);
	b.engine_opts.fill_pages = 1;
	bed_up(&b);
	toucher_read(&held, bed_page(&b, 100));
	toucher_expect_asleep(&held, 30, "the source hangs");
	put_page(&b, 101, 1);
	toucher_read(&other, bed_page(&b, 101));
	toucher_expect_value(&other, word_of(1, 101, 0), "a pushed page beside one that hangs");
	put_page(&b, 100, 2); /* wins: the read has not come back */
	toucher_expect_value(&held, word_of(2, 100, 0), "a push for a page whose read hangs");
	atomic_store(&b.maker.gate_closed, false);
	while (atomic_load(&b.maker.nr_inside))
		sleep_ms(1);
	CHECK(touch_read(bed_page(&b, 100), &value) == TOUCH_OK && value == word_of(2, 100, 0),
	      "the source came back and won");
	bed_down(&b);
}

static void refused(void)
{
	char buf[2 * PAGE] = { 0 };
	struct bed b;

	bed_init(&b, 16);
	no_source(&b);
	bed_up(&b);
	REFUSED(fln_image_put(b.image, 1, buf, PAGE), -EINVAL, "1");
	REFUSED(fln_image_put(b.image, 0, buf, 100), -EINVAL, "100");
	REFUSED(fln_image_put(b.image, 0, buf, 0), -EINVAL, "0");
	REFUSED(fln_image_put(b.image, 15 * PAGE, buf, 2 * PAGE), -EINVAL, "61440");
	REFUSED(fln_image_put(b.image, UINT64_MAX - PAGE + 1, buf, 2 * PAGE), -EINVAL,
		"18446744073709547520");
	REFUSED(fln_image_put(b.image, 0, NULL, PAGE), -EINVAL, "buf");
	REFUSED(fln_image_discard(b.image, 3, PAGE), -EINVAL, "3");
	REFUSED(fln_image_discard(b.image, 16 * PAGE, PAGE), -EINVAL, "65536");
	CHECK(fln_image_filled_bytes(b.image) == 0, "something was filled");
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(faults_wait);
	RUN(first_wins);
	RUN(post_copy);
	RUN(races_with_fills);
	RUN(beside_a_hanging_source);
	RUN(refused);
	return 0;
}
