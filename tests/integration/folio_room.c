/* SPDX-License-Identifier: MIT */
/*
 * Images in large folios on file systems that have a size: what has room with small folios has it
 * with large ones, and memory that large folios have to spare is given back where there is none.
 */
#include "tests/integration/folio_bed.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

/* A file of @nr_blocks on a tmpfs of its own.  -1: there is none. */
static int file_on(const char *mount_opts, uint64_t nr_blocks)
{
	char dir[] = "/tmp/fln-folio-room-XXXXXX", name[64];
	int fd;

	CHECK(mkdtemp(dir), "%s: %s", dir, strerror(errno));
	if (mount("none", dir, "tmpfs", 0, mount_opts) != 0) {
		test_note("no tmpfs of our own: %s", strerror(errno));
		(void)rmdir(dir);
		return -1;
	}
	(void)snprintf(name, sizeof(name), "%s/image", dir);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)(nr_blocks * BLOCK)) == 0, "%s: %s", name,
	      strerror(errno));
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
	return fd;
}

static void adopt(struct bed *b, int fd, uint64_t nr_blocks)
{
	bed_init(b, nr_blocks * 512);
	b->image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_UNSEALED;
	b->image_opts.memfd = fd;
}

/* A file on tmpfs that has room for less than two of its three blocks. */
static void no_room(void)
{
	int fd = file_on("size=3m,huge=advise", 3), rc;
	char *buf = malloc(BLOCK);
	struct bed b;

	if (fd < 0)
		return;
	adopt(&b, fd, 3);
	bed_up(&b);
	for (uint64_t block = 0; block < 3; block++) {
		for (uint64_t p = 0; p < 512; p++)
			contents_of(1, block * 512 + p, buf + p * PAGE);
		rc = fln_image_put(b.image, block * BLOCK, buf, BLOCK);
		CHECK(rc == (block == 0 ? 0 : -ENOSPC), "block %llu: %d: %s",
		      (unsigned long long)block, rc, fln_last_error());
	}
	for (uint64_t p = 0; p < 512; p++)
		expect(&b, p, word_of(1, p, 0));
	/* Room is made, and what found none is pushed again. */
	OK(fln_image_discard(b.image, 0, BLOCK));
	OK(fln_image_put(b.image, 2 * BLOCK, buf, BLOCK / 2));
	for (uint64_t p = 1024; p < 1024 + 256; p++)
		expect(&b, p, word_of(1, p, 0));
	expect(&b, 5, 0);
	bed_down(&b);
	(void)close(fd);
	free(buf);
}

/* Three fifths of each block are data.  Zeros in large folios would take the room of the rest. */
static int64_t three_fifths(void *ctx, uint64_t at, uint64_t len, int *is_hole)
{
	uint64_t page = at / PAGE % 512, left = (page < 307 ? 307 - page : 512 - page) * PAGE;

	(void)ctx;
	*is_hole = page >= 307;
	return (int64_t)(left < len ? left : len);
}

static int64_t read_any(void *ctx, uint64_t at, void *buf, uint64_t len)
{
	(void)ctx;
	for (uint64_t i = 0; i < len; i += PAGE)
		contents_of(1, (at + i) / PAGE, (char *)buf + i);
	return (int64_t)len;
}

static void room_for_the_contents(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "three fifths",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = read_any,
				      .extent = three_fifths };
	int fd = file_on("size=26m,huge=advise", 20);
	struct fln_memory_stats s;
	struct bed b;

	if (fd < 0)
		return;
	adopt(&b, fd, 20);
	OK(fln_source_create(&ops, NULL, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	OK(fln_image_fill(b.image, 0, b.nr_pages * PAGE));
	for (uint64_t p = 0; p < b.nr_pages; p += 101)
		expect(&b, p, p % 512 < 307 ? word_of(1, p, 0) : 0);
	bed_down(&b);
	(void)close(fd);
	/* Room for all of it, and so for large folios. */
	fd = file_on("size=42m,huge=advise", 20);
	adopt(&b, fd, 20);
	OK(fln_source_create(&ops, NULL, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	OK(fln_image_fill(b.image, 0, b.nr_pages * PAGE));
	s = memory_of(&b);
	CHECK(s.large_blocks + s.refused_blocks == 20, "%llu large, %llu refused",
	      (unsigned long long)s.large_blocks, (unsigned long long)s.refused_blocks);
	bed_down(&b);
	(void)close(fd);
}

/* What large folios have to spare is there for pages that are pushed, and for the source's. */
static void spare_is_given_back(bool pushed)
{
	int fd = file_on("size=16m,huge=advise", 32);
	struct fln_memory_stats s;
	struct bed b;
	char buf[PAGE];

	if (fd < 0)
		return;
	adopt(&b, fd, 32);
	b.image_opts.folio = FLN_FOLIO_LARGE;
	if (!pushed) {
		maker_source(&b.maker, &b.source);
		b.image_opts.source = b.source;
	}
	bed_up(&b);
	for (uint64_t page = 7; page < b.nr_pages; page += 512) {
		if (!pushed) {
			expect(&b, page, due(&b, page));
			continue;
		}
		contents_of(1, page, buf);
		OK(fln_image_put(b.image, page * PAGE, buf, PAGE));
	}
	s = memory_of(&b);
	CHECK(s.memory_bytes <= 16u << 20 && s.spare_bytes < s.memory_bytes,
	      "%llu of %llu to spare", (unsigned long long)s.spare_bytes,
	      (unsigned long long)s.memory_bytes);
	for (uint64_t page = 7; page < b.nr_pages; page += 512)
		expect(&b, page, word_of(1, page, 0));
	/* As much as there is room for. */
	for (uint64_t page = 0; page < (pushed ? 6 : 2) * 512u; page++) {
		contents_of(1, page, buf);
		OK(fln_image_put(b.image, page * PAGE, buf, PAGE));
	}
	bed_down(&b);
	(void)close(fd);
}

static void spare_for_pushes(void)
{
	spare_is_given_back(true);
}

static void spare_for_the_source(void)
{
	spare_is_given_back(false);
}

int main(void)
{
	test_init();
	RUN(no_room);
	RUN(room_for_the_contents);
	RUN(spare_for_pushes);
	RUN(spare_for_the_source);
	return 0;
}
