/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_stats() and fln_shard_stats(): add up the counters of shards, on the caller's thread,
 * without a lock.
 */
#include "base/blockmap.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/rcu.h"
#include "engine/oldest.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_oldest(struct fln_stats *out, uint64_t since_ns)
{
	uint64_t age;

	if (since_ns == 0)
		return;
	age = fln_oldest_age_ns(since_ns, fln_now_ns());
	if (age > out->oldest_ns)
		out->oldest_ns = age;
}

static void add_shard(struct fln_stats *out, const struct fln_shard *shard)
{
	const struct fln_shard_counters *c = &shard->count;
	/*
	 * Ends are counted after beginnings (fln_count() releases) and read before them, so
	 * in_flight is never negative.
	 */
	uint64_t resumed = get(&c->resumed), poisoned = get(&c->poisoned);
	uint64_t failed = get(&c->failed), faults;

	atomic_thread_fence(memory_order_acquire);
	faults = get(&c->faults);
	out->resumed += resumed;
	out->poisoned += poisoned;
	out->failed += failed;
	out->faults += faults;
	out->in_flight += faults - resumed - poisoned - failed;
	out->minor += get(&c->minor);
	out->major += get(&c->major);
	out->zero += get(&c->zero);
	out->invalid += get(&c->invalid);
	out->refaults += get(&c->refaults);
	out->pages_installed += get(&c->pages_installed);
	out->pages_raced += get(&c->pages_raced);
	out->installs += get(&shard->uffd.nr_calls);
	out->wakes += get(&shard->uffd.nr_wakes);
	out->reads += get(&c->reads);
	out->events += get(&c->events);
	out->again += get(&c->again);
	out->held_full += get(&c->held_full);
	out->no_chunk += get(&c->no_chunk);
	out->in_context += get(&c->in_context);
	out->no_memory += get(&c->no_memory);
	add_oldest(out, fln_oldest_since(shard));
	out->remote += get(&c->remote);
	out->populated += get(&c->populated);
	out->released_bytes += get(&c->released_bytes);
	out->released_faults += get(&c->released_faults);
	out->userfaultfds += atomic_load_explicit(&shard->uffd.is_open, memory_order_relaxed);
	fln_histogram_merge(&out->service, &c->service);
}

/* Takes no lock of the guest: the log callback may call this, whatever its thread holds. */
int fln_guest_stats(struct fln_guest *guest, struct fln_stats *out)
{
	FLN_UNCANCELLABLE;
	struct fln_stats full = FLN_STATS_INIT;
	const struct fln_shard *in_context;
	const struct fln_directory *d;
	int rc = FLN_CALL_REFUSED(guest, out);
	bool entered;

	if (rc)
		return rc;
	in_context = fln_context_shards(guest);
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		add_shard(&full, &guest->shards[i]);
		if (in_context)
			add_shard(&full, &in_context[i]);
	}
	entered = fln_rcu_enter();
	fln_rcu_read_lock();
	d = atomic_load_explicit(&guest->directory, memory_order_acquire);
	for (uint32_t i = 0; d && i < d->nr; i++)
		full.map_bytes += fln_blockmap_bytes(&d->regions[i]->map);
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	return fln_out_copy(out, &full, sizeof(full), "fln_stats");
}

int fln_shard_stats(struct fln_guest *guest, uint32_t shard, struct fln_stats *out)
{
	FLN_UNCANCELLABLE;
	struct fln_stats full = FLN_STATS_INIT;
	int rc = FLN_CALL_REFUSED(guest, out);

	if (rc)
		return rc;
	if (shard >= guest->nr_shards)
		return fln_fail(EINVAL, "guest %s: shard is %u, and it has %u; use 0 to %u",
				guest->name, shard, guest->nr_shards, guest->nr_shards - 1);
	add_shard(&full, &guest->shards[shard]);
	if (fln_context_shards(guest))
		add_shard(&full, &fln_context_shards(guest)[shard]);
	return fln_out_copy(out, &full, sizeof(full), "fln_stats");
}
