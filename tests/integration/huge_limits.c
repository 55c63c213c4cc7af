/* SPDX-License-Identifier: MIT */
/* Huge pages that there are not enough of, and what regions of them cannot be. */
#include "tests/integration/harness.h"
#include "tests/support/hugepages.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PER_BLOCK (BLOCK / PAGE)
#define NR_BLOCKS 16u

static int make_hugetlb(uint64_t blocks)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | (21U << 26));

	CHECK(fd >= 0, "memfd_create: %s", strerror(errno));
	CHECK(ftruncate(fd, (off_t)(blocks * BLOCK)) == 0, "ftruncate: %s", strerror(errno));
	return fd;
}

/* Another program takes all huge pages but @left. */
static int hog(uint64_t left)
{
	uint64_t free_pages = hugepages_free();
	int fd = make_hugetlb(NR_BLOCKS);

	CHECK(free_pages >= left, "%llu huge pages are free, not %llu",
	      (unsigned long long)free_pages, (unsigned long long)left);
	if (free_pages > left)
		CHECK(fallocate(fd, 0, 0, (off_t)((free_pages - left) * BLOCK)) == 0,
		      "fallocate: %s", strerror(errno));
	return fd;
}

/* An adopted memfd, of which nothing is reserved. */
static void adopt(struct bed *b, uint64_t blocks, uint64_t flags, int *fd)
{
	*fd = make_hugetlb(blocks);
	bed_init(b, blocks * PER_BLOCK);
	b->image_opts.flags = FLN_IMAGE_F_ADOPT | flags;
	b->image_opts.memfd = *fd;
}

/* Zeros take a huge page each: a thread that finds none waits, is told of, and goes on. */
static void zeros_run_out(void)
{
	struct toucher t[4];
	struct bed b;
	int fd, taken;

	adopt(&b, 8, FLN_IMAGE_F_FILLED, &fd);
	bed_up(&b);
	taken = hog(4);
	for (uint64_t i = 0; i < 4; i++) {
		toucher_read(&t[i], bed_page(&b, i * PER_BLOCK));
		toucher_expect_value(&t[i], 0, "zeros for which there is a page");
	}
	for (uint64_t i = 0; i < 4; i++)
		toucher_read(&t[i], bed_page(&b, (4 + i) * PER_BLOCK + i));
	STEP("waiting for what is said");
	wait_log(&b.log, FLN_LOG_WARNING, "vm.nr_hugepages");
	for (uint64_t i = 0; i < 4; i++)
		toucher_expect_asleep(&t[i], 20, "a thread that waits for a huge page");
	STEP("pages come back");
	(void)close(taken);
	for (uint64_t i = 0; i < 4; i++)
		toucher_expect_value(&t[i], 0, "zeros, when there is a page again");
	bed_down(&b);
	(void)close(fd);
}

/* It does not last for ever: after the source timeout the page is poisoned. */
static void zeros_never_come(void)
{
	struct toucher t;
	struct bed b;
	int fd, taken;

	adopt(&b, 2, FLN_IMAGE_F_FILLED, &fd);
	b.engine_opts.source_timeout_ns = 200 * MS;
	bed_up(&b);
	taken = hog(0);
	toucher_read(&t, bed_page(&b, 5));
	toucher_expect(&t, TOUCH_SIGBUS, "zeros for which there is never a page");
	(void)close(taken);
	toucher_read(&t, bed_page(&b, PER_BLOCK));
	toucher_expect_value(&t, 0, "another page, later");
	bed_down(&b);
	(void)close(fd);
}

/* A thread that has waited for contents, and is due zeros then, has that patience from then on. */
static void zeros_after_a_long_wait(void)
{
	struct toucher t;
	struct bed b;
	int fd, taken;

	adopt(&b, 2, 0, &fd);
	b.engine_opts.source_timeout_ns = 1500 * MS;
	bed_up(&b);
	taken = hog(0);
	toucher_read(&t, bed_page(&b, 5));
	toucher_expect_asleep(&t, 1600, "nobody pushes the page");
	OK(fln_image_discard(b.image, 0, BLOCK));
	STEP("waiting for what is said");
	wait_log(&b.log, FLN_LOG_WARNING, "vm.nr_hugepages");
	(void)close(taken);
	toucher_expect_value(&t, 0, "zeros, when there is a page again");
	bed_down(&b);
	(void)close(fd);
}

/* Contents need a page as well: a filler is not killed, and goes on. */
static void fills_run_out(void)
{
	struct toucher t[6];
	struct bed b;
	int fd, taken;

	adopt(&b, 6, 0, &fd);
	maker_source(&b.maker, &b.source);
	b.image_opts.source = b.source;
	bed_up(&b);
	taken = hog(2);
	for (uint64_t i = 0; i < 6; i++)
		toucher_read(&t[i], bed_page(&b, i * PER_BLOCK + 3));
	STEP("waiting for what is said");
	wait_log(&b.log, FLN_LOG_WARNING, "vm.nr_hugepages");
	STEP("pages come back");
	(void)close(taken);
	for (uint64_t i = 0; i < 6; i++)
		toucher_expect_value(&t[i], word_of(b.maker.salt, i * PER_BLOCK + 3, 0),
				     "contents, when there is a page again");
	read_all(&b, 8);
	bed_down(&b);
	(void)close(fd);
}

/* fln_image_put() says so, and nothing half-pushed is ever seen. */
static void puts_run_out(void)
{
	char *buf = malloc(BLOCK);
	struct toucher t;
	enum touch end;
	struct bed b;
	int fd, taken;

	CHECK(buf, "no memory");
	for (uint64_t i = 0; i < PER_BLOCK; i++)
		contents_of(1, i, buf + i * PAGE);
	adopt(&b, 2, 0, &fd);
	bed_up(&b);
	taken = hog(0);
	toucher_read(&t, bed_page(&b, 9));
	REFUSED(fln_image_put(b.image, 0, buf, BLOCK), -ENOSPC, "vm.nr_hugepages");
	toucher_expect_asleep(&t, 20, "a page that could not be pushed");
	(void)close(taken);
	REFUSED(fln_image_put(b.image, 0, (void *)(uintptr_t)PAGE, BLOCK), -EFAULT, "2097152");
	toucher_expect_asleep(&t, 20, "a page whose contents could not be read");
	OK(fln_image_put(b.image, 0, buf, BLOCK));
	toucher_expect_value(&t, word_of(1, 9, 0), "the page that was pushed again");
	OK(fln_guest_stop(b.guest));
	end = touch_read(bed_page(&b, PER_BLOCK), &(uint64_t){ 0 });
	CHECK(end == TOUCH_SIGBUS || end == TOUCH_SIGSEGV, "what was never pushed: %s",
	      touch_name(end));
	bed_down(&b);
	free(buf);
	(void)close(fd);
}

static struct bed owner;
static int ends[2];
static struct fln_image *attached;
static _Atomic uint32_t nr_shared, nr_asked;
static uint64_t fill_bytes;
static int fill_rc;

static void *share_main(void *arg)
{
	(void)arg;
	OK(fln_image_share(owner.image, ends[0]));
	atomic_store(&nr_shared, 1);
	return NULL;
}

static void *ask_main(void *arg)
{
	(void)arg;
	fill_rc = fln_image_fill(attached, 0, fill_bytes);
	atomic_store(&nr_asked, 1);
	return NULL;
}

/*
 * A huge page of which a part is there, asked for by another process (another engine,
 * here): all of it is filled, or the answer is that there is no memory.
 */
static void share_half_filled(uint32_t error, uint64_t ask_bytes, int want)
{
	struct fln_source_error_opts errors = FLN_SOURCE_ERROR_OPTS_INIT;
	pthread_t sharer, asker;
	struct fln_engine *engine;
	struct fln_source *inner;
	char buf[PAGE];
	int fd;

	adopt(&owner, 2, 0, &fd);
	maker_source(&owner.maker, &inner);
	errors.error = error;
	if (error) {
		OK(fln_source_with_errors(inner, &errors, &owner.source));
		fln_source_destroy(inner);
	} else {
		owner.source = inner;
	}
	owner.image_opts.source = owner.source;
	bed_up(&owner);
	contents_of(1, 0, buf);
	OK(fln_image_put(owner.image, 0, buf, PAGE));
	OK(fln_engine_create(&owner.engine_opts, &engine));
	OK(fln_engine_start(engine));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
	atomic_store(&nr_shared, 0);
	CHECK(pthread_create(&sharer, NULL, share_main, NULL) == 0, "pthread_create");
	OK(fln_image_attach(engine, ends[1], NULL, &attached));
	atomic_store(&nr_asked, 0);
	fill_bytes = ask_bytes;
	CHECK(pthread_create(&asker, NULL, ask_main, NULL) == 0, "pthread_create");
	wait_count(&nr_asked, 1, WAIT_S, "fln_image_fill() of the attached image returns");
	CHECK(fill_rc == want, "it returned %d and not %d", fill_rc, want);
	(void)pthread_join(asker, NULL);
	OK(fln_image_destroy(attached));
	wait_count(&nr_shared, 1, WAIT_S, "fln_image_share() returns");
	(void)pthread_join(sharer, NULL);
	OK(fln_engine_destroy(engine));
	bed_down(&owner);
	(void)close(ends[0]);
	(void)close(ends[1]);
	(void)close(fd);
}

static void shared_and_failed(void)
{
	share_half_filled(EIO, BLOCK, -EIO);
}

static void shared_in_part(void)
{
	share_half_filled(0, PAGE, 0);
}

/* An image of our own takes its pages when it is made, or is not made. */
static void reserved_at_once(void)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	struct fln_image *image, *second;
	struct bed b;

	bed_init(&b, PER_BLOCK);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	o.page_bytes = BLOCK;
	o.len_bytes = (NR_BLOCKS + 1) * BLOCK;
	REFUSED(fln_image_create(b.engine, &o, &image), -ENOMEM, "17");
	REFUSED(fln_image_create(b.engine, &o, &image), -ENOMEM, "vm.nr_hugepages");
	o.len_bytes = (NR_BLOCKS - 1) * BLOCK;
	OK(fln_image_create(b.engine, &o, &image));
	o.len_bytes = 2 * BLOCK;
	REFUSED(fln_image_create(b.engine, &o, &second), -ENOMEM, "2 1");
	OK(fln_image_destroy(image));
	OK(fln_image_create(b.engine, &o, &second));
	OK(fln_image_destroy(second));
	CHECK(hugepages_free() == NR_BLOCKS, "%llu huge pages have come back",
	      (unsigned long long)hugepages_free());
	OK(fln_engine_destroy(b.engine));
}

static void bad_images(void)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int shmem = memfd_create("shmem", MFD_CLOEXEC | MFD_ALLOW_SEALING), huge = make_hugetlb(2);
	struct fln_image *image;
	struct bed b;

	bed_init(&b, PER_BLOCK);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	o.page_bytes = 1u << 30;
	o.len_bytes = 1u << 30;
	REFUSED(fln_image_create(b.engine, &o, &image), -EINVAL, "page_bytes");
	o.page_bytes = BLOCK;
	o.len_bytes = BLOCK + PAGE;
	REFUSED(fln_image_create(b.engine, &o, &image), -EINVAL, "len_bytes");
	CHECK(ftruncate(shmem, (off_t)BLOCK) == 0, "ftruncate: %s", strerror(errno));
	o.flags = FLN_IMAGE_F_ADOPT;
	o.memfd = shmem;
	o.len_bytes = BLOCK;
	REFUSED(fln_image_create(b.engine, &o, &image), -EINVAL, "page_bytes");
	o.memfd = huge;
	o.page_bytes = PAGE;
	REFUSED(fln_image_create(b.engine, &o, &image), -EINVAL, "page_bytes");
	o.page_bytes = 0;
	o.len_bytes = BLOCK + PAGE;
	REFUSED(fln_image_create(b.engine, &o, &image), -EINVAL, "len_bytes");
	o.len_bytes = 2 * BLOCK;
	OK(fln_image_create(b.engine, &o, &image));
	REFUSED(fln_image_discard(image, 0, PAGE), -EINVAL, "2097152");
	REFUSED(fln_image_discard(image, PAGE, BLOCK), -EINVAL, "2097152");
	OK(fln_image_destroy(image));
	OK(fln_engine_destroy(b.engine));
	(void)close(shmem);
	(void)close(huge);
}

static void bad_regions(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_guest *guest;
	struct fln_region *region;
	struct fln_image *image;
	struct bed b;

	bed_init(&b, PER_BLOCK);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	OK(fln_guest_create(b.engine, NULL, &guest));
	image_opts.page_bytes = BLOCK;
	image_opts.len_bytes = 4 * BLOCK;
	OK(fln_image_create(b.engine, &image_opts, &image));
	o.image = image;
	o.len_bytes = 2 * BLOCK;
	o.page_bytes = PAGE;
	REFUSED(fln_region_add(guest, &o, &region), -EINVAL, "page_bytes");
	o.page_bytes = BLOCK;
	o.image_offset_bytes = PAGE;
	REFUSED(fln_region_add(guest, &o, &region), -EINVAL, "image_offset_bytes");
	o.image_offset_bytes = BLOCK;
	o.len_bytes = BLOCK + PAGE;
	REFUSED(fln_region_add(guest, &o, &region), -EINVAL, "len_bytes");
	o.len_bytes = 2 * BLOCK;
	o.addr = 5 * PAGE;
	REFUSED(fln_region_add(guest, &o, &region), -EINVAL, "addr");
	o.addr = 0;
	o.sharing = FLN_SHARING_PRIVATE;
	REFUSED(fln_region_add(guest, &o, &region), -EOPNOTSUPP, "page_bytes 4096");
	o.sharing = FLN_SHARING_SHARED;
	OK(fln_region_add(guest, &o, &region));
	CHECK((uintptr_t)fln_region_addr(region) % BLOCK == 0, "the region is at %p",
	      fln_region_addr(region));
	OK(fln_guest_destroy(guest));
	OK(fln_image_destroy(image));
	OK(fln_engine_destroy(b.engine));
}

int main(void)
{
	const char *why = hugepages_take(NR_BLOCKS);

	if (why)
		test_skip("%s", why);
	test_init();
	RUN(zeros_run_out);
	RUN(zeros_never_come);
	RUN(zeros_after_a_long_wait);
	RUN(fills_run_out);
	RUN(puts_run_out);
	RUN(shared_and_failed);
	RUN(shared_in_part);
	RUN(reserved_at_once);
	RUN(bad_images);
	RUN(bad_regions);
	return 0;
}
