/* SPDX-License-Identifier: MIT */
/* fln_guest_populate() and FLN_ADVICE_WILLNEED: jobs beside faults, and what ends them. */
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct seen {
	_Atomic uint32_t nr;
	uint64_t last, len;
	uint32_t cancel_at; /* the n-th call; 0: never */
};

static int progress(void *ctx, uint64_t done_bytes, uint64_t len_bytes)
{
	struct seen *s = ctx;

	CHECK(done_bytes >= s->last && done_bytes <= len_bytes,
	      "done went from %llu to %llu of %llu", (unsigned long long)s->last,
	      (unsigned long long)done_bytes, (unsigned long long)len_bytes);
	s->last = done_bytes;
	s->len = len_bytes;
	return atomic_fetch_add(&s->nr, 1) + 1 == s->cancel_at;
}

static uint64_t base(const struct bed *b)
{
	return (uint64_t)(uintptr_t)b->mem;
}

static void check_page(const struct bed *b, uint64_t page)
{
	bool right = false;

	CHECK(touch_page(bed_page(b, page), 1, page, &right) == TOUCH_OK && right,
	      "page %llu is wrong", (unsigned long long)page);
}

/*
 * Nobody has faulted on what populate has mapped.  What is mapped need not stay so: the
 * kernel's reclaim takes pages out of page tables where it likes, and no event tells
 * (tests/platform/uffd_pageout_refaults.c); on hosts with DAMON a page in some thousand
 * runs.  Such a page faults again, once, and the map has called it PRESENT: a refault.
 * Any other fault is on a page that was never mapped; and many refaults are no accident.
 */
static void check_no_fault(const struct bed *b)
{
	struct fln_stats s;

	settled_stats(b->guest, &s);
	CHECK(s.faults == s.refaults, "%llu faults after a populate, %llu of them on mapped pages",
	      (unsigned long long)s.faults, (unsigned long long)s.refaults);
	CHECK(s.refaults <= b->nr_pages / 16, "%llu of %llu mapped pages faulted again",
	      (unsigned long long)s.refaults, (unsigned long long)b->nr_pages);
	if (s.refaults > 0)
		test_note("%llu pages were reclaimed", (unsigned long long)s.refaults);
}

static void check_all(const struct bed *b)
{
	for (uint64_t p = 0; p < b->nr_pages; p++)
		check_page(b, p);
	check_no_fault(b);
}

static void all_of_it(void)
{
	struct fln_populate_opts o = FLN_POPULATE_OPTS_INIT;
	struct fln_stats s;
	struct seen seen = { 0 };
	struct bed b;

	bed_init(&b, 20 * 512 + 77);
	bed_up(&b);
	o.progress = progress;
	o.progress_ctx = &seen;
	o.interval_ns = MS;
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, &o));
	CHECK(seen.nr > 0 && seen.last == b.nr_pages * PAGE && seen.len == b.nr_pages * PAGE,
	      "progress ended at %llu of %llu after %u calls", (unsigned long long)seen.last,
	      (unsigned long long)seen.len, seen.nr);
	settled_stats(b.guest, &s);
	CHECK(s.populated == b.nr_pages, "populated says %llu", (unsigned long long)s.populated);
	check_all(&b);
	/* Once more is nothing to do. */
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	bed_down(&b);
}

static void bad_calls(void)
{
	struct fln_populate_opts o = FLN_POPULATE_OPTS_INIT;
	struct bed b;

	bed_init(&b, 512);
	bed_up(&b);
	REFUSED(fln_guest_populate(NULL, 0, PAGE, NULL), -EINVAL, "NULL");
	REFUSED(fln_guest_populate(b.guest, base(&b), 0, NULL), -EINVAL, test_hex(base(&b)));
	REFUSED(fln_guest_populate(b.guest, base(&b) + 1, PAGE, NULL), -EINVAL,
		test_hex(base(&b) + 1));
	REFUSED(fln_guest_populate(b.guest, base(&b), 513 * PAGE, NULL), -EINVAL,
		test_hex(base(&b) + 512 * PAGE));
	REFUSED(fln_guest_populate(b.guest, UINT64_MAX - PAGE + 1, 2 * PAGE, NULL), -EINVAL,
		test_hex(UINT64_MAX - PAGE + 1));
	o.size = 3;
	REFUSED(fln_guest_populate(b.guest, base(&b), PAGE, &o), -EINVAL, "size");
	REFUSED(fln_guest_advise(b.guest, base(&b), PAGE, FLN_ADVICE_NR), -EINVAL, "advice");
	OK(fln_guest_stop(b.guest));
	REFUSED(fln_guest_populate(b.guest, base(&b), PAGE, NULL), -ESHUTDOWN, NULL);
	REFUSED(fln_guest_advise(b.guest, base(&b), PAGE, FLN_ADVICE_WILLNEED), -ESHUTDOWN, NULL);
	bed_down(&b);
}

/*
 * Holes are mapped by populate, and cost memory only there: not by WILLNEED, except holes of large
 * folios, which have memory.
 */
static void holes_of(uint32_t folio)
{
	uint64_t present, filled, nr_large;
	struct fln_residency r = FLN_RESIDENCY_INIT;
	struct fln_memory_stats m = FLN_MEMORY_STATS_INIT;
	struct bed b;
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;

	bed_init(&b, 4 * 512);
	b.maker.every_zero = 4;
	b.image_opts.folio = folio;
	bed_up(&b);
	OK(fln_guest_advise(b.guest, base(&b), b.nr_pages * PAGE, FLN_ADVICE_WILLNEED));
	do {
		CHECK(now_ns() < until, "WILLNEED has not mapped everything: %llu",
		      (unsigned long long)r.nr_pages[FLN_RESIDENCY_PRESENT]);
		sleep_ms(1);
		OK(fln_guest_residency(b.guest, base(&b), b.nr_pages * PAGE, NULL, &r));
		present = r.nr_pages[FLN_RESIDENCY_PRESENT];
		filled = r.nr_pages[FLN_RESIDENCY_FILLED];
	} while (present < b.nr_pages * 3 / 4 || present + filled < b.nr_pages);
	sleep_ms(20);
	OK(fln_guest_residency(b.guest, base(&b), b.nr_pages * PAGE, NULL, &r));
	OK(fln_image_memory_stats(b.image, &m));
	nr_large = m.large_blocks;
	CHECK(r.nr_pages[FLN_RESIDENCY_PRESENT] == b.nr_pages * 3 / 4 + nr_large * 128 &&
		      r.nr_pages[FLN_RESIDENCY_FILLED] == b.nr_pages / 4 - nr_large * 128,
	      "%llu present, %llu filled", (unsigned long long)r.nr_pages[FLN_RESIDENCY_PRESENT],
	      (unsigned long long)r.nr_pages[FLN_RESIDENCY_FILLED]);
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	for (uint64_t p = 0; p < b.nr_pages; p++) {
		uint64_t v = 1, want = p % 4 == 3 ? 0 : word_of(1, p, 0);

		CHECK(touch_read(bed_page(&b, p), &v) == TOUCH_OK && v == want, "page %llu: 0x%llx",
		      (unsigned long long)p, (unsigned long long)v);
	}
	check_no_fault(&b);
	bed_down(&b);
}

static void holes(void)
{
	holes_of(FLN_FOLIO_SMALL);
	holes_of(FLN_FOLIO_LARGE);
}

/* What nobody tells of: a hole punched through the descriptor. */
static void after_a_punch(void)
{
	struct bed b;
	uint64_t v;

	bed_init(&b, 3 * 512);
	bed_up(&b);
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	OK(fln_image_discard(b.image, 100 * PAGE, 700 * PAGE));
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	for (uint64_t p = 0; p < b.nr_pages; p++) {
		CHECK(touch_read(bed_page(&b, p), &v) == TOUCH_OK &&
			      v == (p >= 100 && p < 800 ? 0 : word_of(1, p, 0)),
		      "page %llu reads 0x%llx", (unsigned long long)p, (unsigned long long)v);
	}
	check_no_fault(&b);
	/* And one that the kernel tells of. */
	CHECK(madvise(bed_page(&b, 0), 64 * PAGE, MADV_DONTNEED) == 0, "madvise: %s",
	      strerror(errno));
	OK(fln_guest_populate(b.guest, base(&b), 64 * PAGE, NULL));
	for (uint64_t p = 0; p < 64; p++)
		check_page(&b, p);
	check_no_fault(&b);
	bed_down(&b);
}

/* What reclaim takes, populate brings back; and a touch too, from the cache. */
static void after_reclaim(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 3 * 512);
	bed_up(&b);
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	if (madvise(b.mem, b.nr_pages * PAGE, MADV_PAGEOUT) != 0) {
		test_note("MADV_PAGEOUT: %s", strerror(errno));
		bed_down(&b);
		return;
	}
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	check_all(&b);
	settled_stats(b.guest, &s);
	test_note("%llu pages were mapped again", (unsigned long long)(s.populated - b.nr_pages));
	CHECK(madvise(b.mem, b.nr_pages * PAGE, MADV_PAGEOUT) == 0, "madvise: %s", strerror(errno));
	for (uint64_t p = 0; p < b.nr_pages; p++)
		check_page(&b, p);
	settled_stats(b.guest, &s);
	CHECK(s.faults == s.refaults && s.major == 0 && s.zero == 0,
	      "%llu faults, %llu refaults, %llu major, %llu zero", (unsigned long long)s.faults,
	      (unsigned long long)s.refaults, (unsigned long long)s.major,
	      (unsigned long long)s.zero);
	test_note("%llu faulted again", (unsigned long long)s.refaults);
	bed_down(&b);
}

static void cancelled(void)
{
	struct fln_populate_opts o = FLN_POPULATE_OPTS_INIT;
	struct seen seen = { .cancel_at = 3 };
	struct bed b;

	bed_init(&b, 64 * 512);
	b.maker.delay_ns = 20 * MS;
	bed_up(&b);
	o.progress = progress;
	o.progress_ctx = &seen;
	o.interval_ns = 5 * MS;
	REFUSED(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, &o), -ECANCELED, NULL);
	CHECK(seen.nr == 3, "progress was called %u times", seen.nr);
	check_page(&b, 5);
	bed_down(&b);
}

static int64_t never(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	(void)ctx;
	for (uint64_t at = 0; at < len_bytes; at += PAGE) {
		if ((offset_bytes + at) / PAGE % 512 == 300)
			return -EIO;
		contents_of(1, (offset_bytes + at) / PAGE, (char *)buf + at);
	}
	return (int64_t)len_bytes;
}

static void a_page_that_cannot_be_read_is_named(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "broken",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = never };
	char where[32];
	struct bed b;

	bed_init(&b, 3 * 512);
	b.engine_opts.source_retries = 1;
	OK(fln_source_create(&ops, NULL, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	(void)snprintf(where, sizeof(where), "0x%llx", (unsigned long long)(base(&b) + 300 * PAGE));
	REFUSED(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL), -EIO, where);
	/* All others are there, and nothing was poisoned. */
	for (uint64_t p = 0; p < b.nr_pages; p++) {
		if (p % 512 != 300)
			check_page(&b, p);
	}
	check_stats(b.guest, false, NULL);
	bed_down(&b);
}

/* A source that does not answer ends a populate, as it ends faults. */
static void a_source_that_is_late(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 4 * 512);
	b.engine_opts.source_timeout_ns = 1500 * MS;
	bed_up(&b);
	OK(fln_guest_populate(b.guest, base(&b), BLOCK, NULL));
	atomic_store(&b.maker.gate_closed, true);
	REFUSED(fln_guest_populate(b.guest, base(&b), 4 * BLOCK, NULL), -EIO,
		test_hex(base(&b) + BLOCK));
	atomic_store(&b.maker.gate_closed, false);
	/* It was late, and no more: it can be asked again. */
	OK(fln_guest_populate(b.guest, base(&b), 4 * BLOCK, NULL));
	settled_stats(b.guest, &s);
	CHECK(s.poisoned == 0, "%llu are poisoned", (unsigned long long)s.poisoned);
	check_all(&b);
	bed_down(&b);
}

struct storm {
	struct bed *b;
	_Atomic uint32_t nr_touched;
	_Atomic bool stop;
};

static void touch_some(void *arg, uint32_t index)
{
	struct storm *s = arg;
	uint64_t seed = index + 1;

	while (!atomic_load(&s->stop)) {
		check_page(s->b, next_random(&seed) % s->b->nr_pages);
		atomic_fetch_add(&s->nr_touched, 1);
	}
}

static int stop_when_touched(void *ctx, uint64_t done_bytes, uint64_t len_bytes)
{
	struct storm *s = ctx;

	(void)done_bytes;
	(void)len_bytes;
	return atomic_load(&s->nr_touched) >= 64;
}

/*
 * A source that takes 5 ms for 64 pages would keep the populate busy for longer than
 * a fault may wait: faults are served while it is under way, and it is cancelled then.
 */
static void faults_go_first(void)
{
	struct fln_populate_opts o = FLN_POPULATE_OPTS_INIT;
	struct storm s = { 0 };
	struct crew crew;
	struct bed b;

	bed_init(&b, 512 * 512);
	b.maker.delay_ns = 5 * MS;
	bed_up(&b);
	s.b = &b;
	crew_start(&crew, 64, touch_some, &s);
	o.progress = stop_when_touched;
	o.progress_ctx = &s;
	o.interval_ns = MS;
	REFUSED(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, &o), -ECANCELED, NULL);
	atomic_store(&s.stop, true);
	crew_wait(&crew, 60, "64 threads beside a populate");
	bed_down(&b);
}

static void beside_many_threads(void)
{
	struct storm s = { 0 };
	struct crew crew;
	struct bed b;

	bed_init(&b, 32 * 512);
	bed_up(&b);
	s.b = &b;
	crew_start(&crew, 64, touch_some, &s);
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	atomic_store(&s.stop, true);
	crew_wait(&crew, 60, "64 threads");
	bed_down(&b);
}

/* Contents that are pushed: populate waits for them. */
static void pushed_meanwhile(void *arg, uint32_t index)
{
	struct bed *b = arg;
	char buf[PAGE];

	(void)index;
	for (uint64_t p = 0; p < b->nr_pages; p++) {
		contents_of(1, p, buf);
		OK(fln_image_put(b->image, p * PAGE, buf, PAGE));
	}
}

static void waits_for_what_is_pushed(void)
{
	struct fln_image_opts none = FLN_IMAGE_OPTS_INIT;
	struct crew crew;
	struct bed b;

	bed_init(&b, 1000);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	OK(fln_engine_start(b.engine));
	none.len_bytes = b.nr_pages * PAGE;
	OK(fln_image_create(b.engine, &none, &b.image));
	bed_up(&b);
	crew_start(&crew, 1, pushed_meanwhile, &b);
	OK(fln_guest_populate(b.guest, base(&b), b.nr_pages * PAGE, NULL));
	check_all(&b);
	crew_wait(&crew, 20, "the pushing thread");
	bed_down(&b);
}

/* Whatever ends: the populate ends too. */
enum ender {
	END_STOP,
	END_REMOVE,
	END_ENGINE,
	END_NR
};

struct race {
	struct bed b;
	_Atomic int rc;
};

static void populate_until_it_ends(void *arg, uint32_t index)
{
	struct race *r = arg;
	int rc = fln_guest_populate(r->b.guest, base(&r->b), r->b.nr_pages * PAGE, NULL);

	(void)index;
	CHECK(rc == 0 || rc == -ESHUTDOWN || rc == -EINVAL, "returned %d: %s", rc,
	      fln_last_error());
	atomic_store(&r->rc, rc);
}

static void races(void)
{
	uint32_t nr = test_scale(20, 100, 1000), ended = 0;

	for (uint32_t i = 0; i < nr; i++) {
		enum ender ender = i % END_NR;
		struct race r;
		struct crew crew;

		memset(&r, 0, sizeof(r));
		bed_init(&r.b, 16 * 512);
		r.b.maker.delay_ns = i % 2 ? MS / 2 : 0;
		bed_up(&r.b);
		STEP("race %u", i);
		crew_start(&crew, 2, populate_until_it_ends, &r);
		if (i % 4)
			OK(fln_guest_advise(r.b.guest, base(&r.b), r.b.nr_pages * PAGE,
					    FLN_ADVICE_WILLNEED));
		if (i % 5)
			sleep_ms(i % 5);
		if (ender == END_STOP)
			OK(fln_guest_stop(r.b.guest));
		else if (ender == END_REMOVE)
			OK(fln_region_remove(r.b.region));
		else
			OK(fln_engine_stop(r.b.engine));
		crew_wait(&crew, WAIT_S, "populate after what it populates has ended");
		ended += atomic_load(&r.rc) == -ESHUTDOWN;
		bed_down(&r.b);
	}
	test_note("%u of %u were under way when it ended", ended, nr);
	CHECK(ended > 0, "none was under way");
}

/* Page 1 cannot be read, page 3 not yet. */
struct halting {
	_Atomic bool go_on;
	_Atomic uint32_t nr_failed, nr_inside;
};

static int64_t read_halting(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct halting *h = ctx;
	uint64_t page = offset_bytes / PAGE;

	if (page == 1) {
		atomic_fetch_add(&h->nr_failed, 1);
		return -EIO;
	}
	if (page == 3)
		atomic_fetch_add(&h->nr_inside, 1);
	while (page == 3 && !atomic_load(&h->go_on))
		sleep_ms(1);
	for (uint64_t at = 0; at < len_bytes; at += PAGE)
		contents_of(1, (offset_bytes + at) / PAGE, (char *)buf + at);
	return (int64_t)len_bytes;
}

enum waiting_call {
	CALL_POPULATE,
	CALL_LOCK,
	CALL_NR
};

static void call_until_it_ends(void *arg, uint32_t index)
{
	struct bed *b = arg;
	int rc = index % CALL_NR == CALL_POPULATE
			 ? fln_guest_populate(b->guest, base(b), b->nr_pages * PAGE, NULL)
			 : fln_guest_lock(b->guest, base(b), b->nr_pages * PAGE);

	/* A thread that had no processor before comes too late for the region. */
	CHECK(rc == -ESHUTDOWN || rc == -EINVAL, "call %u returned %d: %s", index, rc,
	      fln_last_error());
}

/* A page of the range has failed before its region goes: what works on the range ends all the same. */
static void ends_after_a_page_has_failed(void)
{
	static struct halting h;
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "halting",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = read_halting };
	struct crew crew;
	struct bed b;
	int rc = 0;

	bed_init(&b, 4);
	b.engine_opts.fill_pages = 1;
	b.engine_opts.source_retries = UINT32_MAX;
	OK(fln_source_create(&ops, &h, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	crew_start(&crew, CALL_NR, call_until_it_ends, &b);
	while (rc == 0) /* until there are as many ranges as may be */
		rc = fln_guest_advise(b.guest, base(&b), b.nr_pages * PAGE, FLN_ADVICE_WILLNEED);
	CHECK(rc == -EBUSY, "WILLNEED returned %d", rc);
	wait_count(&h.nr_failed, 1, WAIT_S, "the read of page 1");
	wait_count(&h.nr_inside, 1, WAIT_S, "the read of page 3");
	sleep_ms(50); /* for the workers to see what has failed; else there is less to see */
	OK(fln_region_remove(b.region));
	crew_wait(&crew, WAIT_S, "populate and lock of a region that was removed");
	OK(fln_region_add(b.guest, &b.region_opts, &b.region));
	b.mem = fln_region_addr(b.region);
	/* No range of the old region is in the way. */
	OK(fln_guest_advise(b.guest, base(&b), b.nr_pages * PAGE, FLN_ADVICE_WILLNEED));
	atomic_store(&h.go_on, true);
	bed_down(&b);
}

static void populate_until_closed(void *arg, uint32_t index)
{
	const struct bed *b = arg;
	int rc = fln_guest_populate(b->guest, base(b), b->nr_pages * PAGE, NULL);

	(void)index;
	CHECK(rc == 0 || rc == -ESHUTDOWN, "returned %d: %s", rc, fln_last_error());
}

/* A source that hangs has all the fills that its image may have: another's range is populated. */
static void beside_a_source_that_hangs(void)
{
	struct fln_image_opts io = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct maker other = { .salt = 2, .concurrency = FLN_SOURCE_PARALLEL };
	struct fln_guest *guest;
	struct fln_region *region;
	struct crew crew;
	struct bed b;

	bed_init(&b, 256 * 512);
	b.engine_opts.nr_workers = 1;
	b.engine_opts.fill_pages = 16;
	bed_up(&b);
	maker_source(&other, &io.source);
	io.len_bytes = ro.len_bytes = 64 * BLOCK;
	OK(fln_image_create(b.engine, &io, &ro.image));
	OK(fln_guest_create(b.engine, NULL, &guest));
	OK(fln_region_add(guest, &ro, &region));
	OK(fln_guest_start(guest));
	atomic_store(&b.maker.gate_closed, true);
	crew_start(&crew, 1, populate_until_closed, &b);
	wait_count(&b.maker.nr_inside, 1, WAIT_S, "a read that hangs");
	STEP("populating beside it");
	OK(fln_guest_populate(guest, (uintptr_t)fln_region_addr(region), ro.len_bytes, NULL));
	atomic_store(&b.maker.gate_closed, false);
	OK(fln_region_remove(b.region));
	b.region = NULL;
	crew_wait(&crew, 60, "the populate whose source hung");
	OK(fln_guest_destroy(guest));
	OK(image_destroy_in_time(ro.image));
	fln_source_destroy(io.source);
	bed_down(&b);
}

static bool is_mapped(const struct bed *b, uint64_t page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;
	ssize_t n = pread(fd, &entry, sizeof(entry),
			  (off_t)((uintptr_t)bed_page(b, page) / PAGE * sizeof(entry)));

	CHECK(n == (ssize_t)sizeof(entry), "pagemap: %s", strerror(errno));
	(void)close(fd);
	return entry >> 63;
}

static void populate_all(void *arg, uint32_t index)
{
	const struct bed *b = arg;

	(void)index;
	OK(fln_guest_populate(b->guest, base(b), b->nr_pages * PAGE, NULL));
}

/*
 * The map calls a page PRESENT that has gone since populate looked at the whole range: it
 * looks again when it comes to the block.  Here a page is taken away while the source keeps
 * all blocks that are in work.
 */
static void gone_before_its_turn(void)
{
	enum {
		NR_BLOCKS = 64,
		LAST = NR_BLOCKS - 1
	};
	struct crew crew;
	struct bed b;

	bed_init(&b, NR_BLOCKS * 512);
	b.engine_opts.nr_workers = 1;
	b.guest_opts.nr_shards = 1;
	bed_up(&b);
	OK(fln_guest_populate(b.guest, base(&b) + LAST * BLOCK, BLOCK, NULL));
	CHECK(is_mapped(&b, LAST * 512 + 7), "a populated page is not mapped");
	atomic_store(&b.maker.gate_closed, true);
	crew_start(&crew, 1, populate_all, &b);
	wait_count(&b.maker.nr_inside, 1, WAIT_S, "a read for populate");
	OK(fln_image_discard(b.image, (LAST * 512 + 7) * PAGE, 3 * PAGE));
	atomic_store(&b.maker.gate_closed, false);
	crew_wait(&crew, 60, "populate");
	for (uint32_t i = 5; i < 12; i++)
		CHECK(is_mapped(&b, LAST * 512 + i), "page %u of the last block is not mapped", i);
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(all_of_it);
	RUN(bad_calls);
	RUN(holes);
	RUN(after_a_punch);
	RUN(after_reclaim);
	RUN(cancelled);
	RUN(a_page_that_cannot_be_read_is_named);
	RUN(a_source_that_is_late);
	RUN(faults_go_first);
	RUN(beside_many_threads);
	RUN(waits_for_what_is_pushed);
	RUN(races);
	RUN(ends_after_a_page_has_failed);
	RUN(gone_before_its_turn);
	RUN(beside_a_source_that_hangs);
	return 0;
}
