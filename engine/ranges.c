/* SPDX-License-Identifier: MIT */
/*
 * Sorted lists of ranges without overlaps, changed by making a changed copy.
 */
#include "engine/ranges.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/directory.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include <errno.h>
#include <faultlane/base.h>
#include <inttypes.h>
#include <stdbool.h>

int fln_range_check(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes)
{
	uint64_t end = addr + len_bytes, at = addr;
	bool entered;

	if (len_bytes == 0 || end < addr || !fln_is_aligned(addr | len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"guest %s: the range of %" PRIu64 " bytes at 0x%" PRIx64
				" is empty, wraps around, or is not a multiple of %" PRIu64,
				guest->name, len_bytes, addr, FLN_PAGE_BYTES);
	entered = fln_rcu_enter();
	fln_rcu_read_lock();
	while (at < end) {
		const struct fln_region *r = fln_directory_find(guest, at);

		if (!r)
			break;
		at = r->addr + r->len_bytes;
	}
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	if (at >= end)
		return 0;
	return fln_fail(EINVAL,
			"guest %s: the range [0x%" PRIx64 ", +%" PRIu64 ") has no region at "
			"0x%" PRIx64 "; give one that lies in regions without a gap",
			guest->name, addr, len_bytes, at);
}

static size_t ranges_bytes(uint32_t capacity)
{
	return sizeof(struct fln_ranges) + capacity * sizeof(struct fln_range);
}

void fln_ranges_free(struct fln_guest *guest, struct fln_ranges *ranges)
{
	if (ranges)
		fln_free(&guest->engine->alloc, ranges, ranges_bytes(ranges->capacity),
			 FLN_NODE_ANY);
}

/* Append a range; it is merged with the last one if that adjoins it and is alike. */
static void append(struct fln_ranges *to, uint64_t addr, uint64_t end, uint32_t what)
{
	struct fln_range *last = to->nr > 0 ? &to->range[to->nr - 1] : NULL;

	if (addr >= end)
		return;
	if (last && last->end == addr && last->what == what) {
		last->end = end;
		return;
	}
	FLN_ASSERT(to->nr < to->capacity);
	to->range[to->nr++] = (struct fln_range){ .addr = addr, .end = end, .what = what };
}

struct fln_ranges *fln_ranges_with(struct fln_guest *guest, const struct fln_ranges *old,
				   uint64_t addr, uint64_t end, uint32_t what)
{
	uint32_t nr = old ? old->nr : 0, i = 0;
	struct fln_ranges *new =
		fln_zalloc(&guest->engine->alloc, ranges_bytes(nr + 2), FLN_NODE_ANY);

	if (!new)
		return NULL;
	new->capacity = nr + 2;
	for (; i < nr && old->range[i].addr < addr; i++) {
		const struct fln_range *r = &old->range[i];

		append(new, r->addr, r->end < addr ? r->end : addr, r->what);
		if (r->end > end)
			break; /* its tail is appended below */
	}
	if (what)
		append(new, addr, end, what);
	for (i = 0; i < nr; i++) {
		const struct fln_range *r = &old->range[i];

		if (r->end > end)
			append(new, r->addr > end ? r->addr : end, r->end, r->what);
	}
	return new;
}

const struct fln_range *fln_ranges_next(const struct fln_ranges *ranges, uint64_t addr)
{
	uint32_t lo = 0, hi = ranges ? ranges->nr : 0;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (ranges->range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return ranges && lo < ranges->nr ? &ranges->range[lo] : NULL;
}
