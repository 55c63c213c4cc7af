/* SPDX-License-Identifier: MIT */
/*
 * Hosts whose mappings are touched before anybody serves them: by the kernel, after
 * mlockall(MCL_FUTURE), or by mmap() itself, where something puts MAP_POPULATE into it.
 */
#include "tests/integration/harness.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_PAGES 4096u

/* What a wrapper of mmap() does: a library that is preloaded, a sanitizer, an allocator. */
static _Atomic int more_flags;

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags | atomic_load(&more_flags), fd,
			       offset);
}

static void each_page(const struct bed *b)
{
	uint64_t value;

	for (uint64_t page = 0; page < b->nr_pages; page++) {
		enum touch t = touch_read(bed_page(b, page), &value);

		CHECK(t == TOUCH_OK && value == word_of(1, page, 0),
		      "page %llu: the thread %s, 0x%llx", (unsigned long long)page, touch_name(t),
		      (unsigned long long)value);
	}
}

static uint64_t cached_bytes(int fd)
{
	uint64_t end = NR_PAGES * PAGE, nr = 0;
	off_t at = 0, hole;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && (uint64_t)at < end) {
		hole = lseek(fd, at, SEEK_HOLE);
		nr += (uint64_t)(hole - at);
		at = hole;
	}
	return nr;
}

/* One bed from the beginning: nothing is there before it is asked for. */
static void bed(enum fln_sharing sharing, enum fln_delivery delivery)
{
	struct fln_stats s = FLN_STATS_INIT;
	struct bed b;
	int fd;

	bed_init(&b, NR_PAGES);
	b.region_opts.sharing = sharing;
	b.region_opts.delivery = delivery;
	if (delivery == FLN_DELIVERY_IN_CONTEXT) {
		b.region_opts.discard = FLN_DISCARD_IMAGE;
		OK(fln_thread_enter());
	}
	bed_up(&b);
	fd = fln_image_memfd(b.image);
	CHECK(cached_bytes(fd) == 0, "%llu bytes are in the cache of an image nobody has touched",
	      (unsigned long long)cached_bytes(fd));
	each_page(&b);
	settled_stats(b.guest, &s);
	CHECK(s.faults > 0, "there was no fault");
	/* Nor is it locked: the guest gives pages up as ever. */
	CHECK(madvise(bed_page(&b, 9), 20 * PAGE, MADV_DONTNEED) == 0, "DONTNEED: %s",
	      strerror(errno));
	if (delivery == FLN_DELIVERY_IN_CONTEXT)
		fln_thread_leave();
	bed_down(&b);
}

static void beds(void)
{
	bed(FLN_SHARING_SHARED, FLN_DELIVERY_QUEUED);
	bed(FLN_SHARING_PRIVATE, FLN_DELIVERY_QUEUED);
}

static void populated(void)
{
	atomic_store(&more_flags, MAP_POPULATE);
	beds();
	atomic_store(&more_flags, 0);
}

static void all_is_locked(void)
{
	CHECK(mlockall(MCL_FUTURE) == 0, "mlockall: %s", strerror(errno));
	beds();
	CHECK(munlockall() == 0, "munlockall: %s", strerror(errno));
}

/* The image is made before, and has been locked with all else. */
static void locked_after_the_image(void)
{
	struct bed b;

	bed_init(&b, NR_PAGES);
	bed_up_image(&b);
	CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0, "mlockall: %s", strerror(errno));
	bed_up(&b);
	each_page(&b);
	bed_down(&b);
	CHECK(munlockall() == 0, "munlockall: %s", strerror(errno));
}

/* More than may be locked: refused, with the limit's name, and nothing is left behind. */
static void more_than_may_be_locked(void)
{
	struct rlimit old, low;
	struct fln_region *region;
	uint32_t maps;
	struct bed b;

	if (geteuid() == 0) {
		test_note("this process may lock what it likes");
		return;
	}
	bed_init(&b, NR_PAGES);
	bed_up_image(&b);
	OK(fln_guest_create(b.engine, &b.guest_opts, &b.guest));
	b.region_opts.image = b.image;
	CHECK(getrlimit(RLIMIT_MEMLOCK, &old) == 0, "getrlimit");
	low = old;
	low.rlim_cur = 1 << 20;
	CHECK(setrlimit(RLIMIT_MEMLOCK, &low) == 0 && mlockall(MCL_FUTURE) == 0, "mlockall: %s",
	      strerror(errno));
	maps = count_maps();
	REFUSED(fln_region_add(b.guest, &b.region_opts, &region), -EAGAIN, "RLIMIT_MEMLOCK");
	CHECK(count_maps() == maps, "%u mappings, before %u", count_maps(), maps);
	CHECK(munlockall() == 0 && setrlimit(RLIMIT_MEMLOCK, &old) == 0, "munlockall");
	bed_up(&b);
	each_page(&b);
	bed_down(&b);
}

int main(void)
{
	struct rlimit limit;

	test_init();
	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
	    (geteuid() != 0 && limit.rlim_cur < (256u << 20)))
		test_note("RLIMIT_MEMLOCK is %llu: mlockall() is left out",
			  (unsigned long long)limit.rlim_cur);
	RUN(populated);
	if (geteuid() == 0 || limit.rlim_cur >= (256u << 20)) {
		RUN(all_is_locked);
		RUN(locked_after_the_image);
	}
	RUN(more_than_may_be_locked);
	return 0;
}
