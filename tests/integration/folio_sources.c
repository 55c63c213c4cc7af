/* SPDX-License-Identifier: MIT */
/*
 * Where the contents of large folios come from and go to: files that are read in place, memory,
 * sources that fail; other engines, foreign memory.
 */
#include "tests/integration/folio_bed.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static char path[] = "/tmp/fln-folio-XXXXXX";

/* A file with the contents of @salt, and a hole of whole blocks and of pages. */
static void make_file(uint64_t salt)
{
	char page[PAGE];
	int fd = mkostemp(path, O_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, NR_PAGES * PAGE) == 0, "%s: %s", path, strerror(errno));
	for (uint64_t p = 0; p < NR_PAGES; p++) {
		if ((p >= 1024 && p < 2048) || p % 16 == 15)
			continue;
		contents_of(salt, p, page);
		CHECK(pwrite(fd, page, PAGE, (off_t)(p * PAGE)) == (ssize_t)PAGE, "%s: %s", path,
		      strerror(errno));
	}
	CHECK(fsync(fd) == 0, "%s: %s", path, strerror(errno));
	(void)close(fd);
}

static void from_a_file(bool cold)
{
	struct fln_memory_stats s;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct bed b;

	/* Every third page is not in the page cache: what is read in place stops there. */
	for (uint64_t p = 0; cold && p < NR_PAGES; p += 3)
		(void)posix_fadvise(fd, (off_t)(p * PAGE), (off_t)PAGE, POSIX_FADV_DONTNEED);
	(void)close(fd);
	bed_init(&b, NR_PAGES);
	OK(fln_source_open_file(path, 0, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	for (uint64_t p = 0; p < NR_PAGES; p += 200)
		expect(&b, p, (p >= 1024 && p < 2048) || p % 16 == 15 ? 0 : word_of(1, p, 0));
	OK(fln_image_fill(b.image, 0, NR_PAGES * PAGE));
	for (uint64_t p = 0; p < NR_PAGES; p++)
		expect(&b, p, (p >= 1024 && p < 2048) || p % 16 == 15 ? 0 : word_of(1, p, 0));
	/* Blocks that are holes take no memory but what was touched in them. */
	s = memory_of(&b);
	CHECK(s.memory_bytes <= NR_PAGES * PAGE, "%llu bytes", (unsigned long long)s.memory_bytes);
	CHECK(s.large_blocks <= NR_BLOCKS - 2, "%llu large", (unsigned long long)s.large_blocks);
	bed_down(&b);
}

static void from_files(void)
{
	make_file(1);
	from_a_file(false);
	from_a_file(true);
	(void)unlink(path);
}

static void from_memory(void)
{
	char *src = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	struct bed b;

	CHECK(src != MAP_FAILED, "mmap: %s", strerror(errno));
	for (uint64_t p = 0; p < NR_PAGES; p++)
		contents_of(1, p, src + p * PAGE);
	bed_init(&b, NR_PAGES);
	OK(fln_source_from_memory(src, NR_PAGES * PAGE, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	touch_by_threads(&b);
	read_all(&b, 4);
	bed_down(&b);
	(void)munmap(src, NR_PAGES * PAGE);
}

/* Pages that fail are poisoned, their neighbours in the folio are not; later they are zero, or filled. */
static void failing_sources(void)
{
	struct fln_source_error_opts o = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *inner;
	uint64_t value;
	struct bed b;

	bed_init(&b, NR_PAGES);
	maker_source(&b.maker, &inner);
	o.error = EIO;
	o.fail_percent = 100;
	o.offset_bytes = 100 * PAGE;
	o.len_bytes = 8 * PAGE;
	OK(fln_source_with_errors(inner, &o, &b.source));
	fln_source_destroy(inner);
	b.image_opts.source = b.source;
	b.engine_opts.source_retries = UINT32_MAX;
	bed_up(&b);
	for (uint64_t p = 64; p < 128; p++) {
		bool bad = p >= 100 && p < 108;
		enum touch end = touch_read(bed_page(&b, p), &value);

		CHECK(end == (bad ? TOUCH_SIGBUS : TOUCH_OK) && (bad || value == due(&b, p)),
		      "page %llu: the thread %s", (unsigned long long)p, touch_name(end));
	}
	OK(fln_image_discard(b.image, 100 * PAGE, 4 * PAGE));
	for (uint64_t p = 0; p < NR_PAGES; p++) {
		if (p < 104 || p >= 108)
			expect(&b, p, p >= 100 && p < 104 ? 0 : due(&b, p));
	}
	bed_down(&b);
}

struct sharing {
	struct fln_image *image;
	int fd;
};

static void share(void *arg, uint32_t index)
{
	struct sharing *s = arg;

	(void)index;
	OK(fln_image_share(s->image, s->fd));
}

/* Two engines, as two processes have them. */
static void attached(void)
{
	struct sharing s;
	struct crew crew;
	struct bed a, b;
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair: %s",
	      strerror(errno));
	bed_init(&a, NR_PAGES);
	a.maker.every_zero = 5;
	bed_up(&a);
	s = (struct sharing){ a.image, ends[0] };
	crew_start(&crew, 1, share, &s);
	bed_init(&b, NR_PAGES);
	b.maker.every_zero = 5;
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	OK(fln_engine_start(b.engine));
	OK(fln_image_attach(b.engine, ends[1], NULL, &b.image));
	bed_up(&b);
	touch_by_threads(&b);
	touch_by_threads(&a);
	CHECK(memory_of(&b).large_blocks == 0, "the attached image allocates");
	CHECK(madvise(bed_page(&b, 700), 9 * PAGE, MADV_REMOVE) == 0, "%s", strerror(errno));
	for (uint64_t p = 0; p < NR_PAGES; p++) {
		expect(&b, p, p >= 700 && p < 709 ? 0 : due(&b, p));
		expect(&a, p, p >= 700 && p < 709 ? 0 : due(&a, p));
	}
	bed_down(&b);
	(void)shutdown(ends[1], SHUT_RDWR);
	crew_wait(&crew, WAIT_S, "fln_image_share() returns");
	bed_down(&a);
	(void)close(ends[0]);
	(void)close(ends[1]);
}

/* Anonymous memory that is filled by copies from the folios. */
static void foreign(void)
{
	uint8_t *p = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);
	struct bed b;

	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(p, NR_PAGES * PAGE, MADV_NOHUGEPAGE);
	CHECK(raw_register(uffd, p, NR_PAGES * PAGE, UFFDIO_REGISTER_MODE_MISSING) == 0,
	      "register");
	bed_init(&b, NR_PAGES);
	b.maker.every_zero = 6;
	b.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	b.guest_opts.foreign_uffd = uffd;
	b.region_opts.addr = (uintptr_t)p;
	bed_up(&b);
	touch_by_threads(&b);
	expect_all(&b);
	bed_down(&b);
	(void)munmap(p, NR_PAGES * PAGE);
}

int main(void)
{
	test_init();
	RUN(from_files);
	RUN(from_memory);
	RUN(failing_sources);
	RUN(attached);
	RUN(foreign);
	return 0;
}
