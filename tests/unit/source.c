/* SPDX-License-Identifier: MIT */
/* Sources: reading on, ends, extents, references, one call at a time, and the wrappers. */
#include "sources/source.h"

#include "base/clock.h"
#include "base/page.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/names.h"

#define PAGE ((uint64_t)FLN_PAGE_BYTES)
#define NR_PAGES 16u
#define LEN (NR_PAGES * PAGE)

static _Alignas(4096) unsigned char contents[LEN];
static _Alignas(4096) unsigned char buf[LEN];

/* An embedder's source whose answers the test chooses. */
struct fake {
	const int64_t *answers; /* of read, in turn; when they are used up, all is read */
	uint32_t nr_answers;
	uint32_t nr_reads;
	uint64_t last_offset;
	int64_t extent;
	int extent_is_hole;
	uint32_t nr_destroyed;
};

static int64_t fake_read(void *ctx, uint64_t offset_bytes, void *into, uint64_t len_bytes)
{
	struct fake *f = ctx;
	uint32_t i = f->nr_reads++;
	int64_t n = i < f->nr_answers ? f->answers[i] : (int64_t)len_bytes;

	f->last_offset = offset_bytes;
	if (n > 0 && (uint64_t)n <= len_bytes)
		memcpy(into, contents + offset_bytes, (size_t)n);
	return n;
}

static int64_t fake_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	struct fake *f = ctx;

	(void)offset_bytes;
	(void)len_bytes;
	*is_hole = f->extent_is_hole;
	return f->extent;
}

static void fake_destroy(void *ctx)
{
	struct fake *f = ctx;

	f->nr_destroyed++;
}

static const struct fln_source_ops fake_ops = {
	.size = sizeof(fake_ops),
	.name = "fake",
	.concurrency = FLN_SOURCE_SERIAL,
	.read = fake_read,
	.extent = fake_extent,
	.destroy = fake_destroy,
};

static struct fln_source *make_fake(struct fake *f, const int64_t *answers, uint32_t nr_answers)
{
	struct fln_source *s = NULL;

	memset(f, 0, sizeof(*f));
	f->answers = answers;
	f->nr_answers = nr_answers;
	assert_int_equal(fln_source_create(&fake_ops, f, &s), 0);
	return s;
}

static struct fln_source *make_memory(void)
{
	struct fln_source *s = NULL;

	assert_int_equal(fln_source_from_memory(contents, LEN, &s), 0);
	return s;
}

/* A memfd has holes on every machine; its path makes the source open it anew. */
static int make_memfd(uint64_t len_bytes, char path[64])
{
	int fd = memfd_create("source", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len_bytes), 0);
	(void)snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static void write_pages(int fd, uint64_t pgoff, uint64_t nr_pages)
{
	assert_int_equal(pwrite(fd, contents + pgoff * PAGE, nr_pages * PAGE,
				(off_t)(pgoff * PAGE)),
			 nr_pages * PAGE);
}

static void assert_names(const char *names)
{
	if (!names_all(fln_last_error(), names))
		fail_msg("\"%s\" does not name \"%s\"", fln_last_error(), names);
}

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(contents); i++)
		contents[i] = (unsigned char)(i * 31 + i / PAGE + 1);
	memset(buf, 0, sizeof(buf));
	return 0;
}

/* Options of create */

static void ops_are_checked(void **state)
{
	struct fln_source *const untouched = (struct fln_source *)(uintptr_t)1;
	struct fln_source *s = untouched;
	struct fln_source_ops ops = fake_ops;
	struct {
		struct fln_source_ops known;
		uint64_t newer;
	} longer = { .known = fake_ops, .newer = 0 };
	struct fake f = { 0 };

	(void)state;
	assert_int_equal(fln_source_create(NULL, &f, &s), -EINVAL);
	assert_int_equal(fln_source_create(&ops, &f, NULL), -EINVAL);

	ops.size = 0;
	assert_int_equal(fln_source_create(&ops, &f, &s), -EINVAL);
	ops.size = offsetof(struct fln_source_ops, read);
	assert_int_equal(fln_source_create(&ops, &f, &s), -EINVAL);
	assert_names("read NULL");

	ops = fake_ops;
	ops.read = NULL;
	assert_int_equal(fln_source_create(&ops, &f, &s), -EINVAL);
	ops = fake_ops;
	ops.concurrency = FLN_SOURCE_NR_CONCURRENCY;
	assert_int_equal(fln_source_create(&ops, &f, &s), -EINVAL);
	assert_names("concurrency 2");
	ops = fake_ops;
	ops.reserved = 7;
	assert_int_equal(fln_source_create(&ops, &f, &s), -EINVAL);
	assert_names("reserved 7");

	longer.known.size = sizeof(longer);
	longer.newer = 1;
	assert_int_equal(fln_source_create(&longer.known, &f, &s), -E2BIG);
	assert_ptr_equal(s, untouched);
	assert_int_equal(f.nr_destroyed, 0);

	longer.newer = 0;
	assert_int_equal(fln_source_create(&longer.known, &f, &s), 0);
	fln_source_destroy(s);
	assert_int_equal(f.nr_destroyed, 1);
}

/* A struct that ends after read: no extent, no destroy, and no name given. */
static void short_ops_have_defaults(void **state)
{
	struct fln_source_ops ops = fake_ops;
	static const int64_t answers[] = { -EIO };
	struct fake f = { .answers = answers, .nr_answers = 1 };
	struct fln_source *s;
	int is_hole = 1;

	(void)state;
	ops.size = offsetof(struct fln_source_ops, extent);
	ops.name = NULL;
	assert_int_equal(fln_source_create(&ops, &f, &s), 0);
	assert_int_equal(fln_source_read_all(s, 0, buf, PAGE), -EIO);
	assert_names("'source'");
	assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), LEN);
	assert_int_equal(is_hole, 0);
	fln_source_destroy(s);
	assert_int_equal(f.nr_destroyed, 0);
}

/* References */

static void destroyed_once_after_the_last_reference(void **state)
{
	struct fln_source_delay_opts delay_opts = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source_error_opts error_opts = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *delay, *errors;
	struct fake f;
	struct fln_source *s = make_fake(&f, NULL, 0);

	(void)state;
	fln_source_destroy(NULL);
	fln_source_get(s);
	assert_int_equal(fln_source_with_delay(s, &delay_opts, &delay), 0);
	assert_int_equal(fln_source_with_errors(delay, &error_opts, &errors), 0);
	fln_source_destroy(s);
	fln_source_put(s);
	fln_source_destroy(delay);
	assert_int_equal(f.nr_destroyed, 0);
	assert_int_equal(fln_source_extent(errors, 0, PAGE, &(int){ 0 }), PAGE);
	fln_source_destroy(errors);
	assert_int_equal(f.nr_destroyed, 1);
}

static void *get_and_put(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		fln_source_get(arg);
		fln_source_put(arg);
	}
	fln_source_put(arg);
	return NULL;
}

static void references_are_counted_from_many_threads(void **state)
{
	pthread_t threads[4];
	struct fake f;
	struct fln_source *s = make_fake(&f, NULL, 0);

	(void)state;
	for (int i = 0; i < 4; i++) {
		fln_source_get(s);
		assert_int_equal(pthread_create(&threads[i], NULL, get_and_put, s), 0);
	}
	fln_source_destroy(s);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(f.nr_destroyed, 1);
}

/* read_all */

static void short_reads_are_read_on(void **state)
{
	/* The second ends inside a page. */
	static const int64_t answers[] = { 4096, 100, 1 };
	struct fake f;
	struct fln_source *s = make_fake(&f, answers, 3);

	(void)state;
	assert_int_equal(fln_source_read_all(s, PAGE, buf, 4 * PAGE), 0);
	assert_memory_equal(buf, contents + PAGE, 4 * PAGE);
	assert_int_equal(f.nr_reads, 4);
	assert_int_equal(f.last_offset, 2 * PAGE + 101);
	assert_int_equal(fln_source_read_all(s, 0, buf, 0), 0);
	assert_int_equal(f.nr_reads, 4);
	fln_source_destroy(s);
}

static void end_of_contents_is_an_error(void **state)
{
	static const int64_t answers[] = { 4096, 0 };
	struct fake f;
	struct fln_source *s = make_fake(&f, answers, 2);

	(void)state;
	assert_int_equal(fln_source_read_all(s, 0, buf, 2 * PAGE), -ENODATA);
	assert_names("'fake' 4096");
	fln_source_destroy(s);
}

static void nonsense_is_refused(void **state)
{
	static const int64_t answers[] = { 4097, 4096, 4097, -4096, INT64_MIN, INT64_MAX };
	struct fake f;
	struct fln_source *s = make_fake(&f, answers, 6);

	(void)state;
	assert_int_equal(fln_source_read_all(s, 0, buf, PAGE), -EIO);
	assert_names("'fake' 4097 0 4096");
	assert_int_equal(fln_source_read_all(s, 0, buf, 2 * PAGE), -EIO);
	assert_names("4096");
	assert_int_equal(fln_source_read_all(s, 0, buf, PAGE), -EIO);
	assert_names("'fake'");
	assert_int_equal(fln_source_read_all(s, 0, buf, PAGE), -EIO);
	assert_int_equal(fln_source_read_all(s, 0, buf, PAGE), -EIO);
	fln_source_destroy(s);
}

static void errors_of_a_source_are_passed_on(void **state)
{
	static const int64_t answers[] = { 4096, -ETIMEDOUT };
	struct fake f;
	struct fln_source *s = make_fake(&f, answers, 2);

	(void)state;
	/* A sentence of an older failure must not be taken for the source's. */
	assert_int_equal(fln_source_create(NULL, NULL, &s), -EINVAL);
	assert_int_equal(fln_source_read_all(s, 2 * PAGE, buf, 2 * PAGE), -ETIMEDOUT);
	assert_names("'fake' 12288");
	assert_false(names_all(fln_last_error(), "fln_source_create"));
	fln_source_destroy(s);
}

static void known_length_refuses_early(void **state)
{
	struct fake f = { 0 };
	struct fln_source *s;

	(void)state;
	assert_int_equal(fln_source_make(&fake_ops, &f, 2 * PAGE + 5, &s), 0);
	assert_int_equal(fln_source_read_all(s, 0, buf, 3 * PAGE), -ENODATA);
	assert_names("'fake' 8197");
	assert_int_equal(fln_source_read_all(s, 3 * PAGE, buf, PAGE), -ENODATA);
	assert_int_equal(fln_source_read_all(s, UINT64_MAX - PAGE + 1, buf, PAGE), -ENODATA);
	assert_int_equal(f.nr_reads, 0);
	assert_int_equal(fln_source_read_all(s, PAGE, buf, PAGE), 0);
	fln_source_destroy(s);
}

/* How many calls of a source run at the same time. */
struct crowd {
	_Atomic uint32_t nr_inside;
	_Atomic uint32_t nr_inside_max;
	uint64_t unprotected; /* ThreadSanitizer watches it */
};

static int64_t crowd_read(void *ctx, uint64_t offset_bytes, void *into, uint64_t len_bytes)
{
	struct crowd *c = ctx;
	uint32_t now = atomic_fetch_add(&c->nr_inside, 1) + 1;

	(void)offset_bytes;
	(void)into;
	c->unprotected++;
	if (now > atomic_load(&c->nr_inside_max))
		atomic_store(&c->nr_inside_max, now);
	(void)sched_yield();
	atomic_fetch_sub(&c->nr_inside, 1);
	return (int64_t)len_bytes;
}

static int64_t crowd_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	*is_hole = 0;
	return crowd_read(ctx, offset_bytes, NULL, len_bytes);
}

#define CROWD_READS 500

static void *read_often(void *arg)
{
	_Alignas(4096) unsigned char page[4096];
	int is_hole;

	for (int i = 0; i < CROWD_READS; i++) {
		assert_int_equal(fln_source_read_all(arg, 0, page, PAGE), 0);
		assert_int_equal(fln_source_extent(arg, 0, PAGE, &is_hole), PAGE);
	}
	return NULL;
}

/* Also when some come directly, and some through two wrappers that know nothing of each other. */
static void serial_sources_get_one_call_at_a_time(void **state)
{
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.concurrency = FLN_SOURCE_SERIAL,
		.read = crowd_read,
		.extent = crowd_extent,
	};
	struct fln_source *ways[3];
	pthread_t threads[6];
	struct crowd c = { 0 };

	(void)state;
	assert_int_equal(fln_source_create(&ops, &c, &ways[0]), 0);
	assert_int_equal(fln_source_with_delay(ways[0], NULL, &ways[1]), 0);
	assert_int_equal(fln_source_with_delay(ways[0], NULL, &ways[2]), 0);
	assert_int_equal(ways[1]->ops.concurrency, FLN_SOURCE_SERIAL);
	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, ways[i % 3]), 0);
	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(c.nr_inside_max, 1);
	assert_int_equal(c.unprotected, 6 * 2 * CROWD_READS);
	for (int i = 0; i < 3; i++)
		fln_source_destroy(ways[i]);
}

/* extent */

static void extents_are_whole_pages(void **state)
{
	static const struct {
		int64_t extent;
		int is_hole;
		uint64_t want;
		int want_hole;
	} cases[] = {
		{ 4096, 1, 4096, 1 },
		{ 8191, 1, 4096, 1 },
		{ 4095, 1, 4096, 0 },
		{ 1, 1, 4096, 0 },
		{ 1, 0, 4096, 0 },
		{ 4097, 0, 8192, 0 },
		{ 65536, 1, 65536, 1 },
		{ 65536, -1, 65536, 1 },
		{ 65536, 0, 65536, 0 },
		/* Errors and nonsense: everything is read. */
		{ -EIO, 1, 65536, 0 },
		{ 0, 1, 65536, 0 },
		{ 65537, 1, 65536, 0 },
		{ INT64_MIN, 1, 65536, 0 },
	};
	struct fake f;
	struct fln_source *s = make_fake(&f, NULL, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int is_hole = 2;

		f.extent = cases[i].extent;
		f.extent_is_hole = cases[i].is_hole;
		assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), cases[i].want);
		assert_int_equal(is_hole, cases[i].want_hole);
	}
	fln_source_destroy(s);
}

static void no_hole_behind_the_end(void **state)
{
	struct fake f = { .extent = (int64_t)LEN, .extent_is_hole = 1 };
	struct fln_source *s;
	int is_hole;

	(void)state;
	assert_int_equal(fln_source_make(&fake_ops, &f, 2 * PAGE + 5, &s), 0);
	assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), 2 * PAGE);
	assert_int_equal(is_hole, 1);
	assert_int_equal(fln_source_extent(s, 2 * PAGE, LEN, &is_hole), PAGE);
	assert_int_equal(is_hole, 0);
	assert_int_equal(fln_source_extent(s, 3 * PAGE, LEN, &is_hole), LEN);
	assert_int_equal(is_hole, 0);
	fln_source_destroy(s);
}

/* Memory */

static void memory_is_read_whole(void **state)
{
	struct fln_source *s = make_memory();
	int is_hole = 1;

	(void)state;
	assert_int_equal(s->ops.concurrency, FLN_SOURCE_PARALLEL);
	assert_int_equal(s->len_bytes, LEN);
	assert_int_equal(fln_source_read_all(s, 0, buf, LEN), 0);
	assert_memory_equal(buf, contents, LEN);
	assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), LEN);
	assert_int_equal(is_hole, 0);
	assert_int_equal(fln_source_read_all(s, LEN, buf, PAGE), -ENODATA);
	fln_source_destroy(s);

	assert_int_equal(fln_source_from_memory(NULL, LEN, &s), -EINVAL);
	assert_int_equal(fln_source_from_memory(contents, LEN, NULL), -EINVAL);
	assert_int_equal(fln_source_from_memory(contents, 0, &s), -EINVAL);
	assert_int_equal(fln_source_from_memory(contents, UINT64_MAX, &s), -EINVAL);
}

/* Files */

static void file_is_read_from_its_offset(void **state)
{
	struct fln_source *s;
	char path[64];
	int fd = make_memfd(LEN, path);

	(void)state;
	write_pages(fd, 0, NR_PAGES);
	assert_int_equal(fln_source_open_file(path, 2 * PAGE, &s), 0);
	(void)close(fd);
	assert_int_equal(s->ops.concurrency, FLN_SOURCE_PARALLEL);
	assert_int_equal(s->len_bytes, LEN - 2 * PAGE);
	assert_int_equal(fln_source_read_all(s, 0, buf, LEN - 2 * PAGE), 0);
	assert_memory_equal(buf, contents + 2 * PAGE, LEN - 2 * PAGE);
	assert_int_equal(fln_source_read_all(s, PAGE, buf, LEN - 2 * PAGE), -ENODATA);
	fln_source_destroy(s);
}

static void file_arguments_are_checked(void **state)
{
	struct fln_source *s = NULL;
	char path[64];
	int fd = make_memfd(PAGE, path);
	int fifo[2];

	(void)state;
	assert_int_equal(fln_source_open_file(NULL, 0, &s), -EINVAL);
	assert_int_equal(fln_source_open_file(path, 0, NULL), -EINVAL);
	assert_int_equal(fln_source_open_file(path, 1, &s), -EINVAL);
	assert_names("1");
	assert_int_equal(fln_source_open_file(path, PAGE, &s), -EINVAL);
	assert_names("4096");
	assert_int_equal(fln_source_open_file("/no/such/file", 0, &s), -ENOENT);
	assert_names("/no/such/file");
	assert_int_equal(fln_source_open_file("/", 0, &s), -EINVAL);
	assert_int_equal(fln_source_open_file("/dev/null", 0, &s), -EINVAL);
	assert_names("fln_source_create");
	(void)close(fd);

	/* Opened for reading a FIFO waits for a writer: a test that hangs has failed. */
	assert_int_equal(pipe(fifo), 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fifo[0]);
	assert_int_equal(fln_source_open_file(path, 0, &s), -EINVAL);
	(void)close(fifo[0]);
	(void)close(fifo[1]);
	assert_null(s);
}

static void sparse_file_has_extents(void **state)
{
	struct fln_source *s;
	char path[64];
	int fd = make_memfd(LEN + 100, path);
	int is_hole;

	(void)state;
	/* Pages: 0-2 hole, 3-4 data, 5-9 hole, 10 data, 11-15 hole, and 100 bytes of hole. */
	write_pages(fd, 3, 2);
	write_pages(fd, 10, 1);
	assert_int_equal(fln_source_open_file(path, PAGE, &s), 0);

	assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), 2 * PAGE);
	assert_int_equal(is_hole, 1);
	assert_int_equal(fln_source_extent(s, 0, PAGE, &is_hole), PAGE);
	assert_int_equal(is_hole, 1);
	assert_int_equal(fln_source_extent(s, 2 * PAGE, LEN, &is_hole), 2 * PAGE);
	assert_int_equal(is_hole, 0);
	assert_int_equal(fln_source_extent(s, 2 * PAGE, PAGE, &is_hole), PAGE);
	assert_int_equal(is_hole, 0);
	assert_int_equal(fln_source_extent(s, 4 * PAGE, LEN, &is_hole), 5 * PAGE);
	assert_int_equal(is_hole, 1);
	assert_int_equal(fln_source_extent(s, 10 * PAGE, 3 * PAGE, &is_hole), 3 * PAGE);
	assert_int_equal(is_hole, 1);
	assert_int_equal(fln_source_extent(s, 10 * PAGE, LEN, &is_hole), 5 * PAGE);
	assert_int_equal(is_hole, 1);
	/* The last page is not whole. */
	assert_int_equal(fln_source_extent(s, 15 * PAGE, PAGE, &is_hole), PAGE);
	assert_int_equal(is_hole, 0);
	fln_source_destroy(s);
	(void)close(fd);
}

static void truncated_file_is_missing_not_zero(void **state)
{
	struct fln_source *s;
	char path[64];
	int fd = make_memfd(LEN, path);
	int is_hole;

	(void)state;
	write_pages(fd, 0, 4);
	assert_int_equal(fln_source_open_file(path, 0, &s), 0);
	assert_int_equal(ftruncate(fd, (off_t)(2 * PAGE + 10)), 0);

	assert_int_equal(fln_source_read_all(s, 0, buf, 2 * PAGE), 0);
	assert_memory_equal(buf, contents, 2 * PAGE);
	assert_int_equal(fln_source_read_all(s, PAGE, buf, 2 * PAGE), -ENODATA);
	assert_names(path);
	assert_names("8202");
	assert_names("8202 65536");
	/* Both were holes: the first a real one, and now nobody can tell. */
	assert_int_equal(fln_source_extent(s, 8 * PAGE, PAGE, &is_hole), PAGE);
	assert_int_equal(is_hole, 0);
	assert_int_equal(fln_source_extent(s, 3 * PAGE, PAGE, &is_hole), PAGE);
	assert_int_equal(is_hole, 0);
	fln_source_destroy(s);
	(void)close(fd);
}

/* A path that fills the sentence must not push the reason out. */
static void long_names_leave_room_for_the_reason(void **state)
{
	static const int64_t answers[] = { -EIO };
	struct fln_source_ops ops = fake_ops;
	struct fake f = { .answers = answers, .nr_answers = 1 };
	struct fln_source *s;
	char name[1000];

	(void)state;
	memset(name, 'x', sizeof(name));
	memcpy(name + sizeof(name) - 5, ".raw", 5);
	ops.name = name;
	assert_int_equal(fln_source_create(&ops, &f, &s), 0);
	assert_int_equal(fln_source_read_all(s, 0, buf, PAGE), -EIO);
	assert_names("0");
	fln_source_destroy(s);
}

/* The delay wrapper */

#define DELAY_NS (700 * FLN_NS_PER_MS)

static uint64_t timed_read(struct fln_source *s, uint64_t pgoff, uint64_t nr_pages)
{
	uint64_t before = fln_now_ns();

	assert_int_equal(fln_source_read_all(s, pgoff * PAGE, buf, nr_pages * PAGE), 0);
	assert_memory_equal(buf, contents + pgoff * PAGE, nr_pages * PAGE);
	return fln_now_ns() - before;
}

static void every_second_part_is_delayed(void **state)
{
	struct fln_source_delay_opts opts = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source *memory = make_memory();
	struct fln_source *s;
	int is_hole;

	(void)state;
	opts.delay_ns = DELAY_NS;
	opts.every_pages = 3;
	assert_int_equal(fln_source_with_delay(memory, &opts, &s), 0);
	fln_source_destroy(memory);
	assert_int_equal(s->ops.concurrency, FLN_SOURCE_PARALLEL);
	assert_int_equal(s->len_bytes, LEN);

	assert_true(timed_read(s, 0, 3) < DELAY_NS);
	assert_true(timed_read(s, 2, 2) >= DELAY_NS);
	assert_true(timed_read(s, 5, 1) >= DELAY_NS);
	assert_true(timed_read(s, 6, 3) < DELAY_NS);

	assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), 3 * PAGE);
	assert_int_equal(fln_source_extent(s, 4 * PAGE, LEN, &is_hole), 2 * PAGE);
	assert_int_equal(fln_source_extent(s, 4 * PAGE, PAGE, &is_hole), PAGE);
	fln_source_destroy(s);
}

static void holes_of_a_delayed_source_stay_holes(void **state)
{
	struct fln_source_delay_opts opts = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source *file, *s;
	char path[64];
	int fd = make_memfd(LEN, path);
	int is_hole;

	(void)state;
	opts.every_pages = UINT64_MAX;
	assert_int_equal(fln_source_open_file(path, 0, &file), 0);
	assert_int_equal(fln_source_with_delay(file, &opts, &s), 0);
	assert_int_equal(fln_source_extent(s, 0, LEN, &is_hole), LEN);
	assert_int_equal(is_hole, 1);
	fln_source_destroy(s);
	fln_source_destroy(file);
	(void)close(fd);
}

static void ignore(int sig)
{
	(void)sig;
}

static void signals_do_not_shorten_a_delay(void **state)
{
	struct fln_source_delay_opts opts = FLN_SOURCE_DELAY_OPTS_INIT;
	struct sigaction action = { .sa_handler = ignore };
	struct itimerval every_5ms = { .it_interval = { 0, 5000 }, .it_value = { 0, 5000 } };
	struct itimerval never = { .it_value = { 0, 0 } };
	struct sigaction before;
	struct fln_source *memory = make_memory();
	struct fln_source *s;

	(void)state;
	opts.delay_ns = 50 * FLN_NS_PER_MS;
	assert_int_equal(fln_source_with_delay(memory, &opts, &s), 0);
	assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &every_5ms, NULL), 0);
	assert_true(timed_read(s, 0, 1) >= opts.delay_ns);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
	fln_source_destroy(s);
	fln_source_destroy(memory);
}

/* The error wrapper */

static struct fln_source *make_errors(const struct fln_source_error_opts *opts)
{
	struct fln_source *memory = make_memory();
	struct fln_source *s = NULL;

	assert_int_equal(fln_source_with_errors(memory, opts, &s), 0);
	fln_source_destroy(memory);
	return s;
}

static bool fails(struct fln_source *s, uint64_t pgoff, uint64_t nr_pages)
{
	_Alignas(4096) unsigned char pages[4 * 4096];
	int rc = fln_source_read_all(s, pgoff * PAGE, pages, nr_pages * PAGE);

	if (rc == 0)
		assert_memory_equal(pages, contents + pgoff * PAGE, nr_pages * PAGE);
	else
		assert_int_equal(rc, -EREMOTEIO);
	return rc != 0;
}

#define NR_READS 1000u

static uint32_t failures_of(const struct fln_source_error_opts *opts,
			    unsigned char failed[NR_READS])
{
	struct fln_source *s = make_errors(opts);
	uint32_t nr_failed = 0;

	for (uint32_t i = 0; i < NR_READS; i++) {
		failed[i] = fails(s, i % NR_PAGES, 1);
		nr_failed += failed[i];
	}
	fln_source_destroy(s);
	return nr_failed;
}

static void failures_repeat_with_their_seed(void **state)
{
	struct fln_source_error_opts opts = FLN_SOURCE_ERROR_OPTS_INIT;
	static unsigned char first[NR_READS], again[NR_READS], other[NR_READS];
	uint32_t nr_failed;

	(void)state;
	opts.error = EREMOTEIO;
	opts.fail_percent = 30;
	opts.seed = 42;
	nr_failed = failures_of(&opts, first);
	assert_in_range(nr_failed, 200, 400);
	assert_int_equal(failures_of(&opts, again), nr_failed);
	assert_memory_equal(first, again, NR_READS);
	opts.seed = 43;
	(void)failures_of(&opts, other);
	assert_memory_not_equal(first, other, NR_READS);

	opts.fail_percent = 0;
	assert_int_equal(failures_of(&opts, other), NR_READS);
	opts.fail_percent = 100;
	assert_int_equal(failures_of(&opts, other), NR_READS);
	opts.fail_percent = 50;
	opts.nr_failures = 7;
	assert_int_equal(failures_of(&opts, other), 7);
}

struct reader {
	struct fln_source *source;
	uint32_t nr_failed;
};

static void *count_failures(void *arg)
{
	struct reader *r = arg;

	for (uint32_t i = 0; i < NR_READS / 4; i++)
		r->nr_failed += fails(r->source, i % NR_PAGES, 1);
	return NULL;
}

/* Threads share the same reads out among themselves: as many of them fail as on one thread. */
static void threads_do_not_change_how_many_fail(void **state)
{
	struct fln_source_error_opts opts = FLN_SOURCE_ERROR_OPTS_INIT;
	static unsigned char failed[NR_READS];

	(void)state;
	opts.error = EREMOTEIO;
	opts.fail_percent = 30;
	for (opts.nr_failures = 0; opts.nr_failures <= 100; opts.nr_failures += 100) {
		struct fln_source *s = make_errors(&opts);
		struct reader readers[4] = { { 0 } };
		pthread_t threads[4];
		uint32_t nr_failed = 0;

		for (int i = 0; i < 4; i++) {
			readers[i].source = s;
			assert_int_equal(pthread_create(&threads[i], NULL, count_failures,
							&readers[i]),
					 0);
		}
		for (int i = 0; i < 4; i++) {
			assert_int_equal(pthread_join(threads[i], NULL), 0);
			nr_failed += readers[i].nr_failed;
		}
		fln_source_destroy(s);
		assert_int_equal(nr_failed, failures_of(&opts, failed));
	}
}

static void only_the_range_fails(void **state)
{
	struct fln_source_error_opts opts = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *s;

	(void)state;
	opts.error = EREMOTEIO;
	opts.offset_bytes = 4 * PAGE;
	opts.len_bytes = 2 * PAGE;
	s = make_errors(&opts);
	assert_false(fails(s, 0, 4));
	assert_true(fails(s, 1, 4));
	assert_true(fails(s, 5, 4));
	assert_names("'errors' 20480 1");
	assert_false(fails(s, 6, 4));
	fln_source_destroy(s);

	opts.len_bytes = 0;
	s = make_errors(&opts);
	assert_false(fails(s, 0, 4));
	assert_true(fails(s, 15, 1));
	fln_source_destroy(s);
}

static void without_an_errno_reads_come_short(void **state)
{
	struct fln_source_error_opts opts = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *s;

	(void)state;
	opts.nr_failures = 3;
	s = make_errors(&opts);
	assert_int_equal(s->ops.read(s->ctx, 0, buf, 7 * PAGE), 3 * PAGE);
	assert_int_equal(s->ops.read(s->ctx, 0, buf, PAGE), 0);
	/* The last failure is a half, which is read on. */
	assert_int_equal(fln_source_read_all(s, 0, buf, 7 * PAGE), 0);
	assert_memory_equal(buf, contents, 7 * PAGE);
	fln_source_destroy(s);

	s = make_errors(NULL);
	assert_int_equal(fln_source_read_all(s, 0, buf, 8 * PAGE), -ENODATA);
	assert_names("'errors' 28672");
	fln_source_destroy(s);
}

static void wrapper_options_are_checked(void **state)
{
	struct fln_source_delay_opts delay_opts = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source_error_opts error_opts = FLN_SOURCE_ERROR_OPTS_INIT;
	struct {
		struct fln_source_delay_opts known;
		uint64_t newer;
	} longer = { .known = { .size = sizeof(longer) }, .newer = 1 };
	struct fake f;
	struct fln_source *inner = make_fake(&f, NULL, 0);
	struct fln_source *s = NULL;

	(void)state;
	assert_int_equal(fln_source_with_delay(NULL, &delay_opts, &s), -EINVAL);
	assert_int_equal(fln_source_with_delay(inner, &delay_opts, NULL), -EINVAL);
	assert_int_equal(fln_source_with_errors(NULL, &error_opts, &s), -EINVAL);
	assert_int_equal(fln_source_with_errors(inner, &error_opts, NULL), -EINVAL);

	assert_int_equal(fln_source_with_delay(inner, &longer.known, &s), -E2BIG);
	delay_opts.size = 1;
	assert_int_equal(fln_source_with_delay(inner, &delay_opts, &s), -EINVAL);
	error_opts.size = 5000;
	assert_int_equal(fln_source_with_errors(inner, &error_opts, &s), -EINVAL);

	error_opts = (struct fln_source_error_opts)FLN_SOURCE_ERROR_OPTS_INIT;
	error_opts.fail_percent = 101;
	assert_int_equal(fln_source_with_errors(inner, &error_opts, &s), -EINVAL);
	assert_names("fail_percent 101");
	error_opts.fail_percent = 100;
	error_opts.error = 4096;
	assert_int_equal(fln_source_with_errors(inner, &error_opts, &s), -EINVAL);
	error_opts.error = EIO;
	error_opts.offset_bytes = PAGE;
	error_opts.len_bytes = UINT64_MAX;
	assert_int_equal(fln_source_with_errors(inner, &error_opts, &s), -EINVAL);
	assert_null(s);

	/* What was refused has taken no reference. */
	fln_source_destroy(inner);
	assert_int_equal(f.nr_destroyed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(ops_are_checked, setup),
		cmocka_unit_test_setup(short_ops_have_defaults, setup),
		cmocka_unit_test_setup(destroyed_once_after_the_last_reference, setup),
		cmocka_unit_test_setup(references_are_counted_from_many_threads, setup),
		cmocka_unit_test_setup(short_reads_are_read_on, setup),
		cmocka_unit_test_setup(end_of_contents_is_an_error, setup),
		cmocka_unit_test_setup(nonsense_is_refused, setup),
		cmocka_unit_test_setup(errors_of_a_source_are_passed_on, setup),
		cmocka_unit_test_setup(known_length_refuses_early, setup),
		cmocka_unit_test_setup(serial_sources_get_one_call_at_a_time, setup),
		cmocka_unit_test_setup(extents_are_whole_pages, setup),
		cmocka_unit_test_setup(no_hole_behind_the_end, setup),
		cmocka_unit_test_setup(memory_is_read_whole, setup),
		cmocka_unit_test_setup(file_is_read_from_its_offset, setup),
		cmocka_unit_test_setup(file_arguments_are_checked, setup),
		cmocka_unit_test_setup(sparse_file_has_extents, setup),
		cmocka_unit_test_setup(truncated_file_is_missing_not_zero, setup),
		cmocka_unit_test_setup(long_names_leave_room_for_the_reason, setup),
		cmocka_unit_test_setup(every_second_part_is_delayed, setup),
		cmocka_unit_test_setup(holes_of_a_delayed_source_stay_holes, setup),
		cmocka_unit_test_setup(signals_do_not_shorten_a_delay, setup),
		cmocka_unit_test_setup(failures_repeat_with_their_seed, setup),
		cmocka_unit_test_setup(threads_do_not_change_how_many_fail, setup),
		cmocka_unit_test_setup(only_the_range_fails, setup),
		cmocka_unit_test_setup(without_an_errno_reads_come_short, setup),
		cmocka_unit_test_setup(wrapper_options_are_checked, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
