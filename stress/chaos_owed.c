/* SPDX-License-Identifier: MIT */
/*
 * Each step makes guests of its own, which nothing else touches, so that their expected contents
 * are known exactly.  A thread that never gets its page is caught by the watchdog (watch.c).
 *
 * One thread takes all of these steps (chaos.c), so they may keep state in static variables.
 */
#include "stress/chaos_owed.h"

#include "stress/complain.h"
#include "stress/guard.h"
#include "stress/other.h"
#include "stress/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OWED_BYTES (UINT64_C(4) << 20)
#define OWED_PAGES (OWED_BYTES / PAGE_BYTES)

static char *page_of(const struct other *o, uint64_t page)
{
	return (char *)fln_region_addr(o->region) + page * PAGE_BYTES;
}

struct reader {
	pthread_t thread;
	const char *at;
	uint64_t copy[PAGE_WORDS];
	int signo;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	struct guard g = { .armed = 0 };

	guard_set(&g);
	r->signo = guard_copy(&g, r->at, r->copy);
	guard_set(NULL);
	return NULL;
}

/*
 * A thread waits for a page whose read hangs; the page is discarded (MADV_REMOVE) and the thread
 * must resume with zeros.
 */
static bool discard_during_read(struct stress *s, struct rng *rng)
{
	static struct reader r;
	struct other o;
	uint64_t page = rng_below(rng, OWED_PAGES);
	bool ran = other_image(s, &o, OWED_BYTES, true) == 0 && other_guest(&o, OWED_BYTES) == 0;

	r.at = ran ? page_of(&o, page) : NULL;
	ran = ran && pthread_create(&r.thread, NULL, reader_main, &r) == 0;
	if (ran) {
		sleep_ms(10 + rng_below(rng, 50));
		stage_begin("discards a page that is being read");
		ran = madvise(page_of(&o, page), PAGE_BYTES, MADV_REMOVE) == 0;
		stage_begin("waits for zeros on a page that was discarded while it was read");
		(void)pthread_join(r.thread, NULL);
		if (ran && r.signo)
			complain(s, "page %llu of a neighbour: signal %d where zero is due",
				 (unsigned long long)page, r.signo);
		else if (ran && (r.copy[0] || r.copy[PAGE_WORDS - 1]))
			complain(s, "page %llu of a neighbour reads %016llx where zero is due",
				 (unsigned long long)page, (unsigned long long)r.copy[0]);
	}
	other_end(&o);
	return ran;
}

struct populater {
	pthread_t thread;
	struct other *o;
	int rc;
};

static void *populate_main(void *arg)
{
	struct populater *p = arg;

	p->rc = fln_guest_populate(p->o->guest, (uint64_t)(uintptr_t)page_of(p->o, 0), OWED_BYTES,
				   NULL);
	return NULL;
}

/*
 * Remove a region during a populate with one failed and one hanging page; populate must return,
 * and not with -EIO.
 */
static bool remove_during_populate(struct stress *s, struct rng *rng)
{
	struct other o;
	struct populater p = { .o = &o };
	bool ran = other_image(s, &o, OWED_BYTES, true) == 0;

	o.nr_failing = 1;
	ran = ran && other_guest(&o, OWED_BYTES) == 0;
	ran = ran && pthread_create(&p.thread, NULL, populate_main, &p) == 0;
	if (ran) {
		sleep_ms(50 + rng_below(rng, 100));
		stage_begin("removes a region that is being populated");
		ran = fln_region_remove(o.region) == 0;
		stage_begin("waits for the end of a populate whose region was removed");
		(void)pthread_join(p.thread, NULL);
		/* -EIO here is the failed page's error, not the region's removal. */
		if (ran && p.rc == -EIO)
			complain(s, "populating a region that was removed ended with %d", p.rc);
	}
	other_end(&o);
	return ran;
}

/* Count pages without a page-table entry (pagemap bit 63). */
static uint64_t count_unmapped(const char *at, uint64_t nr)
{
	uint64_t entry, missing = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	for (uint64_t i = 0; fd >= 0 && i < nr; i++) {
		off_t where = (off_t)(((uintptr_t)at / PAGE_BYTES + i) * sizeof(entry));

		if (pread(fd, &entry, sizeof(entry), where) == (ssize_t)sizeof(entry))
			missing += !(entry >> 63);
	}
	if (fd >= 0)
		(void)close(fd);
	return missing;
}

/* A thread that touches the page at @at when that is set. */
struct toucher_of_one {
	pthread_t thread;
	_Atomic(const char *) at;
	_Atomic bool over;
};

static void *touch_one_main(void *arg)
{
	struct toucher_of_one *t = arg;
	uint64_t copy[PAGE_WORDS];
	struct guard g = { .armed = 0 };

	guard_set(&g);
	while (!atomic_load(&t->over)) {
		const char *at = atomic_exchange(&t->at, NULL);

		if (at)
			(void)guard_copy(&g, at, copy);
		else
			(void)sched_yield();
	}
	guard_set(NULL);
	return NULL;
}

#define OWED_RUN 64u /* pages that one fault maps */

/* Let a fault map pages while they are punched out of the page cache; then populate them. */
static int punch_and_populate(const struct other *o, struct toucher_of_one *t, uint64_t first,
			      uint64_t nap_ns)
{
	off_t at = (off_t)(first * PAGE_BYTES), len = (off_t)(OWED_RUN * PAGE_BYTES);
	int fd = fln_image_memfd(o->image), mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	uint64_t until;

	if (fallocate(fd, mode, at, len) != 0)
		return -1;
	atomic_store(&t->at, page_of(o, first));
	until = now_ns() + nap_ns;
	while (now_ns() < until)
		(void)sched_yield();
	if (fallocate(fd, mode, at, len) != 0)
		return -1;
	return fln_guest_populate(o->guest, (uint64_t)(uintptr_t)page_of(o, first),
				  OWED_RUN * PAGE_BYTES, NULL);
}

/*
 * A punch through the descriptor raises no event, and the caller of populate may pass the pages to
 * a system call that fails rather than wait for a fault, so all of them must be mapped after
 * populate.  Tolerate one miss: the kernel may zap PTEs itself.
 */
static bool populate_after_punch(struct stress *s, struct rng *rng)
{
	struct toucher_of_one t = { .over = false };
	uint64_t nr_missing = 0;
	struct other o;
	bool ran = other_image(s, &o, OWED_BYTES, false) == 0 &&
		   fln_image_fill(o.image, 0, OWED_BYTES) == 0 &&
		   other_guest(&o, OWED_BYTES) == 0 &&
		   pthread_create(&t.thread, NULL, touch_one_main, &t) == 0;

	if (ran) {
		for (uint32_t i = 0; ran && i < 100; i++) {
			uint64_t first = rng_below(rng, OWED_PAGES / OWED_RUN) * OWED_RUN;

			stage_begin("populates pages that were punched out of the page cache");
			ran = punch_and_populate(&o, &t, first, rng_below(rng, 200000)) == 0;
			nr_missing += ran && count_unmapped(page_of(&o, first), OWED_RUN) > 0;
		}
		atomic_store(&t.over, true);
		(void)pthread_join(t.thread, NULL);
	}
	if (nr_missing > 1 && !has_chaos(&s->opts, CHAOS_HOST) &&
	    !has_chaos(&s->opts, CHAOS_MEMORY))
		complain(s, "%llu of 100 runs of pages are not wholly mapped after a populate",
			 (unsigned long long)nr_missing);
	other_end(&o);
	return ran;
}

#define OWED_FAILED 32u /* failing pages, from the first on */

/* A thread that populates failed and discarded pages in the background, by WILLNEED. */
struct willing {
	pthread_t thread;
	struct other *o;
	_Atomic bool over;
};

static void *willing_main(void *arg)
{
	struct willing *w = arg;

	while (!atomic_load(&w->over)) {
		(void)fln_guest_advise(w->o->guest, (uint64_t)(uintptr_t)page_of(w->o, 0),
				       OWED_FAILED * PAGE_BYTES, FLN_ADVICE_WILLNEED);
		(void)sched_yield();
	}
	return NULL;
}

/*
 * Have a failed page discarded by its guest, by the embedder, or by both.  With @image_due, pages
 * that the guest discards read the image, and only the embedder's discard makes the page zero.
 */
static bool discard_failed(const struct other *o, uint64_t page, bool image_due, bool by_guest)
{
	if ((image_due || by_guest) && madvise(page_of(o, page), PAGE_BYTES, MADV_REMOVE) != 0)
		return false;
	return (by_guest && !image_due) ||
	       fln_image_discard(o->image, page * PAGE_BYTES, PAGE_BYTES) == 0;
}

/* Retry for a while: the worker that lifts the page's poison may get no processor at first. */
static void wait_for_zeros(struct stress *s, struct guard *g, const struct other *o, uint64_t page)
{
	static uint64_t copy[PAGE_WORDS];
	uint64_t until = now_ns() + (uint64_t)(s->opts.max_wait_s / 2 * 1e9);
	int signo;

	while ((signo = guard_copy(g, page_of(o, page), copy)) != 0 && now_ns() < until)
		sleep_ms(1);
	if (signo)
		complain(s, "page %llu of a neighbour failed and was discarded: signal %d",
			 (unsigned long long)page, signo);
	else if (copy[0] || copy[PAGE_WORDS - 1])
		complain(s, "page %llu of a neighbour reads %016llx where zero is due",
			 (unsigned long long)page, (unsigned long long)copy[0]);
}

static bool discard_all_failed(struct stress *s, struct rng *rng, const struct other *o,
			       bool image_due)
{
	static uint64_t copy[PAGE_WORDS];
	struct guard g = { .armed = 0 };
	bool done = true;

	guard_set(&g);
	for (uint64_t page = 0; page < OWED_FAILED; page++) {
		stage_begin("touches a failing page");
		if (guard_copy(&g, page_of(o, page), copy) == 0)
			complain(s, "page %llu of a neighbour fails, but could be read",
				 (unsigned long long)page);
	}
	/* With the rest filled, the discard of the last failed page makes its block whole. */
	if (rng_below(rng, 2))
		done = fln_image_fill(o->image, OWED_FAILED * PAGE_BYTES,
				      OWED_BYTES - OWED_FAILED * PAGE_BYTES) == 0;
	for (uint64_t page = 0; done && page < OWED_FAILED; page++) {
		stage_begin("discards a failed page");
		done = discard_failed(o, page, image_due, rng_below(rng, 2));
		stage_begin("waits for zeros on a failed page that was discarded");
		if (done)
			wait_for_zeros(s, &g, o, page);
	}
	guard_set(NULL);
	return done;
}

/* Failed pages are discarded while they are populated, and must read zero. */
static bool discard_failed_during_populate(struct stress *s, struct rng *rng)
{
	bool image_due = rng_below(rng, 2);
	struct other o;
	struct willing w = { .o = &o };
	bool done = other_image(s, &o, OWED_BYTES, false) == 0;

	o.nr_failing = OWED_FAILED;
	done = done &&
	       other_discarding_guest(&o, OWED_BYTES,
				      image_due ? FLN_DISCARD_IMAGE : FLN_DISCARD_ZERO) == 0 &&
	       pthread_create(&w.thread, NULL, willing_main, &w) == 0;
	if (done) {
		done = discard_all_failed(s, rng, &o, image_due);
		atomic_store(&w.over, true);
		(void)pthread_join(w.thread, NULL);
	}
	other_end(&o);
	return done;
}

#define EVENTS_PAGES 4096u /* more poisoned pages than the queue of events has room for */
#define EVENTS_BYTES ((uint64_t)EVENTS_PAGES * PAGE_BYTES)
#define EVENTS_THREADS 16u
#define EVENTS_GUESTS 3u /* several: the share of one may be that of the flooding guest, too */

/* A thread that touches pages that all fail. */
struct fails {
	pthread_t thread;
	const char *at;
};

static void *fails_main(void *arg)
{
	const struct fails *f = arg;
	struct guard g = { .armed = 0 };
	uint64_t copy[PAGE_WORDS];

	guard_set(&g);
	for (uint32_t page = 0; page < EVENTS_PAGES / EVENTS_THREADS; page++)
		(void)guard_copy(&g, f->at + (size_t)page * PAGE_BYTES, copy);
	guard_set(NULL);
	return NULL;
}

/* Create a guest whose pages all fail, and touch all of them. */
static bool fail_all(struct stress *s, struct other *o)
{
	static struct fails f[EVENTS_THREADS];
	bool done = other_image(s, o, EVENTS_BYTES, false) == 0;
	uint32_t nr = 0;

	o->nr_failing = EVENTS_PAGES;
	done = done && other_guest(o, EVENTS_BYTES) == 0;
	for (; done && nr < EVENTS_THREADS; nr++) {
		f[nr].at = page_of(o, (uint64_t)nr * (EVENTS_PAGES / EVENTS_THREADS));
		done = pthread_create(&f[nr].thread, NULL, fails_main, &f[nr]) == 0;
		if (!done)
			break;
	}
	while (nr > 0)
		(void)pthread_join(f[--nr].thread, NULL);
	return done;
}

/* Take all events.  True: one reported a poisoned page of one of these guests. */
static bool take_events(struct stress *s, const struct other *of, uint32_t nr)
{
	struct fln_event e = FLN_EVENT_INIT;
	bool found = false;

	while (fln_engine_next_event(s->engine, &e) == 1) {
		for (uint32_t i = 0; i < nr; i++)
			found |= e.kind == FLN_EVENT_PAGE_POISONED && e.guest == of[i].guest;
	}
	return found;
}

/* A failed page must be reported, although thousands of another guest's pages have failed, too. */
static bool report_beside_flood(struct stress *s, struct rng *rng)
{
	static struct other o[EVENTS_GUESTS + 1];
	struct guard g = { .armed = 0 };
	uint64_t copy[PAGE_WORDS];
	bool done;

	(void)rng;
	memset(o, 0, sizeof(o));
	(void)take_events(s, NULL, 0);
	stage_begin("fills the queue of events");
	done = fail_all(s, &o[EVENTS_GUESTS]);
	guard_set(&g);
	for (uint32_t i = 0; done && i < EVENTS_GUESTS; i++) {
		stage_begin("touches a failing page beside a guest with many");
		done = other_image(s, &o[i], OWED_BYTES, false) == 0;
		o[i].nr_failing = 1;
		done = done && other_guest(&o[i], OWED_BYTES) == 0 &&
		       guard_copy(&g, page_of(&o[i], 0), copy) != 0;
	}
	guard_set(NULL);
	if (!take_events(s, o, EVENTS_GUESTS) && done)
		complain(s, "no event reports a failed page beside a guest with %u of them",
			 EVENTS_PAGES);
	for (uint32_t i = 0; i <= EVENTS_GUESTS; i++)
		other_end(&o[i]);
	return done;
}

/* The steps are taken in turn, so that even a short run takes each of them. */
bool chaos_owed(struct stress *s, struct rng *rng)
{
	static uint64_t number;

	switch ((mix(s->opts.seed) % 5 + number++) % 5) {
	case 0:
		return discard_during_read(s, rng);
	case 1:
		return remove_during_populate(s, rng);
	case 2:
		return discard_failed_during_populate(s, rng);
	case 3:
		return report_beside_flood(s, rng);
	default:
		return populate_after_punch(s, rng);
	}
}
