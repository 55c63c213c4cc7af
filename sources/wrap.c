/* SPDX-License-Identifier: MIT */
/*
 * Sources that wrap another source, for tests: one delays reads, the other fails them.
 *
 * A wrapper has the concurrency and the length of the inner source, and its extents.  Holes
 * are not read, so they are neither delayed nor failed.
 */
#include "base/cancel.h"
#include "base/clock.h"
#include "base/page.h"
#include "sources/source.h"

#include <errno.h>
#include <stdlib.h>

#define ERRNO_MAX 4095u

struct delay {
	struct fln_source *inner; /* a reference */
	struct fln_source_delay_opts opts;
};

struct errors {
	struct fln_source *inner; /* a reference */
	struct fln_source_error_opts opts;
	_Atomic uint64_t nr_reads;  /* reads that overlapped the range, so far */
	_Atomic uint64_t nr_failed; /* of those, the ones that failed */
};

/* Create a source around @inner.  On success it takes a reference on @inner and owns @ctx. */
static int wrap(struct fln_source *inner, const struct fln_source_ops *ops, void *ctx,
		struct fln_source **out)
{
	int rc = fln_source_make(ops, ctx, inner->len_bytes, out);

	if (rc == 0)
		fln_source_get(inner);
	return rc;
}

static int check_wrap(const char *what, const struct fln_source *inner, struct fln_source **out)
{
	if (inner && out)
		return 0;
	return fln_fail(EINVAL, "%s: %s is NULL", what, inner ? "out" : "inner");
}

/* Of the parts of every_pages pages, every second one is delayed, beginning with the second. */
static bool touches_delayed(const struct fln_source_delay_opts *opts, uint64_t offset_bytes,
			    uint64_t len_bytes)
{
	uint64_t first;
	uint64_t last;

	if (opts->every_pages == 0)
		return true;
	first = fln_bytes_to_pages(offset_bytes) / opts->every_pages;
	last = fln_bytes_to_pages(offset_bytes + len_bytes - 1) / opts->every_pages;
	return first != last || first % 2 == 1;
}

static void sleep_for(uint64_t delay_ns)
{
	uint64_t now_ns = fln_now_ns();
	uint64_t until_ns = delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX;
	struct timespec until = { .tv_sec = (time_t)(until_ns / FLN_NS_PER_S),
				  .tv_nsec = (long)(until_ns % FLN_NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		continue;
}

static int64_t delay_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	const struct delay *d = ctx;
	int rc;

	if (d->opts.delay_ns && touches_delayed(&d->opts, offset_bytes, len_bytes))
		sleep_for(d->opts.delay_ns);
	rc = fln_source_read_all(d->inner, offset_bytes, buf, len_bytes);
	return rc ? rc : (int64_t)len_bytes;
}

/* Cut at the boundaries of delayed parts, so that a fill by extents is delayed only for its own. */
static int64_t delay_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	const struct delay *d = ctx;
	uint64_t every = d->opts.every_pages;

	if (every) {
		uint64_t rest = every - fln_bytes_to_pages(offset_bytes) % every;

		if (rest < fln_bytes_to_pages(len_bytes))
			len_bytes = fln_pages_to_bytes(rest);
	}
	return (int64_t)fln_source_extent(d->inner, offset_bytes, len_bytes, is_hole);
}

static void delay_destroy(void *ctx)
{
	struct delay *d = ctx;

	fln_source_put(d->inner);
	free(d);
}

int fln_source_with_delay(struct fln_source *inner, const struct fln_source_delay_opts *opts,
			  struct fln_source **out)
{
	FLN_UNCANCELLABLE;
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "delay",
		.read = delay_read,
		.extent = delay_extent,
		.destroy = delay_destroy,
	};
	struct delay *d;
	int rc = check_wrap("fln_source_with_delay", inner, out);

	if (rc)
		return rc;
	d = calloc(1, sizeof(*d));
	if (!d)
		return fln_fail(ENOMEM, "no memory for a source");
	rc = fln_opts_copy(&d->opts, sizeof(d->opts), opts, "fln_source_delay_opts");
	if (rc)
		goto err_free;
	d->inner = inner;
	ops.concurrency = inner->ops.concurrency;
	rc = wrap(inner, &ops, d, out);
	if (rc)
		goto err_free;
	return 0;

err_free:
	free(d);
	return rc;
}

/* SplitMix64 of the read's index, so that the choice is reproducible. */
static uint64_t hash_read(uint64_t seed, uint64_t read_idx)
{
	uint64_t x = seed + (read_idx + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Count a failure, unless nr_failures have occurred already. */
static bool take_failure(struct errors *e)
{
	uint64_t n = atomic_load_explicit(&e->nr_failed, memory_order_relaxed);

	do {
		if (e->opts.nr_failures && n >= e->opts.nr_failures)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&e->nr_failed, &n, n + 1,
							memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

/* Does this read fail?  Reads outside the range are not counted, so they change no later choice. */
static bool choose_failure(struct errors *e, uint64_t offset_bytes, uint64_t len_bytes,
			   uint64_t *read_idx)
{
	const struct fln_source_error_opts *o = &e->opts;

	if (offset_bytes + len_bytes <= o->offset_bytes)
		return false;
	if (o->len_bytes && offset_bytes >= o->offset_bytes + o->len_bytes)
		return false;
	*read_idx = atomic_fetch_add_explicit(&e->nr_reads, 1, memory_order_relaxed);
	if (o->fail_percent && hash_read(o->seed, *read_idx) % 100 >= o->fail_percent)
		return false;
	return take_failure(e);
}

static int64_t errors_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct errors *e = ctx;
	uint64_t read_idx;
	int rc;

	if (choose_failure(e, offset_bytes, len_bytes, &read_idx)) {
		if (e->opts.error)
			return fln_fail((int)e->opts.error, "injected failure of read %llu",
					(unsigned long long)read_idx);
		/* Short read: half of the pages; for a single page 0, which means the end. */
		len_bytes = fln_align_down(len_bytes / 2, FLN_PAGE_BYTES);
		if (len_bytes == 0)
			return 0;
	}
	rc = fln_source_read_all(e->inner, offset_bytes, buf, len_bytes);
	return rc ? rc : (int64_t)len_bytes;
}

static int64_t errors_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	const struct errors *e = ctx;

	return (int64_t)fln_source_extent(e->inner, offset_bytes, len_bytes, is_hole);
}

static void errors_destroy(void *ctx)
{
	struct errors *e = ctx;

	fln_source_put(e->inner);
	free(e);
}

static int check_error_opts(const struct fln_source_error_opts *o)
{
	if (o->error > ERRNO_MAX)
		return fln_fail(EINVAL,
				"fln_source_error_opts: error is %u; give a positive errno, or 0 "
				"for short reads",
				(unsigned int)o->error);
	if (o->fail_percent > 100)
		return fln_fail(EINVAL,
				"fln_source_error_opts: fail_percent is %u; the maximum is 100",
				(unsigned int)o->fail_percent);
	if (o->len_bytes > UINT64_MAX - o->offset_bytes)
		return fln_fail(EINVAL,
				"fln_source_error_opts: %llu bytes at offset %llu end beyond "
				"2^64; use len_bytes 0 for all the rest",
				(unsigned long long)o->len_bytes,
				(unsigned long long)o->offset_bytes);
	return 0;
}

int fln_source_with_errors(struct fln_source *inner, const struct fln_source_error_opts *opts,
			   struct fln_source **out)
{
	FLN_UNCANCELLABLE;
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "errors",
		.read = errors_read,
		.extent = errors_extent,
		.destroy = errors_destroy,
	};
	struct errors *e;
	int rc = check_wrap("fln_source_with_errors", inner, out);

	if (rc)
		return rc;
	e = calloc(1, sizeof(*e));
	if (!e)
		return fln_fail(ENOMEM, "no memory for a source");
	rc = fln_opts_copy(&e->opts, sizeof(e->opts), opts, "fln_source_error_opts");
	if (rc)
		goto err_free;
	rc = check_error_opts(&e->opts);
	if (rc)
		goto err_free;
	e->inner = inner;
	ops.concurrency = inner->ops.concurrency;
	rc = wrap(inner, &ops, e, out);
	if (rc)
		goto err_free;
	return 0;

err_free:
	free(e);
	return rc;
}
