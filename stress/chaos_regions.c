/* SPDX-License-Identifier: MIT */
/*
 * Additional regions of the image under test: added, read and verified here, unmapped in part,
 * moved, removed.
 */
#include "stress/chaos_regions.h"

#include "stress/collapse.h"
#include "stress/complain.h"
#include "stress/guard.h"
#include "stress/images.h"
#include "stress/stress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define EXTRA_PAGES 2048u

struct extra {
	struct fln_region *region;
	char *addr;
	uint64_t first_page; /* number of the guest page with the same contents */
	uint32_t nr;
};

/*
 * With @own_mapping this program makes the mapping, which stays when the region is removed; without
 * @may_release it is served until then, whatever its guest does.
 */
static bool extra_add(struct stress *s, struct rng *rng, struct extra *x, bool own_mapping,
		      bool may_release)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	const struct segment *g = layout_at(&s->layout, rng_below(rng, s->nr_pages));
	uint64_t nr = EXTRA_PAGES;

	if (!g)
		return false;
	if (nr > g->nr)
		nr = g->nr;
	x->first_page = g->first + rng_below(rng, g->nr - nr + 1);
	if (!s->opts.random_layout)
		x->first_page &= ~(HUGE_PAGES - 1);
	x->nr = (uint32_t)nr;
	images_region_opts(s, &o);
	o.image = images_of(s, g);
	o.image_offset_bytes = layout_offset(g, x->first_page);
	o.len_bytes = nr * PAGE_BYTES;
	o.release = may_release ? FLN_RELEASE_DEFAULT : FLN_RELEASE_NEVER;
	if (own_mapping) {
		void *p = mmap(NULL, o.len_bytes, PROT_READ | PROT_WRITE,
			       s->opts.is_private ? MAP_PRIVATE : MAP_SHARED,
			       fln_image_memfd(o.image), (off_t)o.image_offset_bytes);

		if (p == MAP_FAILED)
			return false;
		o.addr = (uint64_t)(uintptr_t)p;
	}
	/* Refused where descriptors or mappings have run out. */
	if (fln_region_add(s->guest, &o, &x->region) != 0) {
		if (own_mapping)
			(void)munmap((void *)(uintptr_t)o.addr, o.len_bytes);
		return false;
	}
	x->addr = fln_region_addr(x->region);
	return true;
}

static bool extra_remove(struct stress *s, struct extra *x)
{
	int rc = fln_region_remove(x->region);

	if (rc == 0)
		return true;
	complain(s, "removing a region: %s", fln_last_error());
	return false;
}

/* A new private region has the image's contents; a shared one what the model says. */
static bool page_is_images(const struct stress *s, uint64_t page, const uint64_t *words)
{
	uint64_t stamp = page_is_hole(s->opts.seed, page) ? 0 : page_stamp(s->opts.seed, page, 0);

	for (uint32_t i = 0; i < PAGE_WORDS; i++) {
		if (words[i] != (stamp ? stamp_word(stamp, i) : 0))
			return false;
	}
	return true;
}

/*
 * Read a page of the region at @at and verify it.  @may_fail: it may be unmapped
 * meanwhile.  False when it could not be read.
 */
static bool extra_read(struct stress *s, struct guard *g, const char *at, uint64_t page,
		       bool may_fail)
{
	static _Thread_local uint64_t copy[PAGE_WORDS];
	volatile uint64_t word = 0;
	uint64_t begun;

	if (page == s->source.dead_page || !model_begin_read(&s->model, page, &begun))
		return true;
	word = begun;
	if (sigsetjmp(g->jump, 0)) {
		(void)model_end_read(&s->model, page, word, NULL);
		if (!may_fail)
			complain(s, "page %llu of another region cannot be read",
				 (unsigned long long)page);
		return false;
	}
	g->armed = 1;
	memcpy(copy, at, PAGE_BYTES);
	g->armed = 0;
	if (s->opts.is_private) {
		(void)model_end_read(&s->model, page, word, NULL);
		if (!page_is_images(s, page, copy))
			complain(s, "page %llu of a new private region is not the image's",
				 (unsigned long long)page);
	} else if (!model_end_read(&s->model, page, word, copy)) {
		complain(s, "page %llu of another region reads %016llx", (unsigned long long)page,
			 (unsigned long long)copy[0]);
	}
	return true;
}

/* A huge page fails as a whole where one of its pages is dead. */
static bool near_dead(const struct stress *s, uint64_t page)
{
	return s->opts.huge && stress_is_dead(s, page);
}

/* False: a touch ended in a signal. */
static bool extra_touch(struct stress *s, struct rng *rng, struct guard *g, const struct extra *x,
			uint64_t moved, uint32_t lo, uint32_t hi, uint32_t nr, bool may_fail)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t p = lo + (uint32_t)rng_below(rng, hi - lo);

		if (!near_dead(s, x->first_page + p) &&
		    !extra_read(s, g, x->addr + moved + (size_t)p * PAGE_BYTES, x->first_page + p,
				may_fail))
			return false;
	}
	return true;
}

/* A mapping that is left fails closed, whatever the kernel does with its page tables. */
static void look_at_removed(struct stress *s, struct rng *rng, const struct extra *x)
{
	struct guard g = { .armed = 0 };

	guard_set(&g);
	if (rng_below(rng, 4) == 0)
		(void)collapse_elsewhere(s, x->first_page + rng_below(rng, x->nr));
	for (uint32_t i = 0; i < 64; i++) {
		uint32_t p = (uint32_t)rng_below(rng, x->nr);

		(void)extra_read(s, &g, x->addr + (size_t)p * PAGE_BYTES, x->first_page + p, true);
	}
	guard_set(NULL);
}

struct reader {
	struct stress *s;
	const struct extra *x;
	uint64_t seed;
	_Atomic bool stop;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	struct rng rng = { r->seed };
	struct guard g = { .armed = 0 };
	int entered = r->s->opts.in_context ? fln_thread_enter() : -1;

	guard_set(&g);
	/* Until the run ends, or a touch fails because the region is gone. */
	while (!atomic_load(&r->stop) &&
	       extra_touch(r->s, &rng, &g, r->x, 0, 0, r->x->nr, 16, true))
		;
	guard_set(NULL);
	if (entered == 0)
		fln_thread_leave();
	return NULL;
}

#define NR_READERS 3u

/* The region is removed while threads fault in it; its mapping stays, and fails closed. */
bool chaos_regions(struct stress *s, struct rng *rng)
{
	struct reader readers[NR_READERS];
	pthread_t threads[NR_READERS];
	uint32_t nr = 0;
	struct extra x;
	bool ok;

	if (!extra_add(s, rng, &x, !s->opts.huge, true))
		return false;
	for (; nr < NR_READERS && !s->opts.huge; nr++) {
		readers[nr].s = s;
		readers[nr].x = &x;
		readers[nr].seed = rng_next(rng);
		atomic_store(&readers[nr].stop, false);
		if (pthread_create(&threads[nr], NULL, reader_main, &readers[nr]) != 0)
			break;
	}
	sleep_ms(rng_below(rng, 4));
	ok = extra_remove(s, &x);
	for (uint32_t i = 0; i < nr; i++)
		atomic_store(&readers[i].stop, true);
	while (nr > 0)
		(void)pthread_join(threads[--nr], NULL);
	if (ok && !s->opts.huge)
		look_at_removed(s, rng, &x);
	if (!s->opts.huge)
		(void)munmap(x.addr, (size_t)x.nr * PAGE_BYTES);
	return ok;
}

/* A part of the region is unmapped under a thread that faults in it. */
bool chaos_unmap(struct stress *s, struct rng *rng)
{
	uint32_t lo = (uint32_t)rng_below(rng, EXTRA_PAGES / HUGE_PAGES) * HUGE_PAGES;
	uint32_t hi = lo + HUGE_PAGES;
	struct extra x;
	struct reader r = { .s = s, .x = &x, .seed = rng_next(rng) };
	pthread_t thread;
	void *cover;
	bool ok;

	if (!extra_add(s, rng, &x, false, true))
		return false;
	if (hi > x.nr) {
		hi = x.nr;
		lo = hi / 2;
	}
	if (pthread_create(&thread, NULL, reader_main, &r) != 0)
		return extra_remove(s, &x);
	sleep_ms(rng_below(rng, 5));
	/* Map over it in the same call, so that no other mapping can land there. */
	cover = mmap(x.addr + (size_t)lo * PAGE_BYTES, (size_t)(hi - lo) * PAGE_BYTES, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	sleep_ms(rng_below(rng, 5));
	atomic_store(&r.stop, true);
	(void)pthread_join(thread, NULL);
	ok = extra_remove(s, &x);
	if (cover != MAP_FAILED)
		(void)munmap(cover, (size_t)(hi - lo) * PAGE_BYTES);
	return ok && cover != MAP_FAILED;
}

/* Contents or a signal; each touch may be the one that reads zeros. */
static void look_at_moved(struct stress *s, struct rng *rng, struct guard *g, const struct extra *x,
			  uint64_t moved, uint32_t lo, uint32_t hi)
{
	for (uint32_t i = 0; i < 32; i++)
		(void)extra_touch(s, rng, g, x, moved, lo, hi, 1, true);
}

/*
 * A block of the region is moved into the room at @to, and is longer there or stays where it
 * was as well.
 */
static bool move_block(struct stress *s, struct rng *rng, struct guard *g, struct extra *x,
		       uint32_t lo, char *to, uint64_t dice)
{
	char *from = x->addr + (size_t)lo * PAGE_BYTES;
	uint64_t moved = (uint64_t)(uintptr_t)to - (uint64_t)(uintptr_t)from;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	size_t len = HUGE_BYTES;
	uint32_t hi;
	bool ok;

	if (dice == 0)
		flags |= MREMAP_DONTUNMAP;
	else if (dice == 1)
		len += HUGE_BYTES;
	hi = lo + (uint32_t)(len / PAGE_BYTES) < x->nr ? lo + (uint32_t)(len / PAGE_BYTES) : x->nr;
	ok = mremap(from, HUGE_BYTES, len, flags, to) != MAP_FAILED;
	if (ok)
		look_at_moved(s, rng, g, x, moved, lo, hi);
	if (ok && dice == 0)
		look_at_moved(s, rng, g, x, 0, lo, hi);
	ok &= extra_remove(s, x);
	if (ok)
		look_at_moved(s, rng, g, x, moved, lo, hi);
	return ok;
}

/* A block of the region is moved; it fails closed at its new place, and stays there on removal. */
bool chaos_remap(struct stress *s, struct rng *rng)
{
	uint32_t lo = (uint32_t)rng_below(rng, EXTRA_PAGES / HUGE_PAGES) * HUGE_PAGES;
	struct guard g = { .armed = 0 };
	struct extra x;
	char *room, *to;
	uint64_t dice;
	bool ok;

	room = mmap(NULL, HUGE_BYTES * 3, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (room == MAP_FAILED)
		return false;
	to = (char *)(((uintptr_t)room + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	/* Where it grows it maps pages that nobody serves, which is noticed of served memory only. */
	dice = rng_below(rng, 4);
	ok = extra_add(s, rng, &x, false, dice != 1);
	if (ok && x.nr < lo + HUGE_PAGES) {
		(void)extra_remove(s, &x);
		ok = false;
	}
	if (ok) {
		guard_set(&g);
		(void)extra_touch(s, rng, &g, &x, 0, 0, x.nr, 16, false);
		ok = move_block(s, rng, &g, &x, lo, to, dice);
		guard_set(NULL);
	}
	(void)munmap(room, HUGE_BYTES * 3);
	return ok;
}

/* A region of which @nr pages have been read. */
static bool extra_seen(struct stress *s, struct rng *rng, struct extra *x, uint32_t nr)
{
	struct guard g = { .armed = 0 };

	if (!extra_add(s, rng, x, false, true))
		return false;
	guard_set(&g);
	(void)extra_touch(s, rng, &g, x, 0, 0, x->nr, nr, false);
	guard_set(NULL);
	return true;
}

bool extra_look(struct stress *s, struct rng *rng, uint32_t nr)
{
	struct extra x;

	return extra_seen(s, rng, &x, nr) && extra_remove(s, &x);
}

bool extra_given_up(struct stress *s, struct rng *rng)
{
	uint64_t lo, nr;
	struct extra x;

	if (!extra_seen(s, rng, &x, 8))
		return false;
	lo = rng_below(rng, x.nr);
	nr = 1 + rng_below(rng, x.nr - lo);
	if (s->opts.is_private && !s->opts.huge)
		(void)madvise(x.addr + lo * PAGE_BYTES, nr * PAGE_BYTES, MADV_DONTNEED);
	return extra_remove(s, &x);
}
