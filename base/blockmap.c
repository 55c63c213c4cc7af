/* SPDX-License-Identifier: MIT */
/*
 * The block map: slots, chunks and their pool.
 *
 * A slot is 0 (uniform, no plane set), odd (uniform: planes << 1 | 1, closed blocks have one bit
 * more) or the address of a chunk.  Slots change by compare-and-swap only.  A reader that
 * loaded a chunk's address may use the chunk until the end of its RCU section,
 * even after the slot has changed.  What it reads may then be stale, so users
 * of the map treat it as a hint.
 *
 * Any thread may change slots and the pool, without a lock.
 *
 * The pool is a stack of free chunks, linked by index.  A tag in its head changes
 * at every pop and push, which defeats ABA.  A chunk that has been in a slot is pushed
 * only after a grace period (fln_rcu_call()).  Chunks that were never used are carved off
 * the array on demand, so a large pool costs no memory until it is needed.
 */
#include "base/blockmap.h"
#include "base/clock.h"
#include "base/map.h"

#include <errno.h>
#include <sys/mman.h>

#define UNIFORM(planes) (((uintptr_t)(planes) << 1) | 1u)

static bool slot_is_uniform(uintptr_t slot)
{
	return slot == 0 || (slot & 1);
}

static uint32_t slot_planes(uintptr_t slot)
{
	return (uint32_t)(slot >> 1);
}

/* Zero pages that the kernel allocates on first touch: unused slots and chunks cost nothing. */
static void *reserve(uint64_t bytes)
{
	void *ptr = fln_map_closed(NULL, bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ptr == MAP_FAILED)
		return NULL;
	if (fln_map_open(ptr, bytes, true) == 0)
		return ptr;
	(void)munmap(ptr, bytes);
	return NULL;
}

int fln_blockmap_init(struct fln_blockmap *map, uint32_t lead_pages, uint64_t nr_pages,
		      uint32_t nr_chunks, uint32_t uniform)
{
	int rc;

	FLN_ASSERT(lead_pages < FLN_BLOCK_PAGES);
	FLN_ASSERT(nr_pages > 0);
	memset(map, 0, sizeof(*map));
	map->lead_pages = lead_pages;
	map->nr_pages = nr_pages;
	map->nr_blocks = (lead_pages + nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	rc = fln_rcu_get();
	if (rc)
		return rc;
	map->slots = reserve(map->nr_blocks * sizeof(*map->slots));
	if (!map->slots) {
		fln_rcu_put();
		return fln_fail(ENOMEM, "no address space for the page-state map of %llu blocks",
				(unsigned long long)map->nr_blocks);
	}
	map->pool.nr_chunks = nr_chunks;
	map->pool.chunks = reserve((uint64_t)nr_chunks * sizeof(struct fln_chunk));
	if (!map->pool.chunks) {
		(void)munmap(map->slots, map->nr_blocks * sizeof(*map->slots));
		map->slots = NULL;
		fln_rcu_put();
		return fln_fail(ENOMEM, "no address space for %u chunks of the page-state map",
				nr_chunks);
	}
	for (uint64_t i = 0; uniform && i < map->nr_blocks; i++)
		atomic_store_explicit(&map->slots[i], UNIFORM(uniform), memory_order_relaxed);
	for (uint32_t p = 0; p <= FLN_MAP_PLANES; p++)
		atomic_store_explicit(&map->nr_uniform[p], (uniform >> p) & 1 ? map->nr_blocks : 0,
				      memory_order_relaxed);
	return 0;
}

void fln_blockmap_drain(struct fln_blockmap *map)
{
	while (atomic_load_explicit(&map->pool.nr_returning, memory_order_acquire) > 0)
		fln_sleep_ns(100 * FLN_NS_PER_US);
}

void fln_blockmap_deinit(struct fln_blockmap *map)
{
	if (!map->slots)
		return;
	fln_blockmap_drain(map);
	(void)munmap(map->pool.chunks, (uint64_t)map->pool.nr_chunks * sizeof(struct fln_chunk));
	(void)munmap(map->slots, map->nr_blocks * sizeof(*map->slots));
	map->slots = NULL;
	fln_rcu_put();
}

static struct fln_chunk *pool_pop(struct fln_chunk_pool *pool)
{
	uint64_t head = atomic_load_explicit(&pool->free_head, memory_order_acquire);
	uint32_t carved;

	while ((uint32_t)head != 0) {
		struct fln_chunk *c = &pool->chunks[(uint32_t)head - 1];
		uint32_t next = atomic_load_explicit(&c->next, memory_order_relaxed);
		uint64_t to = (((head >> 32) + 1) << 32) | next;

		if (atomic_compare_exchange_weak_explicit(&pool->free_head, &head, to,
							  memory_order_acq_rel,
							  memory_order_acquire))
			return c;
	}
	carved = atomic_load_explicit(&pool->nr_carved, memory_order_relaxed);
	while (carved < pool->nr_chunks) {
		if (atomic_compare_exchange_weak_explicit(&pool->nr_carved, &carved, carved + 1,
							  memory_order_relaxed,
							  memory_order_relaxed)) {
			pool->chunks[carved].pool = pool;
			return &pool->chunks[carved];
		}
	}
	return NULL;
}

static void pool_push(struct fln_chunk_pool *pool, struct fln_chunk *c)
{
	uint32_t index = (uint32_t)(c - pool->chunks) + 1;
	uint64_t head = atomic_load_explicit(&pool->free_head, memory_order_relaxed);
	uint64_t to;

	do {
		atomic_store_explicit(&c->next, (uint32_t)head, memory_order_relaxed);
		to = (((head >> 32) + 1) << 32) | index;
	} while (!atomic_compare_exchange_weak_explicit(&pool->free_head, &head, to,
							memory_order_acq_rel,
							memory_order_relaxed));
	atomic_fetch_sub_explicit(&pool->nr_used, 1, memory_order_relaxed);
}

static void chunk_return(struct fln_rcu_head *head)
{
	struct fln_chunk *c = (struct fln_chunk *)((char *)head - offsetof(struct fln_chunk, rcu));

	struct fln_chunk_pool *pool;

	FLN_TSAN_ACQUIRE();
	pool = c->pool;
	pool_push(pool, c);
	/* The last access to the pool: fln_blockmap_deinit() may unmap it after this. */
	atomic_fetch_sub_explicit(&pool->nr_returning, 1, memory_order_release);
}

static struct fln_chunk *chunk_new(struct fln_blockmap *map, uint32_t planes)
{
	struct fln_chunk *c = pool_pop(&map->pool);

	if (!c)
		return NULL;
	atomic_fetch_add_explicit(&map->pool.nr_used, 1, memory_order_relaxed);
	for (uint32_t p = 0; p < FLN_MAP_PLANES; p++) {
		for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
			atomic_store_explicit(&c->plane[p][i], (planes >> p) & 1 ? UINT64_MAX : 0,
					      memory_order_relaxed);
	}
	atomic_store_explicit(&c->nr_faults, 0, memory_order_relaxed);
	atomic_store_explicit(&c->nr_faults_seen, 0, memory_order_relaxed);
	return c;
}

struct fln_mask fln_blockmap_valid(const struct fln_blockmap *map, uint64_t block)
{
	uint64_t first = block * FLN_BLOCK_PAGES;
	uint64_t end = map->lead_pages + map->nr_pages;
	uint32_t lo = block == 0 ? map->lead_pages : 0;
	uint32_t hi = end - first < FLN_BLOCK_PAGES ? (uint32_t)(end - first) : FLN_BLOCK_PAGES;

	FLN_DEBUG_ASSERT(block < map->nr_blocks);
	return fln_mask_range(lo, hi);
}

static uintptr_t slot_load(const struct fln_blockmap *map, uint64_t block)
{
	FLN_DEBUG_ASSERT(block < map->nr_blocks);
	return atomic_load_explicit(&map->slots[block], memory_order_acquire);
}

static struct fln_mask slot_plane(uintptr_t slot, uint32_t plane)
{
	struct fln_mask m = { { 0 } };

	if (!slot_is_uniform(slot))
		return fln_chunk_load((const struct fln_chunk *)slot, plane);
	if ((slot_planes(slot) >> plane) & 1)
		memset(&m, 0xff, sizeof(m));
	return m;
}

struct fln_mask fln_blockmap_load(const struct fln_blockmap *map, uint32_t plane, uint64_t block)
{
	return slot_plane(slot_load(map, block), plane);
}

struct fln_mask fln_blockmap_load_span(const struct fln_blockmap *map, uint32_t plane,
				       uint64_t page, uint32_t nr_pages)
{
	uint64_t block = page / FLN_BLOCK_PAGES;
	uint32_t shift = (uint32_t)(page % FLN_BLOCK_PAGES);
	struct fln_mask m = { { 0 } }, low, high = { { 0 } }, want;

	FLN_DEBUG_ASSERT(nr_pages <= FLN_BLOCK_PAGES);
	if (block >= map->nr_blocks)
		return m;
	low = fln_blockmap_load(map, plane, block);
	want = fln_blockmap_valid(map, block);
	low = fln_mask_and(&low, &want);
	if (shift == 0) {
		m = low;
	} else {
		uint32_t words = shift / 64, bits = shift % 64;

		if (block + 1 < map->nr_blocks) {
			high = fln_blockmap_load(map, plane, block + 1);
			want = fln_blockmap_valid(map, block + 1);
			high = fln_mask_and(&high, &want);
		}
		for (uint32_t i = 0; i < FLN_MASK_WORDS; i++) {
			uint32_t from = i + words;
			uint64_t lo_w =
				from < FLN_MASK_WORDS ? low.w[from] : high.w[from - FLN_MASK_WORDS];
			uint64_t hi_w = from + 1 < FLN_MASK_WORDS
						? low.w[from + 1]
						: high.w[from + 1 - FLN_MASK_WORDS];

			m.w[i] = bits ? lo_w >> bits | hi_w << (64 - bits) : lo_w;
		}
	}
	want = fln_mask_range(0, nr_pages);
	return fln_mask_and(&m, &want);
}

int fln_blockmap_uniform(const struct fln_blockmap *map, uint64_t block)
{
	uintptr_t slot = slot_load(map, block);

	return slot_is_uniform(slot) ? (int)slot_planes(slot) : -1;
}

struct fln_chunk *fln_blockmap_peek(const struct fln_blockmap *map, uint64_t block)
{
	uintptr_t slot = slot_load(map, block);

	return slot_is_uniform(slot) ? NULL : (struct fln_chunk *)slot;
}

/* Account for a slot that went from planes @from to planes @to; a chunk counts as 0. */
static void count_uniform(struct fln_blockmap *map, uint32_t from, uint32_t to)
{
	for (uint32_t p = 0; p <= FLN_MAP_PLANES; p++) {
		uint32_t bit = 1u << p;

		if ((from & bit) && !(to & bit))
			atomic_fetch_sub(&map->nr_uniform[p], 1);
		else if ((to & bit) && !(from & bit))
			atomic_fetch_add(&map->nr_uniform[p], 1);
	}
}

struct fln_chunk *fln_blockmap_chunk(struct fln_blockmap *map, uint64_t block)
{
	uintptr_t slot = slot_load(map, block);

	while (slot_is_uniform(slot)) {
		struct fln_chunk *c;

		if (slot_planes(slot) & FLN_MAP_CLOSED)
			return NULL;
		c = chunk_new(map, slot_planes(slot));
		/* The pool was empty.  If no chunk is on its way back, one may be back already. */
		if (!c && !fln_blockmap_chunks_return(map))
			c = chunk_new(map, slot_planes(slot));
		if (!c)
			return NULL;
		if (atomic_compare_exchange_strong_explicit(&map->slots[block], &slot, (uintptr_t)c,
							    memory_order_acq_rel,
							    memory_order_acquire)) {
			count_uniform(map, slot_planes(slot), 0);
			return c;
		}
		pool_push(&map->pool, c); /* never published, so no grace period is needed */
	}
	return (struct fln_chunk *)slot;
}

bool fln_blockmap_collapse(struct fln_blockmap *map, uint64_t block, struct fln_chunk *chunk,
			   uint32_t uniform)
{
	uintptr_t slot = (uintptr_t)chunk;

	if (!atomic_compare_exchange_strong_explicit(&map->slots[block], &slot, UNIFORM(uniform),
						     memory_order_acq_rel, memory_order_acquire))
		return false;
	count_uniform(map, 0, uniform);
	atomic_fetch_add_explicit(&map->pool.nr_returning, 1, memory_order_relaxed);
	fln_rcu_call(&chunk->rcu, chunk_return);
	return true;
}

bool fln_blockmap_swap_uniform(struct fln_blockmap *map, uint64_t block, uint32_t from, uint32_t to)
{
	uintptr_t slot = slot_load(map, block);

	if (!slot_is_uniform(slot) || slot_planes(slot) != from)
		return false;
	if (!atomic_compare_exchange_strong_explicit(&map->slots[block], &slot, UNIFORM(to),
						     memory_order_acq_rel, memory_order_acquire))
		return false;
	count_uniform(map, from, to);
	return true;
}

uint64_t fln_blockmap_bytes(const struct fln_blockmap *map)
{
	return map->nr_blocks * sizeof(*map->slots) +
	       (uint64_t)atomic_load_explicit(&map->pool.nr_used, memory_order_relaxed) *
		       sizeof(struct fln_chunk);
}
