/* SPDX-License-Identifier: MIT */
/* A source that makes the contents of an image. */
#include "tests/integration/harness/maker.h"

#include "tests/integration/harness/touch.h"
#include "tests/integration/harness/verdict.h"

#include <string.h>
#include <time.h>

static bool is_hole(const struct maker *m, uint64_t page)
{
	return m->every_zero && page % m->every_zero == m->every_zero - 1;
}

static int64_t maker_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct maker *m = ctx;
	uint32_t inside = atomic_fetch_add(&m->nr_inside, 1) + 1;
	uint32_t max = atomic_load(&m->max_inside);

	while (inside > max && !atomic_compare_exchange_weak(&m->max_inside, &max, inside))
		;
	atomic_fetch_add(&m->nr_reads, 1);
	atomic_fetch_add(&m->nr_bytes, len_bytes);
	if (m->delay_ns) {
		struct timespec ts = { .tv_sec = (time_t)(m->delay_ns / (1000 * MS)),
				       .tv_nsec = (long)(m->delay_ns % (1000 * MS)) };

		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	}
	while (atomic_load(&m->gate_closed))
		sleep_ms(1);
	for (uint64_t at = 0; at < len_bytes; at += PAGE) {
		if (is_hole(m, (offset_bytes + at) / PAGE))
			memset((char *)buf + at, 0, PAGE);
		else
			contents_of(m->salt, (offset_bytes + at) / PAGE, (char *)buf + at);
	}
	atomic_fetch_sub(&m->nr_inside, 1);
	return (int64_t)len_bytes;
}

static int64_t maker_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *hole)
{
	const struct maker *m = ctx;
	uint64_t at = PAGE;

	*hole = is_hole(m, offset_bytes / PAGE);
	while (at < len_bytes && is_hole(m, (offset_bytes + at) / PAGE) == (bool)*hole)
		at += PAGE;
	return (int64_t)at;
}

static void maker_destroy(void *ctx)
{
	struct maker *m = ctx;

	atomic_fetch_add(&m->nr_destroyed, 1);
}

void maker_source(struct maker *m, struct fln_source **out)
{
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "maker",
		.concurrency = m->concurrency,
		.read = maker_read,
		.extent = m->every_zero ? maker_extent : NULL,
		.destroy = maker_destroy,
	};

	OK(fln_source_create(&ops, m, out));
}
