/* SPDX-License-Identifier: MIT */
/*
 * fln-mkimage FILE SIZE [HOLE-PERCENT]
 *
 * Writes a memory image for tests.  Its pages are the same on every run, all
 * different and never zero, so that a wrongly mapped page is always detected.
 * HOLE-PERCENT of the pages, at random places, are holes of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define BATCH_PAGES 512u

/* One to one, so that different arguments give different results. */
static uint64_t splitmix64(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/*
 * The first word differs from page to page.  At most one word of all the
 * arguments used maps to zero, so no page is zero.
 */
static void fill_page(uint64_t *word, uint64_t page)
{
	for (uint64_t i = 0; i < PAGE_WORDS; i++)
		word[i] = splitmix64(page * PAGE_WORDS + i);
}

static bool is_hole(uint64_t page, uint64_t hole_percent)
{
	return splitmix64(~page) % 100 < hole_percent;
}

/* Parse a number with an optional suffix K, M or G; false when it is malformed. */
static bool parse_size(const char *text, uint64_t *bytes)
{
	char *end;
	unsigned shift = 0;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		return false;
	if (*end == 'K')
		shift = 10;
	else if (*end == 'M')
		shift = 20;
	else if (*end == 'G')
		shift = 30;
	if (shift)
		end++;
	if (*end != '\0' || *bytes > UINT64_MAX >> (shift + 1))
		return false;
	*bytes <<= shift;
	return true;
}

static bool write_all(int fd, const char *buffer, size_t len_bytes, uint64_t offset_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = pwrite(fd, buffer, len_bytes, (off_t)offset_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		buffer += n;
		len_bytes -= (size_t)n;
		offset_bytes += (uint64_t)n;
	}
	return true;
}

/* Write the runs of pages between holes, at most BATCH_PAGES at a time. */
static bool write_image(int fd, uint64_t nr_pages, uint64_t hole_percent)
{
	static uint64_t batch[BATCH_PAGES][PAGE_WORDS];
	uint64_t page = 0;

	while (page < nr_pages) {
		uint64_t first = page;

		while (page < nr_pages && page - first < BATCH_PAGES &&
		       !is_hole(page, hole_percent)) {
			fill_page(batch[page - first], page);
			page++;
		}
		if (page == first)
			page++; /* a hole */
		else if (!write_all(fd, (const char *)batch, (page - first) * PAGE_BYTES,
				    first * PAGE_BYTES))
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	uint64_t size_bytes;
	uint64_t hole_percent = 0;
	int fd;

	if (argc < 3 || argc > 4) {
		(void)fprintf(stderr, "usage: fln-mkimage FILE SIZE[K|M|G] [HOLE-PERCENT]\n");
		return 2;
	}
	if (!parse_size(argv[2], &size_bytes) || size_bytes == 0 || size_bytes % PAGE_BYTES) {
		(void)fprintf(stderr, "fln-mkimage: size '%s': use a multiple of %u bytes\n",
			      argv[2], PAGE_BYTES);
		return 2;
	}
	if (argc == 4 && (!parse_size(argv[3], &hole_percent) || hole_percent > 100)) {
		(void)fprintf(stderr, "fln-mkimage: hole percentage '%s': use 0 to 100\n", argv[3]);
		return 2;
	}

	fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, (off_t)size_bytes) ||
	    !write_image(fd, size_bytes / PAGE_BYTES, hole_percent) || close(fd)) {
		(void)fprintf(stderr, "fln-mkimage: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	return 0;
}
