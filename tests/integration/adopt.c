/* SPDX-License-Identifier: MIT */
/* Mappings of the caller's own: served when they are the image's, refused with a reason when not. */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 1500u
#define LEN (NR_PAGES * PAGE)

static struct bed bed;

static void begin(void)
{
	bed_init(&bed, NR_PAGES);
	bed_up_image(&bed);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
}

static void *map_at(uint64_t offset, uint64_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fln_image_memfd(bed.image),
		       (off_t)offset);

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static void adopted(void)
{
	uint64_t value;
	uint8_t *p;

	begin();
	p = map_at(0, LEN, MAP_SHARED);
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	CHECK(fln_region_addr(bed.region) == p, "another address");
	read_all(&bed, 200);
	STEP("fln_region_remove");
	OK(fln_region_remove(bed.region));
	/* It stays, filled, and is nobody's any more. */
	CHECK(touch_read(p + 8 * PAGE, &value) == TOUCH_OK && value == word_of(1, 8, 0), "0x%llx",
	      (unsigned long long)value);
	bed_down(&bed);
	CHECK(touch_read(p + 9 * PAGE, &value) == TOUCH_OK && value == word_of(1, 9, 0), "0x%llx",
	      (unsigned long long)value);
	(void)munmap(p, LEN);
}

/* In the middle of a mapping, in the middle of the image, at an odd page of a block. */
static void adopted_part(void)
{
	uint64_t value;
	uint8_t *p;

	begin();
	p = map_at(0, LEN, MAP_SHARED);
	bed.region_opts.addr = (uintptr_t)p + 333 * PAGE;
	bed.region_opts.image_offset_bytes = 333 * PAGE;
	bed.region_opts.len_bytes = 777 * PAGE;
	bed_up(&bed);
	for (uint64_t page = 333; page < 333 + 777; page++) {
		CHECK(touch_read(p + page * PAGE, &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
	bed_down(&bed);
	(void)munmap(p, LEN);
}

static void refuse(uint64_t addr, uint64_t offset, uint64_t len, int want, const char *word)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r = (void *)0x1;

	o.image = bed.image;
	o.addr = addr;
	o.image_offset_bytes = offset;
	o.len_bytes = len;
	REFUSED(fln_region_add(bed.guest, &o, &r), want, word);
	CHECK(r == (void *)0x1, "out was written");
}

/* Somebody else can have the range: nothing of it stayed registered. */
static void expect_free(void *p, uint64_t len)
{
	int uffd = raw_uffd(0);
	int rc = raw_register(uffd, p, len, UFFDIO_REGISTER_MODE_MISSING);

	CHECK(rc == 0, "the range is not free: %s", strerror(rc));
	CHECK(raw_unregister(uffd, p, len) == 0, "unregister");
	(void)close(uffd);
}

static void refused(void)
{
	char text[32];
	uint8_t *p, *hole;
	int other;

	begin();
	p = map_at(0, LEN, MAP_PRIVATE);
	(void)snprintf(text, sizeof(text), "%p", (void *)p);
	refuse((uintptr_t)p, 0, LEN, -EINVAL, text);
	(void)munmap(p, LEN);

	p = map_at(0, LEN, MAP_SHARED);
	(void)snprintf(text, sizeof(text), "%p", (void *)p);
	refuse((uintptr_t)p, PAGE, LEN - PAGE, -EINVAL, text); /* at another offset */
	expect_free(p, LEN);
	(void)munmap(p, LEN);

	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	(void)snprintf(text, sizeof(text), "%p", (void *)p);
	refuse((uintptr_t)p, 0, LEN, -EINVAL, text);
	(void)munmap(p, LEN);

	other = memfd_create("other", MFD_CLOEXEC);
	CHECK(ftruncate(other, LEN) == 0, "ftruncate");
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	(void)snprintf(text, sizeof(text), "%p", (void *)p);
	refuse((uintptr_t)p, 0, LEN, -EINVAL, text);
	(void)munmap(p, LEN);
	(void)close(other);

	/*
	 * A hole in it, or something else.  Of one page: a larger one could become the
	 * memory of another thread's allocator, until it is mapped over below.
	 */
	p = map_at(0, LEN, MAP_SHARED);
	hole = p + LEN / 2 / PAGE * PAGE;
	(void)munmap(hole, PAGE);
	(void)snprintf(text, sizeof(text), "%p", (void *)hole);
	refuse((uintptr_t)p, 0, LEN, -EINVAL, text);
	CHECK(mmap(hole, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		   0) == hole,
	      "mmap: %s", strerror(errno));
	refuse((uintptr_t)p, 0, LEN, -EINVAL, text);
	expect_free(p, (uint64_t)(hole - p));
	(void)munmap(p, LEN);

	/* Nothing there at all. */
	(void)snprintf(text, sizeof(text), "%p", (void *)p);
	refuse((uintptr_t)p, 0, LEN, -EINVAL, text);

	/* The guest is as good as new. */
	bed_up(&bed);
	read_all(&bed, 8);
	bed_down(&bed);
}

static void overlapping(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r;
	struct fln_guest *second;
	char text[32];
	uint8_t *p;
	int uffd;

	begin();
	p = map_at(0, LEN, MAP_SHARED);
	(void)snprintf(text, sizeof(text), "%p", (void *)p);
	bed.region_opts.addr = (uintptr_t)p;
	bed.region_opts.len_bytes = 1000 * PAGE;
	bed_up(&bed);
	refuse((uintptr_t)p, 0, LEN, -EEXIST, text);
	refuse((uintptr_t)p + 999 * PAGE, 999 * PAGE, PAGE, -EEXIST, text);
	refuse((uintptr_t)p + 999 * PAGE, 999 * PAGE, 2 * PAGE, -EEXIST, text);
	/* The neighbour is welcome. */
	o.image = bed.image;
	o.addr = (uintptr_t)p + 1000 * PAGE;
	o.image_offset_bytes = 1000 * PAGE;
	o.len_bytes = LEN - 1000 * PAGE;
	OK(fln_region_add(bed.guest, &o, &r));
	read_all(&bed, 50);
	/* Another guest may not have it. */
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &second));
	REFUSED(fln_region_add(second, &o, &r), -EBUSY, test_hex(o.addr));
	OK(fln_guest_destroy(second));
	read_all(&bed, 4);
	OK(fln_region_remove(r));

	/* Nor may we have what somebody else's userfaultfd has, even in part. */
	uffd = raw_uffd(0);
	CHECK(raw_register(uffd, p + 1400 * PAGE, PAGE, UFFDIO_REGISTER_MODE_MISSING) == 0,
	      "register");
	REFUSED(fln_region_add(bed.guest, &o, &r), -EBUSY, test_hex(o.addr));
	CHECK(raw_unregister(uffd, p + 1400 * PAGE, PAGE) == 0, "unregister");
	(void)close(uffd);
	expect_free(p + 1000 * PAGE, LEN - 1000 * PAGE);
	OK(fln_region_add(bed.guest, &o, &r));
	read_all(&bed, 4);
	bed_down(&bed);
	(void)munmap(p, LEN);
}

/*
 * What the caller does to its mapping splits it, and no install may cross that:
 * protection, advice, a part taken away.
 */
static void split_mapping(void)
{
	uint64_t value;
	bool right;
	uint8_t *p;

	begin();
	bed.guest_opts.window_first = bed.guest_opts.window_max = 512;
	OK(fln_guest_destroy(bed.guest));
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	p = map_at(0, LEN, MAP_SHARED);
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	STEP("splitting the mapping");
	CHECK(mprotect(p + 5 * PAGE, 3 * PAGE, PROT_READ) == 0, "mprotect");
	CHECK(madvise(p + 601 * PAGE, 1 * PAGE, MADV_DONTDUMP) == 0, "madvise");
	STEP("reading around the splits");
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		CHECK(touch_page(p + page * PAGE, 1, page, &right) == TOUCH_OK && right,
		      "page %llu", (unsigned long long)page);
	}
	CHECK(touch_read(p + 6 * PAGE, &value) == TOUCH_OK && value == word_of(1, 6, 0), "page 6");
	bed_down(&bed);
	(void)munmap(p, LEN);
}

/* Stopped with a split mapping: what was not filled is unreadable on both sides of the split. */
static void split_then_stop(void)
{
	uint64_t value;
	uint8_t *p;

	begin();
	p = map_at(0, LEN, MAP_SHARED);
	bed.region_opts.addr = (uintptr_t)p;
	bed_up(&bed);
	CHECK(mprotect(p + 100 * PAGE, 7 * PAGE, PROT_READ) == 0, "mprotect");
	CHECK(munmap(p + 700 * PAGE, 3 * PAGE) == 0, "munmap");
	STEP("fln_guest_stop");
	OK(fln_guest_stop(bed.guest));
	STEP("touching what was not filled");
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		enum touch end = touch_read(p + page * PAGE, &value);
		bool unmapped = page >= 700 && page < 703;

		CHECK(end == (unmapped ? TOUCH_SIGSEGV : TOUCH_SIGBUS),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)page, touch_name(end),
		      (unsigned long long)value);
	}
	bed_down(&bed);
	(void)munmap(p, LEN);
}

int main(void)
{
	test_init();
	RUN(adopted);
	RUN(adopted_part);
	RUN(refused);
	RUN(overlapping);
	RUN(split_mapping);
	RUN(split_then_stop);
	return 0;
}
