/* SPDX-License-Identifier: MIT */
/*
 * Guests of which nobody but these steps knows, so that what happens to their pages is
 * known exactly.  A thread that is kept waiting for what is owed is found by the watch.
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

/* A thread waits for a page whose read hangs; it is given up, and the thread goes on. */
static bool owed_zeros(struct stress *s, struct rng *rng)
{
	static struct reader r;
	struct other o;
	uint64_t page = rng_below(rng, OWED_PAGES);
	bool done = other_image(s, &o, OWED_BYTES, true) == 0 && other_guest(&o, OWED_BYTES) == 0;

	r.at = done ? page_of(&o, page) : NULL;
	done = done && pthread_create(&r.thread, NULL, reader_main, &r) == 0;
	if (done) {
		sleep_ms(10 + rng_below(rng, 50));
		stage_begin("gives up what is being read");
		done = madvise(page_of(&o, page), PAGE_BYTES, MADV_REMOVE) == 0;
		stage_begin("waits for zeros in place of what is being read");
		(void)pthread_join(r.thread, NULL);
		if (done && r.signo)
			complain(s, "page %llu of a neighbour: signal %d where zero is due",
				 (unsigned long long)page, r.signo);
		else if (done && (r.copy[0] || r.copy[PAGE_WORDS - 1]))
			complain(s, "page %llu of a neighbour reads %016llx where zero is due",
				 (unsigned long long)page, (unsigned long long)r.copy[0]);
	}
	other_end(&o);
	return done;
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

/* Of what it populates a page has failed, another is being read, and the region goes. */
static bool owed_an_end(struct stress *s, struct rng *rng)
{
	struct other o;
	struct populater p = { .o = &o };
	bool done = other_image(s, &o, OWED_BYTES, true) == 0;

	o.first_fails = true;
	done = done && other_guest(&o, OWED_BYTES) == 0;
	done = done && pthread_create(&p.thread, NULL, populate_main, &p) == 0;
	if (done) {
		sleep_ms(50 + rng_below(rng, 100));
		stage_begin("removes a region that is populated");
		done = fln_region_remove(o.region) == 0;
		stage_begin("waits for the end of a populate whose region has gone");
		(void)pthread_join(p.thread, NULL);
		/* It has waited for pages of a region that is not there. */
		if (done && p.rc == -EIO)
			complain(s, "populating a region that was removed ended with %d", p.rc);
	}
	other_end(&o);
	return done;
}

/* How many pages of a range no page table has. */
static uint64_t nr_unmapped(const char *at, uint64_t nr)
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

/* A thread that touches the page that it is told to. */
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

#define OWED_RUN 64u /* what a fault maps at once */

/* Pages are mapped by a fault and punched out at the same time, and then populated. */
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
 * What is punched out of the cache tells nobody, and the caller of populate may hand the pages
 * to a call that cannot wait.  Once they may be missing: the kernel takes entries away, too.
 */
static bool owed_pages(struct stress *s, struct rng *rng)
{
	struct toucher_of_one t = { .over = false };
	uint64_t nr_missing = 0;
	struct other o;
	bool done = other_image(s, &o, OWED_BYTES, false) == 0 &&
		    fln_image_fill(o.image, 0, OWED_BYTES) == 0 &&
		    other_guest(&o, OWED_BYTES) == 0 &&
		    pthread_create(&t.thread, NULL, touch_one_main, &t) == 0;

	if (done) {
		for (uint32_t i = 0; done && i < 100; i++) {
			uint64_t first = rng_below(rng, OWED_PAGES / OWED_RUN) * OWED_RUN;

			stage_begin("populates what was punched out of the cache");
			done = punch_and_populate(&o, &t, first, rng_below(rng, 200000)) == 0;
			nr_missing += done && nr_unmapped(page_of(&o, first), OWED_RUN) > 0;
		}
		atomic_store(&t.over, true);
		(void)pthread_join(t.thread, NULL);
	}
	if (nr_missing > 1 && !has_chaos(&s->opts, CHAOS_HOST) &&
	    !has_chaos(&s->opts, CHAOS_MEMORY))
		complain(s, "of 100 runs of pages %llu are not mapped after a populate",
			 (unsigned long long)nr_missing);
	other_end(&o);
	return done;
}

/* One after the other, so that a short run has all of them. */
bool chaos_owed(struct stress *s, struct rng *rng)
{
	static uint64_t number;

	switch ((mix(s->opts.seed) % 3 + number++) % 3) {
	case 0:
		return owed_zeros(s, rng);
	case 1:
		return owed_an_end(s, rng);
	default:
		return owed_pages(s, rng);
	}
}
