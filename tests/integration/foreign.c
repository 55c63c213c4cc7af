/* SPDX-License-Identifier: MIT */
/*
 * Memory that somebody else registered and handed over: anonymous, private,
 * missing faults only, filled by copies; of this process and of another, which
 * sends its userfaultfd through a socket.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 1600u
#define LEN (NR_PAGES * PAGE)

static struct peer peer;

static void hand_over(struct bed *b, int uffd, uint64_t addr)
{
	b->guest_opts.flags = FLN_GUEST_F_FOREIGN;
	b->guest_opts.foreign_uffd = uffd;
	b->region_opts.addr = addr;
	bed_up(b);
	CHECK(fln_guest_nr_shards(b->guest) == 1, "%u shards", fln_guest_nr_shards(b->guest));
}

static uint8_t *anonymous(int *uffd)
{
	uint8_t *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(p, LEN, MADV_NOHUGEPAGE);
	*uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);
	CHECK(raw_register(*uffd, p, LEN, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	return p;
}

static void expect(uint8_t *at, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, at);
	toucher_expect_value(&t, want, what);
}

static void within_the_process(void)
{
	struct fln_stats s;
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	b.maker.every_zero = 11;
	p = anonymous(&uffd);
	hand_over(&b, uffd, (uintptr_t)p);
	expect(p, word_of(1, 0, 0), "contents");
	expect(p + 10 * PAGE, 0, "a hole of the source");
	/* Contents of our own: private memory, so the image does not change. */
	CHECK(touch_write(p + 20 * PAGE, 99) == TOUCH_OK, "write");
	expect(p + 20 * PAGE, 99, "an own write");
	STEP("MADV_DONTNEED");
	CHECK(madvise(p + 20 * PAGE, 5 * PAGE, MADV_DONTNEED) == 0, "madvise");
	CHECK(madvise(p + 800 * PAGE, 700 * PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(p + 20 * PAGE, 0, "a page that was given up: zero, not refilled");
	expect(p + 25 * PAGE, word_of(1, 25, 0), "the page behind");
	for (uint64_t page = 800; page < 1500; page += 33)
		expect(p + page * PAGE, 0, "a page that was given up before it was filled");
	expect(p + 1500 * PAGE, word_of(1, 1500, 0), "the page behind");
	CHECK(touch_write(p + 21 * PAGE, 7) == TOUCH_OK, "write");
	expect(p + 21 * PAGE, 7, "an own write after that");
	STEP("giving up again");
	CHECK(madvise(p + 21 * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(p + 21 * PAGE, 0, "given up a second time");
	settled_stats(b.guest, &s);
	CHECK(s.events >= 3, "%llu events", (unsigned long long)s.events);
	bed_down(&b);
	(void)munmap(p, LEN);
}

static void contents_again(void)
{
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	b.region_opts.discard = FLN_DISCARD_IMAGE;
	p = anonymous(&uffd);
	hand_over(&b, uffd, (uintptr_t)p);
	CHECK(touch_write(p + 20 * PAGE, 99) == TOUCH_OK, "write");
	CHECK(madvise(p + 20 * PAGE, 5 * PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(p + 20 * PAGE, word_of(1, 20, 0), "given up, discard image");
	b.mem = p;
	bed_down(&b);
	(void)munmap(p, LEN);
}

static void under_200_threads(void)
{
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	p = anonymous(&uffd);
	hand_over(&b, uffd, (uintptr_t)p);
	b.mem = p;
	read_all(&b, 200);
	bed_down(&b);
	(void)munmap(p, LEN);
}

/* Nothing but what is mapped may be read after a stop, filled or not. */
static void stopped(void)
{
	uint64_t value;
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	b.guest_opts.window_first = b.guest_opts.window_max = 1;
	p = anonymous(&uffd);
	hand_over(&b, uffd, (uintptr_t)p);
	OK(fln_image_fill(b.image, 0, 100 * PAGE));
	for (uint64_t page = 0; page < 10; page++)
		expect(p + page * PAGE, word_of(1, page, 0), "contents");
	CHECK(madvise(p + 50 * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
	OK(fln_guest_stop(b.guest));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		enum touch end = touch_read(p + page * PAGE, &value);

		if (page < 10)
			CHECK(end == TOUCH_OK && value == word_of(1, page, 0), "page %llu",
			      (unsigned long long)page);
		else if (page == 50)
			CHECK(end == TOUCH_SIGBUS || value == 0, "page 50");
		else
			CHECK(end == TOUCH_SIGBUS, "page %llu: the thread %s, 0x%llx",
			      (unsigned long long)page, touch_name(end), (unsigned long long)value);
	}
	bed_down(&b);
	(void)munmap(p, LEN);
}

static uint64_t peer_read(uint64_t page, enum touch want, const char *what)
{
	uint64_t value = 0;
	int64_t end = peer_do(&peer, PEER_READ, page * PAGE, 0, -1, NULL, &value);

	CHECK(end == (int64_t)want, "%s: the other process %s", what, touch_name((enum touch)end));
	return value;
}

static void of_another_process(void)
{
	struct fln_source_error_opts o = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *inner;
	uint64_t addr, value;
	struct bed b;
	int uffd;

	bed_init(&b, NR_PAGES);
	o.error = EIO;
	o.offset_bytes = 900 * PAGE;
	o.len_bytes = PAGE;
	maker_source(&b.maker, &inner);
	OK(fln_source_with_errors(inner, &o, &b.source));
	fln_source_destroy(inner);
	b.image_opts.source = b.source;
	CHECK(peer_do(&peer, PEER_FOREIGN, 0, LEN, -1, &uffd, &addr) == 0 && uffd >= 0,
	      "the other process has no userfaultfd");
	hand_over(&b, uffd, addr);
	STEP("the other process touches its memory");
	for (uint64_t page = 0; page < 900; page++) {
		value = peer_read(page, TOUCH_OK, "contents");
		CHECK(value == word_of(1, page, 0), "page %llu reads 0x%llx",
		      (unsigned long long)page, (unsigned long long)value);
	}
	(void)peer_read(900, TOUCH_SIGBUS, "a page that cannot be had");
	CHECK(peer_do(&peer, PEER_WRITE, 901 * PAGE, 55, -1, NULL, NULL) == TOUCH_OK, "write");
	CHECK(peer_read(901, TOUCH_OK, "own write") == 55, "own write");
	STEP("the other process gives pages up");
	CHECK(peer_do(&peer, PEER_DONTNEED, 901 * PAGE, 300 * PAGE, -1, NULL, NULL) == 0,
	      "MADV_DONTNEED");
	CHECK(peer_read(901, TOUCH_OK, "given up") == 0, "a page that was given up has contents");
	CHECK(peer_read(1200, TOUCH_OK, "given up") == 0, "a page that was given up has contents");
	CHECK(peer_read(1201, TOUCH_OK, "contents") == word_of(1, 1201, 0), "the page behind");
	STEP("stop");
	OK(fln_guest_stop(b.guest));
	(void)peer_read(1599, TOUCH_SIGBUS, "a page that was not filled, after the stop");
	CHECK(peer_read(5, TOUCH_OK, "after the stop") == word_of(1, 5, 0), "page 5");
	bed_down(&b);
}

/* The other process ends while it is served. */
static void of_a_process_that_ends(void)
{
	struct peer short_lived;
	uint64_t addr, value;
	struct bed b;
	int uffd;

	bed_init(&b, NR_PAGES);
	peer_start(&short_lived);
	CHECK(peer_do(&short_lived, PEER_FOREIGN, 0, LEN, -1, &uffd, &addr) == 0 && uffd >= 0,
	      "no userfaultfd");
	hand_over(&b, uffd, addr);
	CHECK(peer_do(&short_lived, PEER_READ, 7 * PAGE, 0, -1, NULL, &value) == TOUCH_OK &&
		      value == word_of(1, 7, 0),
	      "page 7");
	peer_stop(&short_lived);
	sleep_ms(10);
	STEP("stopping the guest of a process that has ended");
	bed_down(&b);
}

int main(void)
{
	peer_start(&peer);
	test_init();
	RUN(within_the_process);
	RUN(contents_again);
	RUN(under_200_threads);
	RUN(stopped);
	RUN(of_another_process);
	RUN(of_a_process_that_ends);
	peer_stop(&peer);
	return 0;
}
