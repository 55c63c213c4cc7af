/* SPDX-License-Identifier: MIT */
/*
 * Memory that somebody else registered and handed over: anonymous, private,
 * missing faults only, filled by copies; of this process and of another, which
 * sends its userfaultfd through a socket.
 */
#include "tests/integration/harness.h"
#include "tests/support/hugepages.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 1600u
#define LEN (NR_PAGES * PAGE)

static struct peer peer;
static const char *no_huge_pages;

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

#define NOISE_LEN ((uint64_t)16 << 20)

/* Keeps those of this process waiting that want its mappings; copies do not (Linux 6.9). */
struct noise {
	pthread_t thread;
	uint8_t *mem;
	_Atomic bool over;
};

static void *noise_main(void *arg)
{
	struct noise *n = arg;

	while (!n->over) {
		(void)mprotect(n->mem, NOISE_LEN, PROT_READ);
		(void)mprotect(n->mem, NOISE_LEN, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

static void noise_begin(struct noise *n)
{
	n->over = false;
	n->mem = mmap(NULL, NOISE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(n->mem != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(n->mem, NOISE_LEN, MADV_NOHUGEPAGE);
	for (uint64_t at = 0; at < NOISE_LEN; at += PAGE)
		n->mem[at] = 1;
	CHECK(pthread_create(&n->thread, NULL, noise_main, n) == 0, "thread");
}

static void noise_end(struct noise *n)
{
	n->over = true;
	(void)pthread_join(n->thread, NULL);
	(void)munmap(n->mem, NOISE_LEN);
}

struct giving_up {
	uint8_t *mem;
	_Atomic uint32_t turn, nr_given;
};

/* Every sixteenth page, when its turn has come. */
static void give_up_main(void *arg, uint32_t index)
{
	struct giving_up *g = arg;

	(void)index;
	for (uint32_t i = 0; i < NR_PAGES / 16; i++) {
		wait_count(&g->turn, i + 1, WAIT_S, "the turn");
		CHECK(madvise(g->mem + i * 16 * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
		g->nr_given = i + 1;
	}
}

/*
 * Pages are copied, with their neighbour, when the engine has read that they are given up,
 * and the thread that gives them up waits for its mappings.  Then it takes them away.  Until the
 * discard's end the kernel refuses copies, so that neighbours may be left out: only pages that were
 * touched are sure to be mapped.
 */
static void given_up_after_the_copy(void)
{
	struct giving_up g = { .turn = 0 };
	struct crew c = { .nr = 0 };
	struct noise noise;
	uint64_t value, t0;
	uint32_t nr = 0, nr_neighbours = 0;
	struct bed b;
	int uffd;

	bed_init(&b, NR_PAGES);
	b.region_opts.discard = FLN_DISCARD_IMAGE;
	b.guest_opts.window_first = b.guest_opts.window_max = 16;
	g.mem = anonymous(&uffd);
	hand_over(&b, uffd, (uintptr_t)g.mem);
	OK(fln_image_fill(b.image, 0, LEN));
	noise_begin(&noise);
	t0 = now_ns();
	crew_start(&c, 1, give_up_main, &g);
	for (; nr < NR_PAGES / 16 && now_ns() - t0 < 3000 * MS; nr++) {
		g.turn = nr + 1;
		for (uint32_t i = 0; i < nr % 8 * 40; i += 40)
			(void)sched_yield();
		/* Not on a thread of its own, which would wait for its stack. */
		CHECK(touch_read(g.mem + (nr * 16 + 1) * PAGE, &value) == TOUCH_OK &&
			      value == word_of(1, nr * 16 + 1, 0),
		      "the neighbour");
		wait_count(&g.nr_given, nr + 1, WAIT_S, "the discard");
	}
	g.turn = NR_PAGES;
	noise_end(&noise);
	crew_wait(&c, WAIT_S, "the discards");
	OK(fln_guest_stop(b.guest));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		enum touch end = touch_read(g.mem + page * PAGE, &value);

		nr_neighbours += end == TOUCH_OK && page % 16 != 1;
		CHECK(end == TOUCH_OK ? value == word_of(1, page, 0)
				      : end == TOUCH_SIGBUS && (page % 16 != 1 || page >= nr * 16),
		      "page %llu, after the stop: the thread %s, 0x%llx", (unsigned long long)page,
		      touch_name(end), (unsigned long long)value);
	}
	CHECK(nr_neighbours > 0, "no page was copied but those that were touched");
	bed_down(&b);
	(void)munmap(g.mem, LEN);
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

/* Pages are copied, so nothing is brought that has not turned out to be touched. */
static void windows_by_density(uint32_t window_first, uint64_t stride, uint64_t min_copied,
			       uint64_t max_copied, uint64_t max_faults)
{
	struct fln_stats s;
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	b.guest_opts.window_first = window_first;
	p = anonymous(&uffd);
	hand_over(&b, uffd, (uintptr_t)p);
	OK(fln_image_fill(b.image, 0, LEN));
	for (uint64_t page = 0; page < NR_PAGES; page += stride)
		expect(p + page * PAGE, word_of(1, page, 0), "contents");
	settled_stats(b.guest, &s);
	CHECK(s.pages_installed >= min_copied && s.pages_installed <= max_copied &&
		      s.faults <= max_faults,
	      "one page in %llu, window_first %u: %llu pages were copied for %llu faults",
	      (unsigned long long)stride, window_first, (unsigned long long)s.pages_installed,
	      (unsigned long long)s.faults);
	bed_down(&b);
	(void)munmap(p, LEN);
}

static void windows(void)
{
	STEP("sparse");
	windows_by_density(0, 8, NR_PAGES / 8, NR_PAGES / 8, NR_PAGES / 8);
	windows_by_density(0, 64, NR_PAGES / 64, NR_PAGES / 64, NR_PAGES / 64);
	STEP("dense");
	windows_by_density(0, 1, NR_PAGES, NR_PAGES, NR_PAGES / 4);
	STEP("as the embedder says");
	windows_by_density(8, 64, 8 * (NR_PAGES / 64), NR_PAGES, NR_PAGES / 64);
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
	(void)peer_read(900, TOUCH_SIGBUS, "a page that has failed");
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

static void wait_event(const struct bed *b, uint32_t kind, uint64_t value)
{
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;

	for (;;) {
		struct fln_event e = FLN_EVENT_INIT;

		if (fln_engine_next_event(b->engine, &e) == 1 && e.kind == kind &&
		    (value == 0 || e.value == value))
			return;
		CHECK(now_ns() < end, "no event of kind %u within %u s", kind, WAIT_S);
		sleep_ms(1);
	}
}

/* The monitor that hands the memory over tracks writes, or has done so. */
static void write_protected(void)
{
	struct uffdio_writeprotect wp = { .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	struct fln_stats s;
	struct toucher t;
	struct bed b;
	int uffd, keep;
	uint8_t *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(p, LEN, MADV_NOHUGEPAGE);
	uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);
	if (raw_register(uffd, p, LEN, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP) !=
	    0) {
		test_note("SKIP: no write protection by userfaultfd here");
		(void)close(uffd);
		return;
	}
	keep = fcntl(uffd, F_DUPFD_CLOEXEC, 3);
	bed_init(&b, NR_PAGES);
	hand_over(&b, uffd, (uintptr_t)p);
	expect(p + 3 * PAGE, word_of(1, 3, 0), "contents");
	wp.range.start = (uintptr_t)p;
	wp.range.len = 64 * PAGE;
	CHECK(ioctl(keep, UFFDIO_WRITEPROTECT, &wp) == 0, "UFFDIO_WRITEPROTECT: %s",
	      strerror(errno));
	settled_stats(b.guest, &s);
	CHECK(s.faults == 1, "%llu faults before", (unsigned long long)s.faults);
	toucher_write(&t, p + 3 * PAGE, 7);
	toucher_expect(&t, TOUCH_OK, "a write to a page that is write-protected");
	expect(p + 3 * PAGE, 7, "what was written");
	settled_stats(b.guest, &s);
	CHECK(s.faults == 2, "%llu faults for two touches", (unsigned long long)s.faults);
	bed_down(&b);
	(void)close(keep);
	(void)munmap(p, LEN);
}

/* Shared memory, registered with minor faults; its process has written a page of it. */
static void minor_faults(void)
{
	int memfd = memfd_create("theirs", MFD_CLOEXEC), uffd;
	uint64_t word = 5;
	struct fln_stats s;
	struct toucher t;
	struct bed b;
	uint8_t *p;

	CHECK(memfd >= 0 && ftruncate(memfd, (off_t)LEN) == 0, "memfd: %s", strerror(errno));
	CHECK(pwrite(memfd, &word, sizeof(word), (off_t)(30 * PAGE)) == sizeof(word), "pwrite");
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MINOR_SHMEM |
			UFFD_FEATURE_MISSING_SHMEM);
	CHECK(raw_register(uffd, p, LEN,
			   UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR) == 0,
	      "register");
	bed_init(&b, NR_PAGES);
	b.guest_opts.window_first = b.guest_opts.window_max = 1;
	hand_over(&b, uffd, (uintptr_t)p);
	expect(p, word_of(1, 0, 0), "a page that is missing");
	/* Of this mapping the entry goes, and the cache keeps what we copied. */
	CHECK(madvise(p, PAGE, MADV_DONTNEED) == 0, "madvise");
	expect(p, word_of(1, 0, 0), "a page that the cache has from us");
	toucher_read(&t, p + 30 * PAGE);
	toucher_expect(&t, TOUCH_SIGBUS, "a page of which nobody knows what it holds");
	wait_event(&b, FLN_EVENT_GUEST_FAILED, 0);
	settled_stats(b.guest, &s);
	CHECK(s.faults == 3, "%llu faults for three touches", (unsigned long long)s.faults);
	bed_down(&b);
	(void)munmap(p, LEN);
	(void)close(memfd);
}

static void refuse_fd(struct bed *b, int fd, const char *what)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
	struct fln_guest *guest = NULL;
	int rc;

	STEP("handing over %s", what);
	o.flags = FLN_GUEST_F_FOREIGN;
	o.foreign_uffd = fd;
	rc = fln_guest_create(b->engine, &o, &guest);
	CHECK(rc == -EINVAL && !guest, "%s: returned %d", what, rc);
	CHECK(fcntl(fd, F_GETFD) >= 0, "%s was closed", what);
	CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK), "%s has another flag", what);
}

/* Whatever is no userfaultfd is refused, and left as it is. */
static void no_userfaultfd(void)
{
	int p[2], s[2], fd;
	struct bed b;

	bed_init(&b, 16);
	bed_up(&b);
	CHECK(pipe2(p, O_CLOEXEC) == 0, "pipe2");
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) == 0, "socketpair");
	refuse_fd(&b, p[0], "a pipe");
	refuse_fd(&b, s[0], "a socket");
	fd = dup(p[1]);
	CHECK(dup2(fd, 0) == 0, "dup2");
	refuse_fd(&b, 0, "descriptor 0");
	(void)close(fd);
	fd = eventfd(0, EFD_CLOEXEC);
	refuse_fd(&b, fd, "an eventfd");
	(void)close(fd);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	refuse_fd(&b, fd, "/dev/null");
	(void)close(fd);
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd >= 0)
		refuse_fd(&b, fd, "a userfaultfd without UFFDIO_API");
	(void)close(fd);
	for (uint32_t i = 0; i < 2; i++) {
		(void)close(p[i]);
		(void)close(s[i]);
	}
	bed_down(&b);
}

static void huge_pages(void)
{
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
	struct fln_region *region;
	struct fln_guest *guest;
	struct bed b;
	uint8_t *p = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (no_huge_pages || p == MAP_FAILED) {
		test_note("SKIP: no huge pages: %s", no_huge_pages ? no_huge_pages : "mmap");
		return;
	}
	bed_init(&b, 1024);
	bed_up(&b);
	o.flags = FLN_GUEST_F_FOREIGN;
	o.foreign_uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MISSING_HUGETLBFS);
	CHECK(raw_register(o.foreign_uffd, p, 2 * BLOCK, UFFDIO_REGISTER_MODE_MISSING) == 0,
	      "register");
	OK(fln_guest_create(b.engine, &o, &guest));
	ro.image = b.image;
	ro.addr = (uintptr_t)p;
	ro.len_bytes = 2 * BLOCK;
	CHECK(fln_region_add(guest, &ro, &region) == -EOPNOTSUPP, "%s", fln_last_error());
	OK(fln_guest_destroy(guest));
	bed_down(&b);
	(void)munmap(p, 2 * BLOCK);
}

/* Its process has registered memory, and touches it before we are told of it. */
static void touched_before_it_is_added(void)
{
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct toucher t;
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	p = anonymous(&uffd);
	b.region_opts.len_bytes = 100 * PAGE;
	hand_over(&b, uffd, (uintptr_t)p);
	toucher_read(&t, p + 300 * PAGE);
	toucher_expect_asleep(&t, 50, "a page whose region is not there yet");
	ro.image = b.image;
	ro.addr = (uintptr_t)p + 200 * PAGE;
	ro.len_bytes = 200 * PAGE;
	ro.image_offset_bytes = 200 * PAGE;
	OK(fln_region_add(b.guest, &ro, &region));
	toucher_expect_value(&t, word_of(1, 300, 0), "the region has come");
	STEP("a region that never comes");
	toucher_read(&t, p + 700 * PAGE);
	wait_event(&b, FLN_EVENT_PAGE_POISONED, (uintptr_t)p + 700 * PAGE);
	toucher_expect(&t, TOUCH_SIGBUS, "no region has come");
	bed_down(&b);
	(void)munmap(p, LEN);
}

/*
 * A process that clears O_NONBLOCK on the description that both have, and takes the
 * messages itself.  It sleeps in its own read(), too, so it is killed in the end.
 */
static pid_t hostile_start(int uffd, _Atomic uint64_t *nr_taken)
{
	pid_t pid = fork();

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		struct uffd_msg msg;
		int on = 1, off = 0;

		(void)ioctl(uffd, FIONBIO, &on);
		if (read(uffd, &msg, sizeof(msg)) == (ssize_t)sizeof(msg)) {
			struct uffdio_range r = { msg.arg.pagefault.address & ~(PAGE - 1), PAGE };

			atomic_fetch_add(nr_taken, 1);
			(void)ioctl(uffd, FIONBIO, &off);
			(void)ioctl(uffd, UFFDIO_WAKE, &r);
		}
		(void)ioctl(uffd, FIONBIO, &off);
	}
}

struct storm {
	uint8_t *at;
	_Atomic bool ends;
};

static void storm_main(void *arg, uint32_t index)
{
	struct storm *s = arg;
	uint64_t value;

	for (uint32_t i = index; !atomic_load(&s->ends); i = (i + 7) % 1000) {
		(void)touch_read(s->at + i * PAGE, &value);
		if (i % 8 == 0)
			(void)madvise(s->at + i * PAGE, 8 * PAGE, MADV_DONTNEED);
	}
}

/* Others of the same worker are served meanwhile, and the guest can be destroyed. */
static void a_hostile_monitor(void)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct storm storm = { .ends = false };
	_Atomic uint64_t *nr_taken;
	struct crew touchers;
	struct fln_region *region;
	struct fln_guest *guest;
	pid_t hostile[2];
	uint64_t until;
	struct bed b;
	uint8_t *p;
	int uffd;

	bed_init(&b, NR_PAGES);
	b.engine_opts.nr_workers = 1;
	p = anonymous(&uffd);
	nr_taken = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(nr_taken != MAP_FAILED, "mmap: %s", strerror(errno));
	for (uint32_t i = 0; i < 2; i++)
		hostile[i] = hostile_start(uffd, nr_taken);
	bed_up(&b);
	o.flags = FLN_GUEST_F_FOREIGN;
	o.foreign_uffd = uffd;
	OK(fln_guest_create(b.engine, &o, &guest));
	ro.image = b.image;
	ro.addr = (uintptr_t)p;
	ro.len_bytes = LEN;
	OK(fln_region_add(guest, &ro, &region));
	OK(fln_guest_start(guest));
	storm.at = p;
	crew_start(&touchers, 4, storm_main, &storm);
	until = now_ns() + test_scale(500, 2000, 20000) * MS;
	for (uint64_t page = 0; now_ns() < until; page = (page + 1) % NR_PAGES) {
		expect(bed_page(&b, page), word_of(1, page, 0), "a page of another guest");
		if (page == NR_PAGES - 1)
			OK(fln_guest_advise(b.guest, (uintptr_t)bed_page(&b, 0), LEN,
					    FLN_ADVICE_DONTNEED));
	}
	test_note("%llu messages taken", (unsigned long long)atomic_load(nr_taken));
	STEP("destroying the guest of a hostile monitor");
	OK(fln_guest_destroy(guest));
	atomic_store(&storm.ends, true);
	crew_wait(&touchers, WAIT_S, "threads of the hostile monitor's guest");
	for (uint32_t i = 0; i < 2; i++) {
		(void)kill(hostile[i], SIGKILL);
		(void)waitpid(hostile[i], NULL, 0);
	}
	bed_down(&b);
	(void)munmap((void *)nr_taken, PAGE);
	(void)munmap(p, LEN);
}

int main(void)
{
	no_huge_pages = hugepages_take(2);
	peer_start(&peer);
	test_init();
	RUN(write_protected);
	RUN(minor_faults);
	RUN(no_userfaultfd);
	RUN(huge_pages);
	RUN(touched_before_it_is_added);
	RUN(a_hostile_monitor);
	RUN(within_the_process);
	RUN(contents_again);
	RUN(given_up_after_the_copy);
	RUN(under_200_threads);
	RUN(stopped);
	RUN(windows);
	RUN(of_another_process);
	RUN(of_a_process_that_ends);
	peer_stop(&peer);
	return 0;
}
