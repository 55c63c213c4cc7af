/* SPDX-License-Identifier: MIT */
/*
 * The shards of a guest's in-context regions.
 *
 * Userfaultfds of their own, with UFFD_FEATURE_SIGBUS.  A worker has each of them,
 * though no fault ever comes through it: it reads events, without which mremap()
 * would drop the registration and a discard would go unnoticed; it gives back the
 * chunks of blocks that are whole; and it is asked for contents that are not there.
 */
#include "engine/context_shards.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/histogram.h"
#include "engine/context.h"
#include "engine/directory.h"
#include "engine/engine.h"
#include "engine/nodes.h"
#include "engine/region_map.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t shards_bytes(const struct fln_guest *guest)
{
	return guest->nr_shards * sizeof(struct fln_shard);
}

static int open_uffds(struct fln_guest *guest, struct fln_shard *shards)
{
	struct fln_engine *engine = guest->engine;
	bool user_only = engine->opts.flags & FLN_ENGINE_F_USER_MODE_ONLY;
	uint64_t features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
			    UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
			    UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_POISON | UFFD_FEATURE_SIGBUS |
			    UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		int rc;

		shards[i].guest = guest;
		shards[i].index = i;
		shards[i].in_context = true;
		rc = fln_uffd_open(&shards[i].uffd, user_only, features);
		/*
		 * With SIGBUS faults of the kernel's are never served, so what serves those
		 * of user mode only does as well: when privileges have been given up.
		 */
		if ((rc == -EPERM || rc == -EACCES) && !user_only)
			rc = fln_uffd_open(&shards[i].uffd, true, features);
		if (rc == 0)
			continue;
		while (i-- > 0)
			fln_uffd_close(&shards[i].uffd);
		return rc;
	}
	return 0;
}

int fln_context_open(struct fln_guest *guest)
{
	struct fln_engine *engine = guest->engine;
	struct fln_shard *shards = fln_context_shards(guest);
	int rc;

	if (shards) /* else the attempt before has failed half-way */
		return shards[0].worker || !guest->running ? 0 : fln_context_attach(guest);
	if (!(engine->features & UFFD_FEATURE_SIGBUS))
		return fln_fail(EOPNOTSUPP,
				"region: this kernel's userfaultfd cannot raise SIGBUS (features "
				"0x%llx); use FLN_DELIVERY_QUEUED",
				(unsigned long long)engine->features);
	shards = fln_zalloc(&engine->alloc, shards_bytes(guest), FLN_NODE_ANY);
	if (!shards)
		return fln_fail(ENOMEM, "guest %s: no memory for %u in-context shards", guest->name,
				guest->nr_shards);
	rc = open_uffds(guest, shards);
	if (rc) {
		fln_free(&engine->alloc, shards, shards_bytes(guest), FLN_NODE_ANY);
		return rc;
	}
	atomic_store_explicit(&guest->context_shards, shards, memory_order_release);
	return guest->running ? fln_context_attach(guest) : 0;
}

/* Give the shards to the workers in turn; all or none. */
int fln_context_attach(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	for (uint32_t i = 0; shards && i < guest->nr_shards; i++) {
		struct fln_worker *w = fln_guest_worker(guest, i);
		int rc = shards[i].worker ? 0
					  : fln_worker_command(w, FLN_COMMAND_ATTACH, &shards[i]);

		if (rc == 0)
			continue;
		while (i-- > 0)
			(void)fln_worker_command(shards[i].worker, FLN_COMMAND_DETACH, &shards[i]);
		return fln_fail(-rc, "guest %s: an in-context userfaultfd cannot be watched: %s%s",
				guest->name, strerror(-rc),
				rc == -ENOSPC ? "; raise fs.epoll.max_user_watches" : "");
	}
	/* Only now: what a worker is asked for must find its end in fln_guest_pass_workers(). */
	for (uint32_t i = 0; shards && i < guest->nr_shards; i++)
		atomic_store_explicit(&shards[i].helper, shards[i].worker, memory_order_release);
	return 0;
}

void fln_context_detach(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	for (uint32_t i = 0; shards && i < guest->nr_shards; i++) {
		atomic_store_explicit(&shards[i].helper, NULL, memory_order_release);
		if (shards[i].worker)
			(void)fln_worker_command(shards[i].worker, FLN_COMMAND_DETACH, &shards[i]);
	}
}

/* The userfaultfds are closed, or stay open for good. */
void fln_context_close(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	atomic_store_explicit(&guest->context_shards, NULL, memory_order_relaxed);
	fln_free(&guest->engine->alloc, shards, shards_bytes(guest), FLN_NODE_ANY);
}

void fln_context_kick_all(const struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		struct fln_worker *w =
			atomic_load_explicit(&shards[i].helper, memory_order_acquire);

		if (!w || atomic_load_explicit(&shards[i].whole.nr, memory_order_relaxed) == 0)
			continue;
		atomic_store_explicit(&shards[i].whole.hurry, true, memory_order_relaxed);
		fln_worker_kick(w);
	}
}

void fln_context_note_whole(const struct fln_block_round *b)
{
	struct fln_whole_blocks *t = &b->in.shard->whole;
	struct fln_mask valid = fln_blockmap_valid(&b->in.region->map, b->block);
	struct fln_mask present = fln_chunk_load(b->chunk, FLN_PLANE_PRESENT);
	struct fln_mask rest = fln_mask_andnot(&valid, &present);
	struct fln_worker *w;
	uint32_t at, nr;
	uint64_t addr;

	if (!fln_mask_empty(&rest))
		return;
	/* Its first page: a region may begin in the middle of a block. */
	addr = fln_region_addr_of(b->in.region,
				  b->block * FLN_BLOCK_PAGES + fln_mask_next_set(&valid, 0));
	at = (uint32_t)(addr >> FLN_BLOCK_SHIFT);
	for (uint32_t i = 0; i < FLN_NR_WHOLE; i++, at++) {
		_Atomic uint64_t *slot = &t->addr[at & (FLN_NR_WHOLE - 1)];
		uint64_t there = atomic_load_explicit(slot, memory_order_relaxed);

		if (there == 0 && atomic_compare_exchange_strong_explicit(slot, &there, addr,
									  memory_order_release,
									  memory_order_relaxed))
			break;
		if (there == addr)
			return;
	}
	/* Beyond that it is forgotten: the chunk stays, until the block faults again. */
	nr = atomic_fetch_add_explicit(&t->nr, 1, memory_order_relaxed) + 1;
	w = atomic_load_explicit(&b->in.shard->helper, memory_order_acquire);
	/* The first has it look at the clock, many have it begin at once. */
	if ((nr == 1 || nr >= FLN_NR_WHOLE / 2) && w)
		fln_worker_kick(w);
}

static void collapse_at(struct fln_shard *shard, uint64_t addr)
{
	struct fln_region *r = fln_directory_find(shard->guest, addr);
	struct fln_chunk *c;
	uint64_t block;

	if (!r || !r->in_context)
		return; /* gone since */
	block = fln_region_page_of(r, addr) / FLN_BLOCK_PAGES;
	c = fln_blockmap_peek(&r->map, block);
	if (c)
		fln_block_collapse(r, block, c);
}

void fln_context_collapse(struct fln_shard *shard)
{
	struct fln_whole_blocks *t = &shard->whole;

	/* First: who notes one from here on counts it anew. */
	atomic_store_explicit(&t->nr, 0, memory_order_relaxed);
	for (uint32_t i = 0; i < FLN_NR_WHOLE; i++) {
		uint64_t addr = atomic_exchange_explicit(&t->addr[i], 0, memory_order_acquire);

		if (addr == 0)
			continue;
		fln_rcu_read_lock();
		collapse_at(shard, addr);
		fln_rcu_read_unlock();
	}
}

bool fln_context_collapse_due(struct fln_shard *shards, bool due)
{
	bool left = false;

	for (struct fln_shard *s = shards; s; s = s->next_in_context) {
		struct fln_whole_blocks *t = &s->whole;
		uint32_t nr = atomic_load_explicit(&t->nr, memory_order_relaxed);

		if (nr == 0)
			continue;
		if (due || nr >= FLN_NR_WHOLE / 2 ||
		    atomic_exchange_explicit(&t->hurry, false, memory_order_relaxed))
			fln_context_collapse(s);
		else
			left = true;
	}
	return left;
}

void fln_context_begin_fault(struct fln_shard *shard)
{
	fln_count(&shard->count.faults, 1);
	fln_count(&shard->count.in_context, 1);
}

void fln_context_end_fault(struct fln_shard *shard, struct fln_context_ending ending,
			   uint64_t t0_ns)
{
	struct fln_shard_counters *c = &shard->count;

	fln_count(ending.failed   ? &c->invalid
		  : ending.zero   ? &c->zero
		  : ending.waited ? &c->major
				  : &c->minor,
		  1);
	fln_count(ending.failed ? &c->failed : ending.poisoned ? &c->poisoned : &c->resumed, 1);
	fln_histogram_record_shared(&c->service, fln_now_ns() - t0_ns);
}

void fln_context_nap(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / FLN_NS_PER_S),
			       .tv_nsec = (long)(ns % FLN_NS_PER_S) };

	(void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL);
}
