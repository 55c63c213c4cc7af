/* SPDX-License-Identifier: MIT */
/*
 * Ends of guests where closing the userfaultfd would not do: held open by a forked
 * child, in another's memory, on a kernel that cannot poison.
 */
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"
#include "tests/integration/harness.h"

#include <errno.h>
#include <faultlane/engine.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 4096u
#define LEN (NR_PAGES * PAGE)

static struct bed bed;

/* A kernel before 6.6: nothing that is registered offers POISON. */
static void cannot_poison(void)
{
	for (uint32_t i = 0; i < bed.guest->nr_shards; i++)
		bed.guest->shards[i].uffd.range_ioctls &= ~(UINT64_C(1) << _UFFDIO_POISON);
}

/* A child that has not called exec has a descriptor of each userfaultfd. */
static void under_a_forked_child(void)
{
	struct toucher t[8];
	uint64_t value;
	pid_t pid;

	bed_init(&bed, NR_PAGES);
	atomic_store(&bed.maker.gate_closed, true);
	bed_up(&bed);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		(void)pause();
		_exit(0);
	}
	for (uint32_t i = 0; i < 8; i++)
		toucher_read(&t[i], bed_page(&bed, (uint64_t)i * 512));
	toucher_expect_asleep(&t[7], 30, "the source is held back");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	for (uint32_t i = 0; i < 8; i++)
		toucher_expect(&t[i], TOUCH_SIGBUS, "a page that was waited for");
	atomic_store(&bed.maker.gate_closed, false);
	OK(fln_image_fill(bed.image, 0, LEN));
	OK(fln_guest_destroy(bed.guest));
	bed.guest = NULL;
	bed.region = NULL;
	bed_up(&bed);
	CHECK(touch_read(bed_page(&bed, 3), &value) == TOUCH_OK, "filled");
	STEP("fln_guest_stop, all filled");
	OK(fln_guest_stop(bed.guest));
	toucher_read(&t[0], bed_page(&bed, 2000));
	toucher_expect_value(&t[0], word_of(1, 2000, 0), "a filled page that was never mapped");
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	bed_down(&bed);
}

/* A mapping of the caller's, the first half filled, and of the second every other page. */
static uint8_t *half_filled(uint64_t nr_pages, uint32_t nr_shards)
{
	static uint64_t words[PAGE / sizeof(uint64_t)];
	uint8_t *p;

	bed_init(&bed, nr_pages);
	bed.guest_opts.nr_shards = nr_shards;
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	p = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fln_image_memfd(bed.image), 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	for (uint64_t page = 0; page < nr_pages; page += page < nr_pages / 2 ? 1 : 2) {
		contents_of(1, page, words);
		OK(fln_image_put(bed.image, page * PAGE, words, PAGE));
	}
	return p;
}

/* With a mapping for each page that is not filled they would run out. */
static void without_poison_of(uint64_t nr_pages, uint32_t nr_shards, bool remove)
{
	uint8_t *p = half_filled(nr_pages, nr_shards);
	uint64_t value, nr_readable = 0;
	struct toucher t;
	enum touch waited;

	cannot_poison();
	toucher_read(&t, p + (nr_pages - 1) * PAGE);
	toucher_expect_asleep(&t, 30, "a page that nobody has filled");
	STEP("closing without POISON");
	OK(remove ? fln_region_remove(bed.region) : fln_guest_stop(bed.guest));
	/* The one shard's region has more runs than mappings: the last are joined, and PROT_NONE. */
	waited = toucher_wait(&t, "the waiting thread");
	CHECK(waited == TOUCH_SIGBUS || (nr_shards == 1 && waited == TOUCH_SIGSEGV),
	      "the waiting thread %s", touch_name(waited));
	for (uint64_t page = 0; page < nr_pages; page++) {
		enum touch end = touch_read(p + page * PAGE, &value);

		CHECK(end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV ||
			      (end == TOUCH_OK && value == word_of(1, page, 0)),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)page, touch_name(end),
		      (unsigned long long)value);
		nr_readable += end == TOUCH_OK;
	}
	/* What is filled stays readable, as far as there are mappings. */
	CHECK(nr_shards == 1 || nr_readable == nr_pages / 4 * 3, "%llu pages are readable",
	      (unsigned long long)nr_readable);
	CHECK(nr_readable >= nr_pages / 2, "%llu pages are readable",
	      (unsigned long long)nr_readable);
	bed_down(&bed);
	(void)munmap(p, nr_pages * PAGE);
}

/* Memory of no region, of a userfaultfd of ours: the access is taken away, once. */
static void no_region_without_poison(void)
{
	struct fln_stats s;
	struct toucher t[2];
	uint8_t *p =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = 1;
	bed_up(&bed);
	CHECK(raw_register(bed.guest->shards[0].uffd.fd, p, 4 * PAGE,
			   UFFDIO_REGISTER_MODE_MISSING) == 0,
	      "register");
	cannot_poison();
	for (uint32_t i = 0; i < 2; i++) {
		toucher_read(&t[i], p + 2 * i * PAGE);
		toucher_expect(&t[i], TOUCH_SIGSEGV, "memory of no region");
	}
	settled_stats(bed.guest, &s);
	CHECK(s.faults == 2 && s.failed == 2, "%llu faults, %llu failed",
	      (unsigned long long)s.faults, (unsigned long long)s.failed);
	bed_down(&bed);
	(void)munmap(p, 4 * PAGE);
}

static void without_poison(void)
{
	without_poison_of(NR_PAGES, 4, false);
	without_poison_of(NR_PAGES, 4, true);
	/* More pages than there can be mappings. */
	without_poison_of(test_scale(65536, 160 * 1024, 160 * 1024), 1, false);
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

static uint8_t *foreign_up(void)
{
	uint8_t *p;
	int uffd;

	bed_init(&bed, NR_PAGES);
	p = anonymous(&uffd);
	bed.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	bed.guest_opts.foreign_uffd = uffd;
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	return p;
}

/* In memory that is not ours, what was discarded reads zero once it is let go. */
static void discarded_foreign_pages(void)
{
	struct toucher t;
	uint8_t *p;

	for (int remove = 0; remove < 2; remove++) {
		p = foreign_up();
		toucher_read(&t, p + 9 * PAGE);
		toucher_expect_value(&t, word_of(1, 9, 0), "contents");
		CHECK(madvise(p + 9 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0, "madvise");
		STEP(remove ? "fln_region_remove" : "fln_guest_stop");
		OK(remove ? fln_region_remove(bed.region) : fln_guest_stop(bed.guest));
		toucher_read(&t, p + 9 * PAGE);
		toucher_expect_value(&t, 0, "a page that was given up");
		toucher_read(&t, p + (NR_PAGES - 1) * PAGE);
		toucher_expect(&t, TOUCH_SIGBUS, "a page that was never filled");
		bed_down(&bed);
		(void)munmap(p, LEN);
	}
}

/* Neither POISON nor mprotect(): it is said, and a thread that touches it waits. Last: it stays so. */
static void nothing_helps(void)
{
	static struct toucher t[2];
	uint32_t nr_lines;
	uint64_t value;
	uint8_t *p = foreign_up();

	toucher_read(&t[0], p + 9 * PAGE);
	toucher_expect_value(&t[0], word_of(1, 9, 0), "contents");
	cannot_poison();
	nr_lines = log_nr(&bed.log);
	STEP("fln_region_remove that cannot be safe");
	REFUSED(fln_region_remove(bed.region), -EIO, test_hex((uintptr_t)p));
	CHECK(log_nr(&bed.log) == nr_lines + 1, "%u lines were logged",
	      log_nr(&bed.log) - nr_lines);
	CHECK(log_names(&bed.log, FLN_LOG_ERROR, test_hex((uintptr_t)p)),
	      "the line does not say where");
	REFUSED(fln_region_remove(bed.region), -EIO, test_hex((uintptr_t)p));
	CHECK(log_nr(&bed.log) == nr_lines + 1, "a repeated call logged it again");
	STEP("fln_guest_stop that cannot be safe");
	REFUSED(fln_guest_stop(bed.guest), -EIO, NULL);
	REFUSED(fln_guest_stop(bed.guest), -EIO, NULL);
	CHECK(touch_read(p + 9 * PAGE, &value) == TOUCH_OK && value == word_of(1, 9, 0), "filled");
	toucher_read(&t[0], p + (NR_PAGES - 1) * PAGE);
	toucher_expect_asleep(&t[0], 100, "a page that was never filled");
	STEP("fln_guest_destroy");
	OK(fln_guest_destroy(bed.guest));
	toucher_read(&t[1], p + (NR_PAGES - 2) * PAGE);
	toucher_expect_asleep(&t[1], 100, "a page that was never filled");
	OK(fln_image_destroy(bed.image));
	OK(fln_engine_destroy(bed.engine));
}

static void *give_up(void *addr)
{
	return madvise(addr, 16 * PAGE, MADV_REMOVE) == 0 ? NULL : addr;
}

/* Until one of its userfaultfds has something to tell. */
static void wait_unread(struct fln_guest *guest)
{
	for (uint64_t t0 = now_ns();; sleep_ms(1)) {
		for (uint32_t i = 0; i < guest->nr_shards; i++) {
			struct pollfd pfd = { .fd = guest->shards[i].uffd.fd, .events = POLLIN };

			if (poll(&pfd, 1, 0) == 1)
				return;
		}
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "nothing is told of the discard");
	}
}

/*
 * A discard that no worker has read when its guest is stopped: for another guest
 * that shares the image it is one all the same.
 */
static void discard_at_the_end(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_guest *second;
	struct fln_region *region;
	struct toucher t;
	pthread_t thread;
	void *failed;
	uint8_t *mem;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &second));
	o.image = bed.image;
	o.len_bytes = LEN;
	OK(fln_region_add(second, &o, &region));
	mem = fln_region_addr(region);
	/* It is not started: nobody reads the event before it is stopped. */
	CHECK(pthread_create(&thread, NULL, give_up, mem + 700 * PAGE) == 0, "pthread_create");
	wait_unread(second);
	STEP("fln_guest_stop with a discard that was not read");
	OK(fln_guest_stop(second));
	STEP("the discard");
	CHECK(pthread_join(thread, &failed) == 0 && !failed, "MADV_REMOVE");
	OK(fln_guest_destroy(second));
	for (uint64_t page = 700; page < 716; page++) {
		toucher_read(&t, bed_page(&bed, page));
		toucher_expect_value(&t, 0, "a page that the other guest gave up");
	}
	toucher_read(&t, bed_page(&bed, 716));
	toucher_expect_value(&t, word_of(1, 716, 0), "its neighbour");
	bed_down(&bed);
}

/* Adding and removing a region ask each worker a few times, whatever number of shards it has. */
static void one_pass_a_worker(void)
{
	enum {
		NR_SHARDS = 512
	};
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r;
	uint64_t before, rounds;

	bed_init(&bed, 1024);
	bed.engine_opts.nr_workers = 1;
	bed.guest_opts.nr_shards = NR_SHARDS;
	bed.region_opts.len_bytes = BLOCK;
	bed_up(&bed);
	o.image = bed.image;
	o.len_bytes = BLOCK;
	before = atomic_load(&bed.engine->workers[0].beat);
	OK(fln_region_add(bed.guest, &o, &r));
	OK(fln_region_remove(r));
	rounds = (atomic_load(&bed.engine->workers[0].beat) - before) / 2;
	CHECK(rounds < NR_SHARDS / 4, "the worker has gone %llu rounds for %u shards",
	      (unsigned long long)rounds, NR_SHARDS);
	bed_down(&bed);
}

/* A worker polls where faults come densely: what it takes for their gap was one. */
static void gaps_between_faults(void)
{
	uint64_t t0 = now_ns(), value, gap_ns;

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.nr_workers = 1;
	bed.guest_opts.window_first = bed.guest_opts.window_max = 1;
	bed_up(&bed);
	/* The first guess counts for nothing after so many. */
	for (uint64_t page = 0; page < 512; page++)
		CHECK(touch_read(bed_page(&bed, page), &value) == TOUCH_OK, "a touch");
	OK(fln_engine_stop(bed.engine));
	gap_ns = bed.engine->workers[0].gap_ns;
	CHECK(gap_ns <= now_ns() - t0, "faults come each %llu ns", (unsigned long long)gap_ns);
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(under_a_forked_child);
	RUN(discard_at_the_end);
	RUN(no_region_without_poison);
	RUN(without_poison);
	RUN(gaps_between_faults);
	RUN(discarded_foreign_pages);
	RUN(nothing_helps);
	RUN(one_pass_a_worker);
	(void)fflush(stdout);
	_exit(0); /* two threads wait for ever, as they should */
}
