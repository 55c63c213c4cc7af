/* SPDX-License-Identifier: MIT */
/*
 * 200 threads touch while others give pages up in every way there is, here and
 * in another process.  A model says of each page what may be read: contents,
 * the owner's last write, or zero after a discard; and when it must be zero.
 *
 * Each page has one owner, which reads and writes it.  Discards are stamped from
 * one clock.  With s the stamp taken before a discard and e after:
 *  - zero is right only if a discard that began (s) is not known to be over
 *    before the owner last saw the page with something in it;
 *  - what was in the page before is wrong if a discard began after that was
 *    seen or written, and ended before the read began.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NR_DISCARDERS 4u
#ifdef STORM_HUGE
#include "tests/support/hugepages.h"
/* The same with huge pages: one page of the model is 2 MiB. */
#define UNIT BLOCK
#define NR_THREADS 50u
#define MAX_RUN 4u
#else
#define UNIT PAGE
#define NR_THREADS 200u
#define MAX_RUN 24u
#endif

struct page {
	_Atomic uint64_t nr_begun; /* discards that take contents away */
	_Atomic uint64_t nr_ended;
	_Atomic uint64_t last_begun; /* stamp: the beginning of the last that has ended */
	_Atomic uint64_t soft_begun; /* MADV_DONTNEED, which counts while unfilled only */
	/* The owner's alone. */
	uint64_t value;        /* what was last seen or written */
	uint64_t stamp;        /* when that was over */
	uint64_t ended_before; /* nr_ended when it began */
	bool known;
};

static struct {
	struct bed bed;
	struct peer peer;
	struct page *pages;
	uint64_t nr_units;
	_Atomic uint64_t clock;
	_Atomic bool stop;
	_Atomic uint64_t nr_touches, nr_zero, nr_discarded;
	uint64_t until_ns;
} storm;

static uint8_t *unit_addr(const struct bed *b, uint64_t page)
{
	return b->mem + page * UNIT;
}

static uint64_t tick(void)
{
	return atomic_fetch_add(&storm.clock, 1) + 1;
}

static void raise_to(_Atomic uint64_t *at, uint64_t value)
{
	uint64_t old = atomic_load(at);

	while (old < value && !atomic_compare_exchange_weak(at, &old, value))
		;
}

static void check_read(struct page *p, uint64_t page, uint64_t value, uint64_t gone_before)
{
	uint64_t first = word_of(1, page * (UNIT / PAGE), 0);
	bool discard_possible = atomic_load(&p->nr_begun) > p->ended_before;

	if (!p->known)
		discard_possible |= atomic_load(&p->soft_begun) > 0;
	if (value == 0) {
		CHECK(discard_possible || (p->known && p->value == 0),
		      "page %llu reads zero, and nobody gave it up", (unsigned long long)page);
		atomic_fetch_add(&storm.nr_zero, 1);
		return;
	}
	if (p->known) {
		CHECK(value == p->value, "page %llu reads 0x%llx after 0x%llx (contents 0x%llx)",
		      (unsigned long long)page, (unsigned long long)value,
		      (unsigned long long)p->value, (unsigned long long)first);
		CHECK(gone_before <= p->stamp,
		      "page %llu reads 0x%llx, which was given up before: stale",
		      (unsigned long long)page, (unsigned long long)value);
	} else {
		CHECK(value == first, "page %llu reads 0x%llx, contents are 0x%llx",
		      (unsigned long long)page, (unsigned long long)value,
		      (unsigned long long)first);
	}
}

static void use_page(uint64_t page, uint64_t *random)
{
	struct page *p = &storm.pages[page];
	uint64_t gone_before = atomic_load(&p->last_begun), ended = atomic_load(&p->nr_ended);
	bool write = next_random(random) % 4 == 0;
	uint64_t value = (next_random(random) << 1) | 1;
	enum touch end = write ? touch_write(unit_addr(&storm.bed, page), value)
			       : touch_read(unit_addr(&storm.bed, page), &value);

	CHECK(end == TOUCH_OK, "page %llu: the thread %s", (unsigned long long)page,
	      touch_name(end));
	if (!write)
		check_read(p, page, value, gone_before);
	if (write || !p->known || value != p->value) {
		p->value = value;
		p->known = true;
		/* A write counts from its end; what was read may have been there long before. */
		p->stamp = write ? tick() : atomic_load(&storm.clock);
		p->ended_before = ended;
	}
	atomic_fetch_add(&storm.nr_touches, 1);
}

static void owner(void *arg, uint32_t index)
{
	uint64_t random = index + 1, nr = storm.nr_units / NR_THREADS;

	(void)arg;
	while (!atomic_load(&storm.stop)) {
		for (uint32_t i = 0; i < 16; i++)
			use_page(next_random(&random) % nr * NR_THREADS + index, &random);
		sleep_ms(1); /* room for those that give up */
	}
}

/* How contents go: all of these leave zeros behind, the first not always. */
static void discard(uint32_t way, uint64_t page, uint64_t nr)
{
	struct bed *b = &storm.bed;
	uint64_t offset = page * UNIT, len = nr * UNIT;
	int64_t rc;

	switch (way) {
	case 0:
		rc = madvise(unit_addr(b, page), len, MADV_DONTNEED);
		break;
	case 1:
		rc = madvise(unit_addr(b, page), len, MADV_REMOVE);
		break;
	case 2:
		rc = fallocate(fln_image_memfd(b->image),
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			       (off_t)len);
		break;
	case 3:
		rc = fln_image_discard(b->image, offset, len);
		break;
	case 4:
		rc = peer_do(&storm.peer, PEER_REMOVE, offset, len, -1, NULL, NULL);
		break;
	case 5:
		rc = peer_do(&storm.peer, PEER_DONTNEED, offset, len, -1, NULL, NULL);
		break;
	default:
		rc = peer_do(&storm.peer, PEER_PUNCH, offset, len, -1, NULL, NULL);
		break;
	}
	CHECK(rc == 0, "discard by way %u: %lld, %s", way, (long long)rc, strerror(errno));
}

static void discarder(void *arg, uint32_t index)
{
	uint64_t random = 1000 + index;

	(void)arg;
	while (!atomic_load(&storm.stop)) {
		uint32_t way = (uint32_t)(next_random(&random) % 7);
		uint64_t nr = 1 + next_random(&random) % MAX_RUN;
		uint64_t page = next_random(&random) % (storm.nr_units - nr);
		bool soft = way == 0 || way == 5;
		uint64_t begun = tick();

		for (uint64_t i = page; i < page + nr; i++)
			atomic_fetch_add(soft ? &storm.pages[i].soft_begun
					      : &storm.pages[i].nr_begun,
					 1);
		discard(way, page, nr);
		for (uint64_t i = page; i < page + nr && !soft; i++) {
			raise_to(&storm.pages[i].last_begun, begun);
			atomic_fetch_add(&storm.pages[i].nr_ended, 1);
		}
		atomic_fetch_add(&storm.nr_discarded, nr);
		if (index % 2)
			sleep_ms(1);
	}
}

static uint64_t how_many(void)
{
#ifdef STORM_HUGE
	return 2 * NR_THREADS;
#else
	return test_scale(1200, 4000, 40000) / NR_THREADS * NR_THREADS;
#endif
}

static void run_storm(bool lazy)
{
	uint64_t nr = how_many();
	struct crew owners, discarders;
	struct fln_stats s;

	bed_init(&storm.bed, nr * (UNIT / PAGE));
	storm.nr_units = nr;
	storm.bed.image_opts.page_bytes = (uint32_t)UNIT;
	storm.bed.engine_opts.nr_workers = 2;
	storm.pages = calloc(nr, sizeof(*storm.pages));
	CHECK(storm.pages, "no memory");
	atomic_store(&storm.stop, false);
	atomic_store(&storm.nr_touches, 0);
	atomic_store(&storm.nr_zero, 0);
	atomic_store(&storm.nr_discarded, 0);
	storm.bed.maker.delay_ns = MS / 5;
	bed_up(&storm.bed);
	if (!lazy)
		OK(fln_image_fill(storm.bed.image, 0, nr * UNIT));
	CHECK(peer_do(&storm.peer, PEER_MAP, 0, nr * UNIT, fln_image_memfd(storm.bed.image), NULL,
		      NULL) == 0,
	      "the other process cannot map");
	STEP("the storm");
	crew_start(&owners, NR_THREADS, owner, NULL);
	crew_start(&discarders, NR_DISCARDERS, discarder, NULL);
	sleep_ms(test_scale(700, 4000, 60000));
	atomic_store(&storm.stop, true);
	crew_wait(&discarders, 20, "threads that give pages up");
	crew_wait(&owners, 20, "threads that touch");
	settled_stats(storm.bed.guest, &s);
	test_note("%llu touches (%llu read zero), %llu pages given up, %llu faults, %llu refaults, "
		  "%llu put off by events",
		  (unsigned long long)atomic_load(&storm.nr_touches),
		  (unsigned long long)atomic_load(&storm.nr_zero),
		  (unsigned long long)atomic_load(&storm.nr_discarded),
		  (unsigned long long)s.faults, (unsigned long long)s.refaults,
		  (unsigned long long)s.again);
	/* No livelock: a page that was given up faults again a few times at most. */
	CHECK(s.refaults <= 4 * atomic_load(&storm.nr_discarded) + 1000,
	      "%llu refaults for %llu pages given up", (unsigned long long)s.refaults,
	      (unsigned long long)atomic_load(&storm.nr_discarded));
	CHECK(s.faults <= 4 * (atomic_load(&storm.nr_discarded) + nr) + 1000, "%llu faults",
	      (unsigned long long)s.faults);
	CHECK(s.poisoned == 0 && s.failed == 0, "%llu poisoned, %llu failed",
	      (unsigned long long)s.poisoned, (unsigned long long)s.failed);
	CHECK(atomic_load(&storm.nr_zero) > 0, "the storm gave nothing up");
	bed_down(&storm.bed);
	free(storm.pages);
}

static void filled(void)
{
	run_storm(false);
}

static void lazy(void)
{
	run_storm(true);
}

int main(void)
{
#ifdef STORM_HUGE
	/* For both storms: the other process keeps the first memory until it maps the second. */
	const char *why = hugepages_take(2 * how_many());

	if (why)
		test_skip("%s", why);
#endif
	peer_start(&storm.peer);
	test_init();
	RUN(filled);
	RUN(lazy);
	peer_stop(&storm.peer);
	return 0;
}
