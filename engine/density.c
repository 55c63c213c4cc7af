/* SPDX-License-Identifier: MIT */
/* The window policy for memory whose pages must be copied; density.h explains it. */
#include "engine/density.h"

#include "base/hash.h"
#include "base/page.h"

#include <stdbool.h>

#define PART_SHIFT 3u
#define NR_PARTS (1u << PART_SHIFT)
#define CONTROLS 8u /* one stretch in so many is a control */
/* Measured: a copy costs a fifth to a third of a thread's fault.  A vCPU's costs much more. */
#define PAYS_16 8u
#define PAYS_16_KVM 4u
/* 512 pages would save less than 1 % more faults, and copy 8 times as many pages for nothing. */
#define DEFAULT_MAX 64u

/*
 * A stretch is followed until so many others have been opened: that many threads may be going
 * through memory in parallel.
 */
#define MATURE 256u

/* Fewer followed stretches than these prove nothing. */
static const uint32_t min_followed[FLN_DENSITY_LEVELS] = { 8, 4, 4 };

static uint32_t level_pages(uint32_t level)
{
	return 1u << (level * PART_SHIFT);
}

void fln_density_init(struct fln_density *d, uint32_t max, bool kvm)
{
	*d = (struct fln_density){ .max = max ? max : DEFAULT_MAX,
				   .pays_16 = kvm ? PAYS_16_KVM : PAYS_16 };
	for (uint32_t i = 0; i < FLN_DENSITY_LEVELS; i++) {
		for (uint32_t k = 0; k < FLN_DENSITY_FOLLOWED; k++)
			d->level[i].followed[k].number = UINT64_MAX;
	}
}

/* The highest level whose windows pay. */
static uint32_t level_that_pays(const struct fln_density *d)
{
	uint64_t touched = 1, of = 1;
	uint32_t level = 0;

	while (level < FLN_DENSITY_LEVELS && level_pages(level) < d->max) {
		const struct fln_density_level *l = &d->level[level];

		if (l->nr_followed < min_followed[level])
			break;
		touched *= l->nr_parts;
		of *= (uint64_t)l->nr_followed * NR_PARTS;
		if (touched * 16 < of * d->pays_16)
			break;
		level++;
	}
	return level;
}

static uint64_t stretch_of(uint64_t block_addr, uint32_t page, uint32_t level)
{
	return (fln_bytes_to_pages(block_addr) + page) >> (level * PART_SHIFT);
}

/* A hash, because a regular choice could coincide with the guest's own access pattern. */
static uint32_t scatter(uint64_t stretch, uint32_t level)
{
	return (uint32_t)(fln_hash(stretch << 2 | level) >> 40);
}

static bool is_control(uint64_t block_addr, uint32_t page, uint32_t level)
{
	return scatter(stretch_of(block_addr, page, level), level) % CONTROLS == 0;
}

static uint32_t level_of(const struct fln_density *d, uint64_t block_addr, uint32_t page)
{
	uint32_t level = level_that_pays(d);

	while (level > 0 && is_control(block_addr, page, level))
		level--;
	return level;
}

static bool any_there(const struct fln_mask *there, uint32_t page, uint32_t nr_pages)
{
	uint32_t lo = (uint32_t)fln_align_down(page, nr_pages);

	return fln_mask_next_set(there, lo) < lo + nr_pages;
}

/* Follow a new stretch, unless the entry's present one has not been followed for long enough. */
static void follow(struct fln_density_level *l, struct fln_density_stretch *s, uint64_t number)
{
	if (s->nr_parts > 0 && s->number != number && l->nr_opened - s->born < MATURE)
		return;
	l->nr_followed += s->nr_parts == 0;
	l->nr_parts -= s->nr_parts;
	*s = (struct fln_density_stretch){ .number = number, .born = l->nr_opened };
}

void fln_density_note(struct fln_density *d, uint64_t block_addr, uint32_t page,
		      const struct fln_mask *there)
{
	/* Stretches up to this level are mapped by one window, which hides touches of their parts. */
	uint32_t hidden = level_of(d, block_addr, page);

	for (uint32_t level = 1; level <= FLN_DENSITY_LEVELS; level++) {
		struct fln_density_level *l = &d->level[level - 1];
		uint64_t number = stretch_of(block_addr, page, level);
		uint32_t at = scatter(number, level) / CONTROLS % FLN_DENSITY_FOLLOWED;
		struct fln_density_stretch *s = &l->followed[at];

		if (any_there(there, page, level_pages(level - 1)))
			return; /* this part was touched before, and so were those above it */
		if (!any_there(there, page, level_pages(level))) {
			l->nr_opened++;
			if (level > hidden)
				follow(l, s, number);
		}
		if (level <= hidden || s->number != number || s->nr_parts == NR_PARTS)
			continue;
		s->nr_parts++;
		l->nr_parts++;
	}
}

struct fln_window fln_density_window(const struct fln_density *d, uint64_t block_addr,
				     uint32_t page)
{
	uint32_t pages = level_pages(level_of(d, block_addr, page));
	struct fln_window w;

	if (pages > d->max)
		pages = d->max;
	w.lo = (uint32_t)fln_align_down(page, pages);
	w.hi = w.lo + pages;
	return w;
}
