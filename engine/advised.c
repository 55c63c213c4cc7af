/* SPDX-License-Identifier: MIT */
/*
 * What workers look up about ranges of a guest: its advice, and whether a discard is one that
 * fln_guest_advise() has made itself.
 *
 * Tested by unit.populate, integration.advice.
 */
#include "engine/advised.h"

#include "base/lock.h"
#include "base/rcu.h"
#include "engine/ahead.h"
#include "engine/ranges.h"
#include "engine/released.h"
#include "engine/state/advised.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"

#include <stdatomic.h>
#include <stdbool.h>

const struct fln_range *fln_advice_at(const struct fln_guest *guest, uint64_t addr)
{
	const struct fln_ranges *ranges =
		atomic_load_explicit(&guest->advised.advice, memory_order_acquire);
	const struct fln_range *r;

	fln_rcu_assert_reading();
	if (!ranges)
		return NULL;
	r = fln_ranges_next(ranges, addr);
	return r && r->addr <= addr ? r : NULL;
}

bool fln_quiet_takes(struct fln_guest *guest, uint64_t start, uint64_t end)
{
	struct fln_quiet *q;
	bool ours = false;

	fln_lock(&guest->jobs.lock);
	for (q = guest->advised.quiet; q && !ours; q = q->next) {
		/* Blocks in between that were released raise no event. */
		ours = start >= q->at && end <= q->end &&
		       fln_range_all_released(guest, q->at, start);
		if (ours)
			q->at = end;
	}
	fln_unlock(&guest->jobs.lock);
	return ours;
}

void fln_advised_deinit(struct fln_guest *guest)
{
	fln_ranges_free(guest, atomic_load(&guest->advised.advice));
	fln_ranges_free(guest, guest->advised.locked);
	fln_ahead_deinit(guest);
}
