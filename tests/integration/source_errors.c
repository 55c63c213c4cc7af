/* SPDX-License-Identifier: MIT */
/*
 * A source of which one read in ten fails, at random, and one page always: all other
 * pages are right in the end, the threads that touch the one get SIGBUS, each time, and
 * nobody else notices.  All of it is counted.
 */
#include "tests/integration/harness.h"

#define NR_THREADS 200u
#define NR_TOUCHERS_OF_DEAD 12u
#define DEAD_PAGE 1234u
#define SALT 1u

struct unreliable {
	_Atomic uint32_t nr_reads, nr_failed, nr_dead;
};

static int64_t unreliable_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct unreliable *u = ctx;
	uint64_t first = offset_bytes / PAGE, nr = len_bytes / PAGE;
	uint64_t dice = 1 + atomic_fetch_add(&u->nr_reads, 1);

	if (DEAD_PAGE >= first && DEAD_PAGE < first + nr) {
		atomic_fetch_add(&u->nr_dead, 1);
		return -EIO;
	}
	if (next_random(&dice) % 10 == 0) {
		atomic_fetch_add(&u->nr_failed, 1);
		return -EIO;
	}
	for (uint64_t i = 0; i < nr; i++)
		contents_of(SALT, first + i, (char *)buf + i * PAGE);
	return (int64_t)len_bytes;
}

struct round {
	struct bed *bed;
	_Atomic uint32_t nr_right, nr_sigbus, nr_threads_hit;
};

/* The first of the threads touch the page that fails for ever, twice, amid their others. */
static void touch_share(void *arg, uint32_t index)
{
	struct round *r = arg;
	struct bed *b = r->bed;
	uint32_t hits = 0;

	for (uint64_t i = index; i < b->nr_pages; i += NR_THREADS) {
		uint64_t page = (i * 769) % b->nr_pages, value;
		bool right = false;

		if (index < NR_TOUCHERS_OF_DEAD && i < 2 * NR_THREADS)
			hits += touch_read(bed_page(b, DEAD_PAGE), &value) == TOUCH_SIGBUS;
		if (page == DEAD_PAGE)
			continue;
		CHECK(touch_page(bed_page(b, page), SALT, page, &right) == TOUCH_OK && right,
		      "page %llu, which is well", (unsigned long long)page);
		atomic_fetch_add(&r->nr_right, 1);
	}
	CHECK(hits == (index < NR_TOUCHERS_OF_DEAD ? 2 : 0), "thread %u got SIGBUS %u times", index,
	      hits);
	atomic_fetch_add(&r->nr_sigbus, hits);
	atomic_fetch_add(&r->nr_threads_hit, hits > 0);
}

static void up(struct bed *b, struct unreliable *u)
{
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "unreliable",
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = unreliable_read,
	};

	/* 769 and the number of pages have no divisor in common: each page comes once. */
	bed_init(b, test_scale(4096, 16384, 65536));
	OK(fln_source_create(&ops, u, &b->source));
	b->image_opts.source = b->source;
	b->engine_opts.source_retries = 12;
	bed_up(b);
}

static void mixed_errors(void)
{
	struct unreliable u = { .nr_reads = 0 };
	struct fln_stats stats;
	struct round r = { .nr_right = 0 };
	struct crew crew;
	struct bed b;

	up(&b, &u);
	r.bed = &b;
	STEP("%u threads on a source that fails", NR_THREADS);
	crew_start(&crew, NR_THREADS, touch_share, &r);
	crew_wait(&crew, 90, "threads on a source that fails");
	settled_stats(b.guest, &stats);
	test_note("%u of %u reads failed at random, %u for the page that fails for ever; %u pages "
		  "right, %u SIGBUS for %u threads that touched it, %llu faults poisoned",
		  atomic_load(&u.nr_failed), atomic_load(&u.nr_reads), atomic_load(&u.nr_dead),
		  atomic_load(&r.nr_right), atomic_load(&r.nr_sigbus),
		  atomic_load(&r.nr_threads_hit), (unsigned long long)stats.poisoned);
	CHECK(atomic_load(&u.nr_failed) > 0, "no read has failed");
	CHECK(atomic_load(&r.nr_right) == b.nr_pages - 1, "%u pages right",
	      atomic_load(&r.nr_right));
	CHECK(atomic_load(&r.nr_threads_hit) == NR_TOUCHERS_OF_DEAD &&
		      atomic_load(&r.nr_sigbus) == 2 * NR_TOUCHERS_OF_DEAD,
	      "%u threads got %u SIGBUS", atomic_load(&r.nr_threads_hit),
	      atomic_load(&r.nr_sigbus));
	/* 1 + 12 tries by itself, and at most one for each run of pages that it was in. */
	CHECK(atomic_load(&u.nr_dead) >= 13, "%u tries", atomic_load(&u.nr_dead));
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(mixed_errors);
	return 0;
}
