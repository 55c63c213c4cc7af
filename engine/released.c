/* SPDX-License-Identifier: MIT */
/*
 * What has been released from its userfaultfd.
 *
 * Tested by unit.release, unit.release_waits, integration.release.
 */
#include "engine/released.h"

#include "base/clock.h"
#include "base/page.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/directory.h"
#include "engine/held.h"
#include "engine/region_map.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"

#include <stdatomic.h>
#include <stdbool.h>

bool fln_guest_all_released(const struct fln_guest *guest)
{
	const struct fln_directory *d =
		atomic_load_explicit(&guest->directory, memory_order_acquire);

	fln_rcu_assert_reading();
	for (uint32_t i = 0; d && i < d->nr; i++) {
		if (!fln_region_all_released(d->regions[i]))
			return false;
	}
	return d && d->nr > 0;
}

bool fln_range_all_released(const struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	bool entered = fln_rcu_enter(), all = true;

	while (all && addr < end) {
		const struct fln_region *r;
		uint64_t stop;

		fln_rcu_read_lock();
		r = fln_directory_find(guest, addr);
		all = r && fln_released_at(r, addr);
		stop = r ? r->addr + r->len_bytes : end;
		if (r && !fln_region_all_released(r))
			stop = fln_block_end(addr, stop);
		fln_rcu_read_unlock();
		addr = stop;
	}
	fln_rcu_leave(entered);
	return all;
}

void fln_released_end_faults(struct fln_shard *shard, const struct fln_region *r,
			     const struct fln_fault *faults, uint32_t nr)
{
	uint64_t now = fln_now_ns();

	for (uint32_t i = 0; i < nr; i++) {
		/*
		 * Usually its thread was woken with its block.  But the fault may have been put
		 * back with the kernel, or its message may date from before another release of a
		 * region at this address.
		 */
		if (!fln_planted(FLN_BUG_RELEASED_UNWOKEN))
			fln_uffd_wake(&shard->uffd, faults[i].addr, r->page_bytes);
		fln_count(&shard->count.released_faults, faults[i].nr);
		fln_end_fault(shard, &faults[i], FLN_ENDED_RESUMED, false, now);
	}
}

/*
 * Two workers may release the last blocks at the same time.  Both change the counts of closed
 * blocks and then read them, sequentially consistent: the later one sees all.
 */
void fln_released_note(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;

	fln_rcu_assert_reading();
	if (!fln_region_all_released(r) || !fln_guest_all_released(guest))
		return;
	atomic_store(&guest->release.is_due, true);
	fln_guard_call(&guest->engine->guard);
}
