/* SPDX-License-Identifier: MIT */
/* Discards, and pages of zeros that are put into the page cache behind the engine. */
#include "stress/chaos_discard.h"

#include "stress/complain.h"
#include "stress/images.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define RUN_MAX 64u

/* Begin to discard a run; returns for how many of its pages that was possible. */
static uint32_t begin_run(struct stress *s, uint64_t page, uint32_t nr)
{
	uint32_t n = 0;

	while (n < nr && page + n < s->nr_pages && !stress_is_dead(s, page + n) &&
	       model_begin_discard(&s->model, page + n))
		n++;
	return n;
}

static void end_run(struct stress *s, uint64_t page, uint32_t nr, enum discard_effect effect)
{
	for (uint32_t i = 0; i < nr; i++)
		model_end_discard(&s->model, page + i, effect);
}

void chaos_leave_trail(struct stress *s, uint64_t page, uint32_t nr)
{
	uint32_t i = atomic_fetch_add_explicit(&s->trail_next, 1, memory_order_relaxed);

	atomic_store_explicit(&s->trail[i % TRAIL_NR], page << 8 | (nr > 255 ? 255 : nr),
			      memory_order_relaxed);
}

/* Discard each region's part in its own image. */
static int discard_images(struct stress *s, uint64_t page, uint64_t nr)
{
	int rc = 0;

	while (rc == 0 && nr > 0) {
		const struct segment *g = layout_at(&s->layout, page);
		uint64_t n = layout_clip(g, page, nr);

		rc = fln_image_discard(images_of(s, g), layout_offset(g, page), n * PAGE_BYTES);
		page += n;
		nr -= n;
	}
	return rc;
}

static bool discard_run(struct stress *s, uint64_t page, uint32_t nr, uint32_t how)
{
	enum discard_effect effect = DISCARD_ZEROES;
	char *at = atomic_load(&s->base) + page * PAGE_BYTES;
	size_t len = (size_t)nr * PAGE_BYTES;
	int rc;

	if (s->opts.is_private) {
		effect = s->opts.in_context ? DISCARD_TO_IMAGE : DISCARD_ZEROES;
		rc = madvise(at, len, MADV_DONTNEED);
	} else if (how == 0) {
		effect = DISCARD_KEEPS;
		rc = madvise(at, len, MADV_DONTNEED);
	} else if (how == 1) {
		rc = madvise(at, len, MADV_REMOVE);
	} else {
		rc = discard_images(s, page, nr);
	}
	/* A failed call may have discarded a part: then both contents are possible. */
	end_run(s, page, nr, rc == 0 ? effect : DISCARD_KEEPS);
	if (rc)
		complain(s, "discard %u of %u pages at %llu: %s", how, nr, (unsigned long long)page,
			 strerror(errno));
	return rc == 0;
}

/*
 * Put pages of zeros into the page cache behind the engine, as a child or another mapping
 * does that touches them.  Where the cache has no page it gets one, nothing else changes, and
 * these zeros must never be read where contents are due.
 */
static bool populate_behind(struct stress *s, uint64_t page, uint32_t nr, bool by_touch)
{
	const struct segment *g = layout_at(&s->layout, page);
	size_t len;
	off_t at;
	bool done;
	void *p;
	int fd;

	if (!g)
		return false;
	fd = fln_image_memfd(images_of(s, g));
	at = (off_t)layout_offset(g, page);
	len = layout_clip(g, page, nr) * PAGE_BYTES;
	if (!by_touch)
		return fallocate(fd, 0, at, (off_t)len) == 0;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
	if (p == MAP_FAILED)
		return false;
	done = madvise(p, len, MADV_POPULATE_WRITE) == 0;
	(void)munmap(p, len);
	return done;
}

/* In one step of so many the failing page is discarded, for good. */
#define DEAD_STEPS 2048u

/* Discard the failing page: no contents are due there any more, and soon it must read zero. */
static bool discard_dead_page(struct stress *s)
{
	uint64_t page = s->source.dead_page;
	bool done;

	if (page == UINT64_MAX || s->opts.huge || s->opts.kvm || !layout_at(&s->layout, page) ||
	    (s->opts.is_private && s->opts.in_context) || atomic_load(&s->dead_given_up_ns) ||
	    !model_begin_discard(&s->model, page))
		return false;
	done = madvise(atomic_load(&s->base) + page * PAGE_BYTES, PAGE_BYTES,
		       s->opts.is_private ? MADV_DONTNEED : MADV_REMOVE) == 0;
	model_end_discard(&s->model, page, done ? DISCARD_ZEROES : DISCARD_KEEPS);
	if (done)
		atomic_store(&s->dead_given_up_ns, now_ns());
	return done;
}

bool chaos_discard(struct stress *s, struct rng *rng)
{
	uint64_t page = rng_below(rng, s->nr_pages);
	uint32_t nr = 1 + (uint32_t)rng_below(rng, RUN_MAX), how = (uint32_t)rng_below(rng, 5);
	bool early = rng_below(rng, 2), done;

	if (rng_below(rng, DEAD_STEPS) == 0 && discard_dead_page(s))
		return true;
	/* Prefer the cold half: most of its pages are unfilled. */
	if (rng_below(rng, 2))
		page = (page + s->nr_pages) / 2;
	if (s->layout.nr_segments > 1 && rng_below(rng, 3) == 0)
		page = s->layout.segments[rng_below(rng, s->layout.nr_segments)].first +
		       rng_below(rng, HUGE_PAGES);
	page %= s->nr_pages;
	if (s->opts.huge) {
		page &= ~(HUGE_PAGES - 1);
		nr = HUGE_PAGES;
	}
	/* Threads touch the pages while this happens, or afterwards. */
	if (early)
		chaos_leave_trail(s, page, nr);
	if (how >= 3) {
		done = populate_behind(s, page, nr, how == 4 && !s->opts.huge);
	} else {
		nr = begin_run(s, page, nr);
		if (s->opts.huge && nr < HUGE_PAGES) {
			end_run(s, page, nr, DISCARD_NOTHING);
			return false;
		}
		done = nr > 0 && discard_run(s, page, nr, how);
	}
	if (done && !early)
		chaos_leave_trail(s, page, nr);
	return done;
}

void chaos_unmap_page(struct stress *s, uint64_t page)
{
	uint32_t nr = s->opts.huge ? (uint32_t)HUGE_PAGES : 1, n;

	if (s->opts.huge)
		page &= ~(HUGE_PAGES - 1);
	n = begin_run(s, page, nr);
	if (n == nr)
		(void)discard_run(s, page, nr, 0);
	else
		end_run(s, page, n, DISCARD_NOTHING);
}
