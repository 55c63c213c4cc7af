/* SPDX-License-Identifier: MIT */
/* Adopted memfds are sealed against shrinking; those that cannot be are refused, or taken at a risk. */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NR_PAGES 600u
#define LEN (NR_PAGES * PAGE)

static struct bed bed;

static int make_memfd(unsigned int flags)
{
	static _Alignas(8) char buf[PAGE];
	int fd = memfd_create("adopted", MFD_CLOEXEC | flags);

	CHECK(fd >= 0, "memfd_create: %s", strerror(errno));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		contents_of(1, page, buf);
		CHECK(write(fd, buf, PAGE) == (ssize_t)PAGE, "%s", strerror(errno));
	}
	return fd;
}

static int seals_of(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	CHECK(seals >= 0, "F_GET_SEALS: %s", strerror(errno));
	return seals;
}

static void adopt(int fd, uint64_t flags)
{
	bed_init(&bed, NR_PAGES);
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED | flags;
	bed.image_opts.memfd = fd;
	bed_up(&bed);
}

static void expect_uncuttable(int fd)
{
	CHECK(ftruncate(fd, LEN / 2) != 0 && errno == EPERM, "the memfd could be cut");
	read_all(&bed, 20);
	bed_down(&bed);
	(void)close(fd);
}

static void seal_is_added(void)
{
	int fd = make_memfd(MFD_ALLOW_SEALING);
	int before = seals_of(fd);

	CHECK(!(before & F_SEAL_SHRINK), "sealed already: 0x%x", (unsigned int)before);
	adopt(fd, 0);
	CHECK(seals_of(fd) == (before | F_SEAL_SHRINK), "seals 0x%x", (unsigned int)seals_of(fd));
	expect_uncuttable(fd);
}

/* Sealed by its owner, which allows no more seals: nothing is left to be done. */
static void sealed_already(void)
{
	int fd = make_memfd(MFD_ALLOW_SEALING);

	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0, "%s", strerror(errno));
	adopt(fd, 0);
	expect_uncuttable(fd);
}

static void expect_refused(int fd, const char *word)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	struct fln_image *image = (void *)0x1;

	bed_init(&bed, NR_PAGES);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	o.len_bytes = LEN;
	o.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	o.memfd = fd;
	REFUSED(fln_image_create(bed.engine, &o, &image), -EPERM, word);
	REFUSED(fln_image_create(bed.engine, &o, &image), -EPERM, "FLN_IMAGE_F_UNSEALED");
	CHECK(image == (void *)0x1, "out was written");
	OK(fln_engine_destroy(bed.engine));
	/* A caller that takes the risk is served, and contents that are cut off are a signal, never zeros. */
	adopt(fd, FLN_IMAGE_F_UNSEALED);
	read_all(&bed, 20);
	CHECK(ftruncate(fd, LEN / 2) == 0, "ftruncate: %s", strerror(errno));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t value;
		enum touch end = touch_read(bed_page(&bed, page), &value);

		CHECK(end == (page < NR_PAGES / 2 ? TOUCH_OK : TOUCH_SIGBUS),
		      "page %llu: the thread %s", (unsigned long long)page, touch_name(end));
	}
	bed_down(&bed);
	(void)close(fd);
}

static void without_sealing(void)
{
	expect_refused(make_memfd(0), "MFD_ALLOW_SEALING");
}

static void no_more_seals(void)
{
	int fd = make_memfd(MFD_ALLOW_SEALING);

	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) == 0, "%s", strerror(errno));
	expect_refused(fd, "F_SEAL_SEAL");
}

/* A file on tmpfs has no seals, and never will. */
static void file_on_tmpfs(void)
{
	char path[] = "/dev/shm/fln-seals-XXXXXX";
	static _Alignas(8) char buf[PAGE];
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0) {
		test_note("no file on /dev/shm: %s", strerror(errno));
		return;
	}
	(void)unlink(path);
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		contents_of(1, page, buf);
		CHECK(write(fd, buf, PAGE) == (ssize_t)PAGE, "%s", strerror(errno));
	}
	expect_refused(fd, "descriptor");
}

static void flag_alone(void)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	struct fln_image *image = (void *)0x1;

	bed_init(&bed, NR_PAGES);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	o.len_bytes = LEN;
	o.flags = FLN_IMAGE_F_UNSEALED;
	REFUSED(fln_image_create(bed.engine, &o, &image), -EINVAL, "FLN_IMAGE_F_ADOPT");
	OK(fln_engine_destroy(bed.engine));
}

int main(void)
{
	test_init();
	RUN(seal_is_added);
	RUN(sealed_already);
	RUN(without_sealing);
	RUN(no_more_seals);
	RUN(file_on_tmpfs);
	RUN(flag_alone);
	return 0;
}
