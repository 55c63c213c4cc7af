/* SPDX-License-Identifier: MIT */
/* Regions that come to a running guest, and what the caller's own mappings were before. */
#include "tests/integration/harness.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 3000u
#define LEN (NR_PAGES * PAGE)

static struct bed bed;

/* All but the region. */
static void begin(uint32_t nr_shards)
{
	bed_init(&bed, NR_PAGES);
	bed.guest_opts.nr_shards = nr_shards;
	bed_up_image(&bed);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
}

static uint8_t *map_image(void)
{
	void *p =
		mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fln_image_memfd(bed.image), 0);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

#define WIDE_PAGES 65536u

struct keen {
	uint8_t *mem;
	_Atomic bool stop;
};

static void keep_touching(void *arg, uint32_t index)
{
	struct keen *k = arg;
	uint64_t seed = index + 1, value;

	while (!atomic_load(&k->stop)) {
		uint64_t page = next_random(&seed) % WIDE_PAGES;
		enum touch end = touch_read(k->mem + page * PAGE, &value);

		CHECK(end == TOUCH_OK && value == 0, "page %llu: the thread %s, 0x%llx",
		      (unsigned long long)page, touch_name(end), (unsigned long long)value);
	}
}

/* A memfd of zeros, so large that threads find pages to fault on all the time. */
static void begin_wide(struct keen *k)
{
	bed_init(&bed, WIDE_PAGES);
	bed.guest_opts.nr_shards = 64;
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	bed.image_opts.memfd = memfd_create("wide", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(bed.image_opts.memfd > 0, "memfd_create: %s", strerror(errno));
	CHECK(ftruncate(bed.image_opts.memfd, WIDE_PAGES * PAGE) == 0, "ftruncate");
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	k->mem = mmap(NULL, WIDE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      bed.image_opts.memfd, 0);
	CHECK(k->mem != MAP_FAILED, "mmap: %s", strerror(errno));
	atomic_init(&k->stop, false);
	bed.region_opts.image = bed.image;
	bed.region_opts.addr = (uintptr_t)k->mem;
}

/* Faults come from the moment on that the first stripe is registered. */
static void under_touching_threads(void)
{
	uint32_t nr = test_scale(10, 40, 1000);
	struct fln_stats s;
	struct crew crew;
	struct keen k;

	begin_wide(&k);
	OK(fln_guest_start(bed.guest));
	crew_start(&crew, 4, keep_touching, &k);
	wait_count(&crew.nr_begun, 4, WAIT_S, "threads that touch");
	for (uint32_t i = 0; i < nr; i++) {
		STEP("adding and removing for the %uth time", i);
		OK(fln_region_add(bed.guest, &bed.region_opts, &bed.region));
		if (i + 1 == nr)
			break;
		OK(fln_region_remove(bed.region));
		(void)madvise(k.mem, WIDE_PAGES * PAGE, MADV_REMOVE);
	}
	sleep_ms(50);
	atomic_store(&k.stop, true);
	crew_wait(&crew, WAIT_S, "threads that touch");
	settled_stats(bed.guest, &s);
	CHECK(s.faults > 0, "nobody faulted");
	CHECK(s.invalid == 0 && s.poisoned == 0, "%llu invalid, %llu poisoned",
	      (unsigned long long)s.invalid, (unsigned long long)s.poisoned);
	test_note("%llu faults", (unsigned long long)s.faults);
	bed_down(&bed);
	(void)munmap(k.mem, WIDE_PAGES * PAGE);
	(void)close(bed.image_opts.memfd);
}

/* The caller has read, and so mapped zeros, before anybody served the mapping. */
static void touched_before(void)
{
	uint64_t value;
	uint8_t *p;

	begin(4);
	p = map_image();
	for (uint64_t page = 0; page < NR_PAGES; page += 7)
		CHECK(touch_read(p + page * PAGE, &value) == TOUCH_OK && value == 0, "not zero");
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	read_all(&bed, 20);
	bed_down(&bed);
	(void)munmap(p, LEN);
}

/* What a child sees: 1: contents, 2: no mapping, 3: something else, 4: a page that is not there. */
static int seen_by_child(const uint8_t *at, uint64_t page)
{
	uint64_t value;
	int status;
	pid_t pid = fork();

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		enum touch end = touch_read(at + page * PAGE, &value);

		_exit(end == TOUCH_OK && value == word_of(1, page, 0) ? 1
		      : end == TOUCH_SIGSEGV                          ? 2
		      : end == TOUCH_SIGBUS                           ? 4
								      : 3);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "the child ended with 0x%x",
	      status);
	return WEXITSTATUS(status);
}

/* What another guest serves is refused, and nothing of it is given up by that. */
static void served_by_another(void)
{
	struct fln_region *region;
	struct fln_guest *other;
	uint64_t value;

	begin(4);
	bed_up(&bed);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &other));
	bed.region_opts.addr = (uintptr_t)bed.mem;
	REFUSED(fln_region_add(other, &bed.region_opts, &region), -EBUSY,
		test_hex(bed.region_opts.addr));
	REFUSED(fln_region_add(bed.guest, &bed.region_opts, &region), -EEXIST,
		test_hex(bed.region_opts.addr));
	CHECK(touch_read(bed_page(&bed, 5), &value) == TOUCH_OK && value == word_of(1, 5, 0),
	      "0x%llx", (unsigned long long)value);
	CHECK(seen_by_child(bed.mem, 6) == 2, "a child has the memory");
	OK(fln_guest_destroy(other));
	bed_down(&bed);
}

/* A mapping that was adopted is inherited again afterwards, with what may be read of it. */
static void and_children(void)
{
	uint8_t *p;

	for (int filled = 0; filled < 2; filled++) {
		begin(4);
		p = map_image();
		bed.region_opts.addr = (uintptr_t)p;
		bed_up(&bed);
		CHECK(seen_by_child(p, 3) == 2, "a child has the memory");
		OK(fln_image_fill(bed.image, 0, filled ? LEN : LEN / 2));
		OK(fln_region_remove(bed.region));
		CHECK(seen_by_child(p, 3) == 1, "%s", filled ? "filled" : "half");
		CHECK(seen_by_child(p, NR_PAGES - 1) == (filled ? 1 : 4), "zeros in a child?");
		bed_down(&bed);
		(void)munmap(p, LEN);
	}
}

int main(void)
{
	test_init();
	RUN(under_touching_threads);
	RUN(touched_before);
	RUN(served_by_another);
	RUN(and_children);
	return 0;
}
