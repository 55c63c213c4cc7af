/* SPDX-License-Identifier: MIT */
/*
 * Rounds of everything at once: 200 threads touch; the source is slow, fails
 * and comes back short; pages are given up, pushed and filled; regions come and
 * go; and then the guest is ended under all of it.
 *
 * Nobody writes, so a page is its contents, or zero once somebody began to give
 * it up; a signal is right only where the source may have failed, or after the
 * end has begun.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define NR_THREADS 200u
#define BAD_BLOCK 5u /* the block whose pages may fail for ever */

struct round {
	struct bed bed;
	struct peer *peer;
	uint64_t seed;
	_Atomic bool ending, stop;
	_Atomic bool *given_up;
	_Atomic uint64_t nr_ok, nr_zero, nr_signals;
};

static void check_touch(struct round *r, uint64_t page, enum touch end, uint64_t value,
			uint32_t word)
{
	if (end != TOUCH_OK) {
		CHECK(page / 512 == BAD_BLOCK || atomic_load(&r->ending),
		      "page %llu: the thread %s", (unsigned long long)page, touch_name(end));
		atomic_fetch_add(&r->nr_signals, 1);
		return;
	}
	if (value == 0) {
		CHECK(atomic_load(&r->given_up[page]),
		      "page %llu reads zero, and nobody gave it up", (unsigned long long)page);
		atomic_fetch_add(&r->nr_zero, 1);
		return;
	}
	CHECK(value == word_of(1, page, word), "page %llu reads 0x%llx", (unsigned long long)page,
	      (unsigned long long)value);
	atomic_fetch_add(&r->nr_ok, 1);
}

static void toucher(void *arg, uint32_t index)
{
	struct round *r = arg;
	uint64_t random = r->seed + index, value = 0;

	while (!atomic_load(&r->stop)) {
		uint64_t page = next_random(&random) % r->bed.nr_pages;
		uint32_t word = index % 512;
		enum touch end = touch_read(bed_page(&r->bed, page) + 8 * word, &value);

		check_touch(r, page, end, value, word);
		if (next_random(&random) % 32 == 0)
			sleep_ms(1);
	}
}

static void give_up(struct round *r, uint64_t *random)
{
	struct bed *b = &r->bed;
	uint64_t nr = 1 + next_random(random) % 40;
	/* A third of the memory, so that there is something left to be read. */
	uint64_t page = next_random(random) % (b->nr_pages / 3 - nr);
	int64_t rc = 0;

	for (uint64_t i = page; i < page + nr; i++)
		atomic_store(&r->given_up[i], true);
	switch (next_random(random) % 6) {
	case 0:
		rc = madvise(bed_page(b, page), nr * PAGE, MADV_DONTNEED);
		break;
	case 1:
		rc = madvise(bed_page(b, page), nr * PAGE, MADV_REMOVE);
		break;
	case 2:
		rc = fln_image_discard(b->image, page * PAGE, nr * PAGE);
		break;
	case 3:
		rc = fallocate(fln_image_memfd(b->image),
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE),
			       (off_t)(nr * PAGE));
		break;
	case 4:
		rc = peer_do(r->peer, PEER_REMOVE, page * PAGE, nr * PAGE, -1, NULL, NULL);
		break;
	default:
		rc = peer_do(r->peer, PEER_PUNCH, page * PAGE, nr * PAGE, -1, NULL, NULL);
		break;
	}
	CHECK(rc == 0, "giving up: %lld", (long long)rc);
}

static void bring(struct round *r, uint64_t *random)
{
	struct bed *b = &r->bed;
	uint64_t nr = 1 + next_random(random) % 40;
	uint64_t page = next_random(random) % (b->nr_pages - nr);
	char *buf = malloc(nr * PAGE);

	CHECK(buf, "no memory");
	for (uint64_t i = 0; i < nr; i++)
		contents_of(1, page + i, buf + i * PAGE);
	if (next_random(random) % 2)
		OK(fln_image_put(b->image, page * PAGE, buf, nr * PAGE));
	else
		(void)fln_image_fill(b->image, page * PAGE, nr * PAGE);
	free(buf);
}

/* In a private region what is written is read again, and what is given up is zero. */
static void have_it_private(struct round *r, uint8_t *mem, uint64_t first, uint64_t nr,
			    uint64_t *random)
{
	uint64_t stride = 1 + next_random(random) % 60, page = 0;

	/* Each page once: what was given up is zero from then on. */
	for (uint32_t i = 0; i < 20 && page < nr; i++, page += stride) {
		uint64_t value = 0, token = next_random(random);
		uint8_t *at = mem + page * PAGE + 8;
		enum touch end;

		if ((first + page) / 512 == BAD_BLOCK)
			continue;
		CHECK(touch_write(at, token) == TOUCH_OK, "page %llu cannot be written",
		      (unsigned long long)(first + page));
		end = touch_read(at - 8, &value);
		check_touch(r, first + page, end, value, 0);
		CHECK(touch_read(at, &value) == TOUCH_OK && value == token,
		      "page %llu reads 0x%llx, not what was written",
		      (unsigned long long)(first + page), (unsigned long long)value);
		CHECK(madvise(at - 8, PAGE, MADV_DONTNEED) == 0, "madvise: %s", strerror(errno));
		if (i % 2)
			CHECK(touch_read(at, &value) == TOUCH_OK && value == 0,
			      "page %llu reads 0x%llx and was given up",
			      (unsigned long long)(first + page), (unsigned long long)value);
	}
}

/* A region more, for a moment, shared or private; its threads are this one. */
static void come_and_go(struct round *r, uint64_t *random)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	uint64_t nr = 1 + next_random(random) % 1500, value = 0;
	uint64_t first = next_random(random) % (r->bed.nr_pages - nr);
	struct fln_region *region;

	o.image = r->bed.image;
	o.image_offset_bytes = first * PAGE;
	o.len_bytes = nr * PAGE;
	o.sharing = next_random(random) % 2 ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
	OK(fln_region_add(r->bed.guest, &o, &region));
	for (uint32_t i = 0; i < 20; i++) {
		uint64_t page = next_random(random) % nr;
		enum touch end =
			touch_read((uint8_t *)fln_region_addr(region) + page * PAGE, &value);

		check_touch(r, first + page, end, value, 0);
	}
	if (o.sharing == FLN_SHARING_PRIVATE)
		have_it_private(r, fln_region_addr(region), first, nr, random);
	OK(fln_region_remove(region));
}

static void meddler(void *arg, uint32_t index)
{
	struct round *r = arg;
	uint64_t random = r->seed * 31 + index;

	while (!atomic_load(&r->ending)) {
		switch (index) {
		case 0:
		case 1:
		case 2:
			give_up(r, &random);
			break;
		case 3:
			bring(r, &random);
			break;
		default:
			come_and_go(r, &random);
			break;
		}
		if (next_random(&random) % 4 == 0)
			sleep_ms(1);
	}
}

/* The source: slow in parts, failing one read in twenty, and for ever in one block. */
static void make_source(struct round *r, uint64_t *random)
{
	struct fln_source_error_opts some = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source_error_opts bad = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source_delay_opts delay = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source *made, *slow, *flaky;

	r->bed.maker.concurrency =
		next_random(random) % 3 ? FLN_SOURCE_PARALLEL : FLN_SOURCE_SERIAL;
	maker_source(&r->bed.maker, &made);
	delay.delay_ns = next_random(random) % (2 * MS);
	delay.every_pages = 16;
	OK(fln_source_with_delay(made, &delay, &slow));
	some.seed = r->seed;
	some.fail_percent = 5;
	some.error = next_random(random) % 2 ? EIO : 0;
	OK(fln_source_with_errors(slow, &some, &flaky));
	bad.offset_bytes = BAD_BLOCK * BLOCK;
	bad.len_bytes = PAGE;
	bad.error = EIO;
	OK(fln_source_with_errors(flaky, &bad, &r->bed.source));
	fln_source_destroy(made);
	fln_source_destroy(slow);
	fln_source_destroy(flaky);
	r->bed.image_opts.source = r->bed.source;
}

static void one_round(uint64_t seed, struct peer *peer, uint32_t ms)
{
	struct round r = { .peer = peer, .seed = seed };
	struct crew touchers, meddlers;
	uint64_t random = seed;
	struct fln_stats s;

	bed_init(&r.bed, 512 * 40 + next_random(&random) % 512);
	r.bed.engine_opts.nr_workers = 1 + (uint32_t)(next_random(&random) % 3);
	r.bed.engine_opts.fill_pages = 1u << next_random(&random) % 8;
	r.bed.engine_opts.source_retries = 8;
	r.bed.engine_opts.batch_max = 4u << next_random(&random) % 5;
	r.bed.engine_opts.held_max = 64u << next_random(&random) % 4;
	r.bed.guest_opts.nr_shards = 1u << next_random(&random) % 6;
	r.bed.guest_opts.window_max = 1u << next_random(&random) % 10;
	r.bed.guest_opts.window_first = 1;
	r.bed.region_opts.max_chunks = next_random(&random) % 3 ? 0 : 4;
	r.given_up = calloc(r.bed.nr_pages, sizeof(*r.given_up));
	CHECK(r.given_up, "no memory");
	make_source(&r, &random);
	bed_up(&r.bed);
	CHECK(peer_do(peer, PEER_MAP, 0, r.bed.nr_pages * PAGE, fln_image_memfd(r.bed.image), NULL,
		      NULL) == 0,
	      "the other process cannot map");
	STEP("seed %llu: all at once", (unsigned long long)seed);
	crew_start(&touchers, NR_THREADS, toucher, &r);
	crew_start(&meddlers, 5, meddler, &r);
	sleep_ms(ms);
	atomic_store(&r.ending, true);
	STEP("seed %llu: the end", (unsigned long long)seed);
	crew_wait(&meddlers, 30, "threads that meddle");
	if (next_random(&random) % 2)
		OK(fln_guest_stop(r.bed.guest));
	else
		OK(fln_engine_stop(r.bed.engine));
	sleep_ms(5);
	atomic_store(&r.stop, true);
	crew_wait(&touchers, 30, "threads that touch");
	check_stats(r.bed.guest, true, &s);
	test_note("seed %llu: %llu right, %llu zero, %llu signals; %llu faults, %llu refaults, "
		  "%llu poisoned, %llu failed, %llu put off",
		  (unsigned long long)seed, (unsigned long long)atomic_load(&r.nr_ok),
		  (unsigned long long)atomic_load(&r.nr_zero),
		  (unsigned long long)atomic_load(&r.nr_signals), (unsigned long long)s.faults,
		  (unsigned long long)s.refaults, (unsigned long long)s.poisoned,
		  (unsigned long long)s.failed, (unsigned long long)s.again);
	bed_down(&r.bed);
	free(r.given_up);
}

static uint64_t next_seed;
static struct peer peer;

static void round_of_all(void)
{
	one_round(next_seed++, &peer, 400);
}

int main(int argc, char **argv)
{
	peer_start(&peer);
	test_init();
	next_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 1000;
	(void)printf("seed %llu\n", (unsigned long long)next_seed);
	(void)fflush(stdout);
	for (uint32_t i = 0; i < test_scale(4, 12, 500); i++)
		RUN(round_of_all);
	peer_stop(&peer);
	return 0;
}
