/* SPDX-License-Identifier: MIT */
#include "stress/source.h"

#include "stress/clock.h"
#include "stress/contents.h"
#include "stress/layout.h"

#include <errno.h>
#include <string.h>

static void make_page(const struct stress_source *s, uint64_t page, uint64_t *words)
{
	if (page_is_hole(s->opts->seed, page))
		memset(words, 0, PAGE_BYTES);
	else
		page_write(words, page_stamp(s->opts->seed, page, 0));
}

void source_watch(struct stress_source *s, uint64_t first_page, uint64_t nr_pages)
{
	atomic_store(&s->watched_nr, 0);
	atomic_store(&s->watched_first, first_page);
	atomic_store(&s->watched_nr, nr_pages);
}

/* Count reads of watched pages, and slow them, so that all threads wait before the page arrives. */
static void note_watched(struct stress_source *s, uint64_t first, uint64_t nr)
{
	uint64_t watched_nr = atomic_load_explicit(&s->watched_nr, memory_order_relaxed);
	uint64_t watched = atomic_load_explicit(&s->watched_first, memory_order_relaxed);

	if (watched_nr == 0 || watched >= first + nr || first >= watched + watched_nr)
		return;
	atomic_fetch_add(&s->nr_watched, 1);
	sleep_us(10000);
}

static int64_t source_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	const struct layout_image *im = ctx;
	struct stress_source *s = im->from;
	uint64_t n = atomic_fetch_add_explicit(&s->nr_reads, 1, memory_order_relaxed);
	struct image_run run = layout_run(im->layout, im->index, offset_bytes / PAGE_BYTES);
	uint64_t dice = mix(s->opts->seed ^ mix(n)), first = run.page;
	uint64_t nr = len_bytes / PAGE_BYTES;
	bool healthy = atomic_load_explicit(&s->healthy, memory_order_relaxed);

	/* Stop where another region's pages begin: a short read. */
	if (nr > run.nr)
		nr = run.nr;
	if (s->dead_page >= first && s->dead_page < first + nr)
		return -EIO;
	while (atomic_load_explicit(&s->dragging, memory_order_relaxed))
		sleep_us(1000);
	if (has_chaos(s->opts, CHAOS_SLOW_SOURCE) && !healthy && dice % 16 == 0) {
		atomic_fetch_add_explicit(&s->nr_slow, 1, memory_order_relaxed);
		sleep_us((dice >> 8) % 20000);
	}
	if (has_chaos(s->opts, CHAOS_SOURCE_ERRORS) && !healthy && (dice >> 16) % 10 == 0) {
		atomic_fetch_add_explicit(&s->nr_errors, 1, memory_order_relaxed);
		return -EIO;
	}
	if (has_chaos(s->opts, CHAOS_SHORT_READS) && nr > 1 && (dice >> 32) % 4 == 0) {
		atomic_fetch_add_explicit(&s->nr_short, 1, memory_order_relaxed);
		nr = 1 + (dice >> 40) % (nr - 1);
	}
	note_watched(s, first, nr);
	for (uint64_t i = 0; i < nr; i++)
		make_page(s, first + i, (uint64_t *)buf + i * PAGE_WORDS);
	return (int64_t)(nr * PAGE_BYTES);
}

static int64_t source_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *is_hole)
{
	const struct layout_image *im = ctx;
	struct image_run run = layout_run(im->layout, im->index, offset_bytes / PAGE_BYTES);
	uint64_t seed = im->from->opts->seed, nr = len_bytes / PAGE_BYTES, n = 1;
	bool hole = page_is_hole(seed, run.page);

	if (nr > run.nr)
		nr = run.nr;
	while (n < nr && page_is_hole(seed, run.page + n) == hole)
		n++;
	*is_hole = hole;
	return (int64_t)(n * PAGE_BYTES);
}

int source_of_image(struct layout_image *im)
{
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "stress",
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = source_read,
		.extent = source_extent,
	};

	return fln_source_create(&ops, im, &im->source);
}

void stress_source_init(struct stress_source *s, const struct options *opts)
{
	memset(s, 0, sizeof(*s));
	s->opts = opts;
	s->dead_page = UINT64_MAX;
	if (!has_chaos(opts, CHAOS_SOURCE_ERRORS))
		return;
	s->dead_page = mix(opts->seed ^ 0xdead) % (opts->memory_bytes / PAGE_BYTES);
	while (page_is_hole(opts->seed, s->dead_page))
		s->dead_page = (s->dead_page + 16) % (opts->memory_bytes / PAGE_BYTES);
}
