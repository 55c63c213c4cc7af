/* SPDX-License-Identifier: MIT */
/*
 * The region directory: which region an address belongs to.
 *
 * A sorted array that is never changed: a new one is made and published, the old
 * one freed when no reader can see it any more.
 */
#include "base/error.h"
#include "base/rcu.h"
#include "engine/engine.h"

#include <errno.h>

struct fln_region *fln_directory_find(const struct fln_guest *guest, uint64_t addr)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);
	uint32_t lo = 0, hi = d ? d->nr : 0;

	/* The last region that begins at or before the address. */
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (d->regions[mid]->addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0 || addr - d->regions[lo - 1]->addr >= d->regions[lo - 1]->len_bytes)
		return NULL;
	return d->regions[lo - 1];
}

static size_t directory_bytes(uint32_t nr)
{
	return sizeof(struct fln_directory) + nr * sizeof(struct fln_region *);
}

static void swap_in(struct fln_guest *guest, struct fln_directory *d)
{
	struct fln_directory *old =
		atomic_exchange_explicit(&guest->directory, d, memory_order_acq_rel);

	if (!old)
		return;
	fln_rcu_synchronize();
	fln_free(&guest->engine->alloc, old, directory_bytes(old->nr), FLN_NODE_ANY);
}

int fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
{
	struct fln_directory *d;
	struct fln_region *r;
	uint32_t nr = 0, at;

	for (r = guest->regions; r; r = r->next)
		nr += r != without;
	d = fln_zalloc(&guest->engine->alloc, directory_bytes(nr), FLN_NODE_ANY);
	if (!d)
		return fln_fail(ENOMEM, "guest %s: no memory for a directory of %u regions",
				guest->name, nr);
	for (r = guest->regions; r; r = r->next) {
		if (r == without)
			continue;
		for (at = d->nr; at > 0 && d->regions[at - 1]->addr > r->addr; at--)
			d->regions[at] = d->regions[at - 1];
		d->regions[at] = r;
		d->nr++;
	}
	swap_in(guest, d);
	return 0;
}

void fln_directory_destroy(struct fln_guest *guest)
{
	swap_in(guest, NULL);
}
