/* SPDX-License-Identifier: MIT */
/*
 * The region directory of a guest: which region an address belongs to.
 *
 * A sorted array that is never changed: a new one is made and published in its place.  The old
 * one is retired until no reader can see it any more, and then kept as the spare.  The spare is
 * large enough for the list without any one region, so that a region can be removed while there
 * is no memory.
 */
#include "engine/directory.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/turn.h"

#include <errno.h>
#include <faultlane/base.h>
#include <stdatomic.h>

/* The number of regions that begin at or below @addr. */
static uint32_t nr_up_to(const struct fln_directory *d, uint64_t addr)
{
	uint32_t lo = 0, hi = d ? d->nr : 0;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (d->regions[mid]->addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct fln_region *fln_directory_find(const struct fln_guest *guest, uint64_t addr)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);
	uint32_t nr;

	fln_rcu_assert_reading();
	fln_plant_preempt(FLN_BUG_NO_GRACE_PERIOD, 64);
	nr = nr_up_to(d, addr);
	if (nr == 0 || addr - d->regions[nr - 1]->addr >= d->regions[nr - 1]->len_bytes)
		return NULL;
	return d->regions[nr - 1];
}

struct fln_region *fln_directory_next(const struct fln_guest *guest, uint64_t addr)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);
	uint32_t nr = nr_up_to(d, addr);

	if (nr > 0 && addr - d->regions[nr - 1]->addr < d->regions[nr - 1]->len_bytes)
		return d->regions[nr - 1];
	return d && nr < d->nr ? d->regions[nr] : NULL;
}

static size_t directory_bytes(uint32_t capacity)
{
	return sizeof(struct fln_directory) + capacity * sizeof(struct fln_region *);
}

static void free_directory(struct fln_guest *guest, struct fln_directory *d)
{
	if (d)
		fln_free(&guest->engine->alloc, d, directory_bytes(d->capacity), FLN_NODE_ANY);
}

static void retire(struct fln_guest *guest, struct fln_directory *d) FLN_REQUIRES(guest->lock)
{
	if (!d)
		return;
	d->next = guest->retired;
	guest->retired = d;
}

/* An empty directory with room for @nr regions.  NULL: no memory; the error is set. */
static struct fln_directory *make_directory(struct fln_guest *guest, uint32_t nr)
{
	struct fln_directory *d =
		fln_zalloc(&guest->engine->alloc, directory_bytes(nr), FLN_NODE_ANY);

	if (d)
		d->capacity = nr;
	else
		(void)fln_fail(ENOMEM, "guest %s: no memory for a directory of %u regions",
			       guest->name, nr);
	return d;
}

int fln_directory_prepare(struct fln_guest *guest)
{
	struct fln_directory *d, *old;
	uint32_t nr = 1;

	fln_guest_assert_turn(guest);
	for (const struct fln_region *r = guest->regions; r; r = r->next)
		nr++;
	fln_lock(&guest->lock);
	old = guest->spare;
	fln_unlock(&guest->lock);
	if (old && old->capacity >= nr)
		return 0;
	d = make_directory(guest, nr);
	if (!d)
		return -ENOMEM;
	fln_lock(&guest->lock);
	guest->spare = d;
	fln_unlock(&guest->lock);
	free_directory(guest, old);
	return 0;
}

int fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
{
	struct fln_directory *d = guest->spare;
	struct fln_region *r;
	uint32_t nr = 0, at;

	for (r = guest->regions; r; r = r->next)
		nr += r != without;
	if (d && d->capacity >= nr) {
		guest->spare = NULL;
	} else if (nr > 0) {
		d = make_directory(guest, nr);
		if (!d)
			return -ENOMEM;
	} else {
		d = NULL;
	}
	if (d)
		d->nr = 0;
	for (r = guest->regions; r; r = r->next) {
		if (r == without)
			continue;
		for (at = d->nr; at > 0 && d->regions[at - 1]->addr > r->addr; at--)
			d->regions[at] = d->regions[at - 1];
		d->regions[at] = r;
		d->nr++;
	}
	retire(guest, atomic_exchange_explicit(&guest->directory, d, memory_order_acq_rel));
	return 0;
}

void fln_directory_reap(struct fln_guest *guest)
{
	struct fln_directory *d, *spare;

	fln_lock(&guest->lock);
	d = guest->retired;
	guest->retired = NULL;
	spare = guest->spare;
	guest->spare = NULL;
	fln_unlock(&guest->lock);
	if (d && !fln_planted(FLN_BUG_NO_GRACE_PERIOD))
		fln_rcu_synchronize();
	while (d) {
		struct fln_directory *next = d->next;

		if (!fln_planted(FLN_BUG_NO_GRACE_PERIOD) &&
		    (!spare || d->capacity > spare->capacity)) {
			free_directory(guest, spare);
			spare = d;
		} else {
			free_directory(guest, d);
		}
		d = next;
	}
	fln_lock(&guest->lock);
	guest->spare = spare;
	fln_unlock(&guest->lock);
}

void fln_directory_destroy(struct fln_guest *guest)
{
	fln_lock(&guest->lock);
	retire(guest, atomic_exchange_explicit(&guest->directory, NULL, memory_order_acq_rel));
	fln_unlock(&guest->lock);
	fln_directory_reap(guest);
	free_directory(guest, guest->spare);
	guest->spare = NULL;
}
