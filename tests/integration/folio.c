/* SPDX-License-Identifier: MIT */
/*
 * Images in large folios: the contents are the same whatever the host permits, memory stays within
 * its bound, and what is discarded or pushed reads as with small folios.
 */
#include "tests/integration/folio_bed.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* The host's setting before the test, and the pipe to the process that restores it. */
static char before[32];
static int keeper = -1;

static bool read_setting(char *word)
{
	char line[128], *at = NULL;
	FILE *f = fopen(SHMEM_ENABLED, "re");

	if (f) {
		at = fgets(line, sizeof(line), f) ? strchr(line, '[') : NULL;
		(void)fclose(f);
	}
	return at && sscanf(at + 1, "%30[a-z_]", word) == 1;
}

static bool write_setting(const char *word)
{
	int fd = open(SHMEM_ENABLED, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? write(fd, word, strlen(word)) : -1;

	if (fd >= 0)
		(void)close(fd);
	return n == (ssize_t)strlen(word);
}

/* Start a process that restores the setting when this one ends, even if it is killed. */
static void keep_setting(void)
{
	int ends[2];
	char end;

	CHECK(pipe(ends) == 0, "pipe: %s", strerror(errno));
	(void)fflush(stdout);
	if (fork() == 0) {
		(void)signal(SIGINT, SIG_IGN);
		(void)signal(SIGTERM, SIG_IGN);
		(void)setsid();
		(void)close(ends[1]);
		while (read(ends[0], &end, 1) < 0 && errno == EINTR)
			;
		(void)write_setting(before);
		_exit(0);
	}
	(void)close(ends[0]);
	keeper = fcntl(ends[1], F_DUPFD_CLOEXEC, 0);
	(void)close(ends[1]);
}

static void put_setting_back(void)
{
	(void)close(keeper);
	(void)wait(NULL);
}

static void contents(bool is_private, uint32_t folio)
{
	struct fln_memory_stats s;
	struct bed b;

	bed_init(&b, NR_PAGES);
	b.maker.every_zero = 7;
	b.image_opts.folio = folio;
	if (is_private) {
		b.region_opts.sharing = FLN_SHARING_PRIVATE;
		b.region_opts.discard = FLN_DISCARD_IMAGE;
	}
	bed_up(&b);
	touch_by_threads(&b);
	expect_all(&b);
	s = memory_of(&b);
	CHECK(s.large_blocks + s.refused_blocks + s.bounded_blocks <= NR_BLOCKS,
	      "%llu + %llu + %llu blocks", (unsigned long long)s.large_blocks,
	      (unsigned long long)s.refused_blocks, (unsigned long long)s.bounded_blocks);
	/* Each page is somewhere: in a folio of its own, or in one of 512. */
	CHECK(s.memory_bytes <= (NR_PAGES + 511) / 512 * BLOCK && s.memory_bytes >= s.spare_bytes,
	      "%llu bytes", (unsigned long long)s.memory_bytes);
	bed_down(&b);
}

/* How many blocks become large now; memory may be fragmented. */
static uint64_t nr_large_now(struct fln_memory_stats *s, bool *told)
{
	struct bed b;

	bed_init(&b, NR_PAGES);
	bed_up(&b);
	OK(fln_guest_populate(b.guest, (uint64_t)(uintptr_t)b.mem, NR_PAGES * PAGE, NULL));
	*s = memory_of(&b);
	*told = log_names(&b.log, FLN_LOG_INFO, "shmem_enabled");
	bed_down(&b);
	return s->large_blocks;
}

static void whatever_the_host_permits(void)
{
	static const struct {
		const char *word;
		bool permits;
	} words[] = { { "never", false },
		      { "advise", true },
		      { "within_size", true },
		      { "always", true },
		      { "deny", false } };

	for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct fln_memory_stats s;
		bool told;

		if (!write_setting(words[i].word))
			test_skip("cannot set %s: %s", SHMEM_ENABLED, strerror(errno));
		STEP("shmem_enabled = %s", words[i].word);
		nr_large_now(&s, &told);
		test_note("%s: %llu of %u blocks are large", words[i].word,
			  (unsigned long long)s.large_blocks, NR_BLOCKS);
		if (!words[i].permits)
			CHECK(s.large_blocks == 0, "%llu", (unsigned long long)s.large_blocks);
		CHECK(s.large_blocks + s.refused_blocks == NR_BLOCKS, "%llu and %llu",
		      (unsigned long long)s.large_blocks, (unsigned long long)s.refused_blocks);
		CHECK(told == (s.refused_blocks > 0), "told: %d", told);
		contents(false, FLN_FOLIO_AUTO);
		contents(true, FLN_FOLIO_AUTO);
		contents(false, FLN_FOLIO_LARGE);
	}
	CHECK(write_setting(before), "%s", SHMEM_ENABLED);
}

static void small_by_choice(void)
{
	struct fln_memory_stats s;
	struct bed b;

	bed_init(&b, NR_PAGES);
	b.image_opts.folio = FLN_FOLIO_SMALL;
	bed_up(&b);
	for (uint64_t page = 0; page < NR_PAGES; page += 512)
		expect(&b, page, due(&b, page));
	s = memory_of(&b);
	CHECK(s.large_blocks == 0 && s.memory_bytes == s.filled_bytes, "%llu large, %llu of %llu",
	      (unsigned long long)s.large_blocks, (unsigned long long)s.memory_bytes,
	      (unsigned long long)s.filled_bytes);
	bed_down(&b);
}

static void bad_arguments(void)
{
	struct fln_memory_stats s = FLN_MEMORY_STATS_INIT;
	struct {
		size_t size;
		uint64_t filled_bytes;
		uint64_t guard;
	} shorter = { 16, 1, 2 };
	struct bed b;

	bed_init(&b, 512);
	bed_up(&b);
	REFUSED(fln_image_memory_stats(NULL, &s), -EINVAL, "NULL");
	REFUSED(fln_image_memory_stats(b.image, NULL), -EINVAL, "NULL");
	s.size = 0;
	REFUSED(fln_image_memory_stats(b.image, &s), -EINVAL, "fln_memory_stats");
	/* An older program knows fewer fields. */
	OK(fln_image_memory_stats(b.image, (struct fln_memory_stats *)(void *)&shorter));
	CHECK(shorter.filled_bytes == 0 && shorter.guard == 2, "%llu and %llu",
	      (unsigned long long)shorter.filled_bytes, (unsigned long long)shorter.guard);
	bed_down(&b);
}

/* One page in 512 is touched: memory is at most twice that of small folios, and the bound. */
static void sparse_guests_are_bounded(void)
{
	const uint64_t spare = 8 * BLOCK, nr_blocks = 96;
	struct fln_memory_stats s;
	struct bed b;

	bed_init(&b, nr_blocks * 512);
	b.image_opts.folio_spare_bytes = spare;
	bed_up(&b);
	for (uint64_t page = 3; page < b.nr_pages; page += 512)
		expect(&b, page, due(&b, page));
	s = memory_of(&b);
	CHECK(s.memory_bytes <= 2 * s.filled_bytes + spare, "%llu bytes for %llu",
	      (unsigned long long)s.memory_bytes, (unsigned long long)s.filled_bytes);
	CHECK(s.spare_bytes <= s.filled_bytes + spare, "%llu to spare",
	      (unsigned long long)s.spare_bytes);
	if (s.refused_blocks == 0)
		CHECK(s.bounded_blocks > 0 && s.large_blocks >= 8, "%llu bounded, %llu large",
		      (unsigned long long)s.bounded_blocks, (unsigned long long)s.large_blocks);
	expect_all(&b);
	bed_down(&b);
}

static void discards_of_parts(void)
{
	struct bed b;
	char old[PAGE];

	bed_init(&b, NR_PAGES);
	bed_up(&b);
	for (uint64_t block = 0; block < NR_BLOCKS; block++)
		expect(&b, block * 512 + 64, due(&b, block * 512 + 64));
	STEP("discards of parts of folios");
	/* Filled pages, unfilled ones, and both. */
	CHECK(madvise(bed_page(&b, 66), 3 * PAGE, MADV_REMOVE) == 0, "%s", strerror(errno));
	CHECK(madvise(bed_page(&b, 512 + 300), 7 * PAGE, MADV_REMOVE) == 0, "%s", strerror(errno));
	CHECK(madvise(bed_page(&b, 1024 + 60), 300 * PAGE, MADV_REMOVE) == 0, "%s",
	      strerror(errno));
	CHECK(madvise(bed_page(&b, 1536 + 300), 5 * PAGE, MADV_DONTNEED) == 0, "%s",
	      strerror(errno));
	OK(fln_image_discard(b.image, (2048 + 10) * PAGE, 500 * PAGE));
	OK(fln_image_discard(b.image, 2560 * PAGE, 512 * PAGE));
	/* A page that was written, discarded, and pushed in vain. */
	CHECK(touch_write(bed_page(&b, 3072 + 64), 99) == TOUCH_OK, "write");
	OK(fln_image_discard(b.image, (3072 + 64) * PAGE, PAGE));
	memset(old, 0xaa, sizeof(old));
	OK(fln_image_put(b.image, (3072 + 64) * PAGE, old, PAGE));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		bool gone = (page >= 66 && page < 69) || (page >= 812 && page < 819) ||
			    (page >= 1084 && page < 1384) || (page >= 2058 && page < 2558) ||
			    (page >= 2560 && page < 3072) || page == 3072 + 64 ||
			    (page >= 1836 && page < 1841);

		expect(&b, page, gone ? 0 : due(&b, page));
	}
	bed_down(&b);
}

static void push_part(void *arg, uint32_t index)
{
	struct part *p = arg;
	uint64_t seed = 77;
	char *buf = malloc(64 * PAGE);

	CHECK(buf, "no memory");
	/* All threads push everything, in the same order of pieces. */
	for (uint64_t i = 0; i < p->b->nr_pages * 2 / 24; i++) {
		uint64_t page = next_random(&seed) % p->b->nr_pages;
		uint64_t nr = 1 + (next_random(&seed) + index) % 48;

		nr = nr > p->b->nr_pages - page ? p->b->nr_pages - page : nr;
		for (uint64_t k = 0; k < nr; k++)
			contents_of(p->b->maker.salt, page + k, buf + k * PAGE);
		OK(fln_image_put(p->b->image, page * PAGE, buf, nr * PAGE));
	}
	for (uint64_t page = 0; page < p->b->nr_pages; page++) {
		contents_of(p->b->maker.salt, page, buf);
		OK(fln_image_put(p->b->image, page * PAGE, buf, PAGE));
	}
	free(buf);
}

static void pushed_by_parts(void)
{
	struct part p = { NULL, 4 };
	struct crew crew;
	struct bed b;

	bed_init(&b, NR_PAGES);
	b.maker.concurrency = FLN_SOURCE_PARALLEL;
	atomic_store(&b.maker.gate_closed, true); /* its source never comes back in time */
	bed_up(&b);
	p.b = &b;
	crew_start(&crew, p.nr, push_part, &p);
	crew_wait(&crew, 60, "threads that push contents");
	touch_by_threads(&b);
	atomic_store(&b.maker.gate_closed, false);
	expect_all(&b);
	bed_down(&b);
}

int main(void)
{
	bool may_set = read_setting(before) && write_setting(before);

	/* Before there are threads. */
	if (may_set)
		keep_setting();
	test_init();
	RUN(bad_arguments);
	RUN(small_by_choice);
	RUN(sparse_guests_are_bounded);
	RUN(discards_of_parts);
	RUN(pushed_by_parts);
	if (may_set) {
		RUN(whatever_the_host_permits);
		put_setting_back();
	} else {
		test_note("%s cannot be set here: only its value now was tested", SHMEM_ENABLED);
	}
	return 0;
}
