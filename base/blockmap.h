/* SPDX-License-Identifier: MIT */
/*
 * A map of page states under RCU: the page-state map of regions and of images.
 *
 * One slot per 2 MiB block.  A slot holds either the state that all pages of
 * the block share (four planes, one bit each) or a chunk: four planes of 512
 * bits.  The users of the map define what the planes mean (engine/region_map.h,
 * sources/image_state.c).  A map without chunks costs 8 bytes per 2 MiB, and less
 * where slots were never accessed: the kernel allocates their pages on first touch.
 *
 * Readers hold the RCU read lock and never block.  Chunks come from the map's own
 * lock-free pool, whose address space is reserved by fln_blockmap_init().  A chunk returns
 * to the pool a grace period after its block became uniform.
 */
#ifndef FLN_BASE_BLOCKMAP_H
#define FLN_BASE_BLOCKMAP_H

#include "base/page.h"
#include "base/rcu.h"

#include <stdatomic.h>

#define FLN_MAP_PLANES 4u
/* In a uniform state, above the planes' bits: the block is closed, and never gets a chunk. */
#define FLN_MAP_CLOSED (1u << FLN_MAP_PLANES)

struct fln_chunk_pool;

struct fln_chunk {
	_Atomic uint64_t plane[FLN_MAP_PLANES][FLN_MASK_WORDS];
	_Atomic uint16_t nr_faults;      /* for the window policy; it stays at its maximum */
	_Atomic uint16_t nr_faults_seen; /* at the last look of release_case.c */
	_Atomic uint32_t next;           /* in the pool's free list: index + 1 */
	struct fln_chunk_pool *pool;
	struct fln_rcu_head rcu;
};

struct fln_chunk_pool {
	struct fln_chunk *chunks; /* touched when first used */
	uint32_t nr_chunks;
	_Atomic uint32_t nr_carved; /* the first chunks of the array, handed out at least once */
	_Atomic uint64_t free_head; /* low half: index + 1 of the first; high: a tag against ABA */
	_Atomic uint32_t nr_returning; /* chunks that await their grace period */
	_Atomic uint32_t nr_used; /* not in the free list: in slots or awaiting a grace period */
};

struct fln_blockmap {
	_Atomic uintptr_t *slots;
	uint64_t nr_blocks;
	uint64_t nr_pages;
	uint32_t lead_pages; /* pages of the first block that lie before the map */
	/* For each plane, and for FLN_MAP_CLOSED: the uniform blocks whose state has the bit. */
	_Atomic uint64_t nr_uniform[FLN_MAP_PLANES + 1];
	struct fln_chunk_pool pool;
};

/*
 * Pages are numbered from the beginning of the first block, whose first @lead_pages do not
 * belong to the map.  Every page starts in the state @uniform (a bit per plane).
 * Return: 0; -ENOMEM; or as fln_rcu_get().
 */
int fln_blockmap_init(struct fln_blockmap *map, uint32_t lead_pages, uint64_t nr_pages,
		      uint32_t nr_chunks, uint32_t uniform);

/*
 * Release the map, which must have no readers left.  Blocks until chunks that await their
 * grace period are back, so never call it inside an RCU read section.
 */
void fln_blockmap_deinit(struct fln_blockmap *map);

/* Block until no chunk awaits its grace period.  Never inside an RCU read section. */
void fln_blockmap_drain(struct fln_blockmap *map);

/* The pages of @block that belong to the map. */
struct fln_mask fln_blockmap_valid(const struct fln_blockmap *map, uint64_t block);

/* A snapshot of one plane of a block.  RCU read lock held. */
struct fln_mask fln_blockmap_load(const struct fln_blockmap *map, uint32_t plane, uint64_t block);

/*
 * A snapshot of one plane for @nr_pages (at most 512) pages from @page on; bit 0 is @page.
 * Pages beyond the map read as 0.  RCU read lock held.
 */
struct fln_mask fln_blockmap_load_span(const struct fln_blockmap *map, uint32_t plane,
				       uint64_t page, uint32_t nr_pages);

/* The state that all pages of the block share, with FLN_MAP_CLOSED; -1 when it has a chunk. */
int fln_blockmap_uniform(const struct fln_blockmap *map, uint64_t block);

/*
 * The chunk of a block, made from the uniform state when the block has none.  NULL
 * when the pool is empty or the block is closed.  The RCU read lock must be held while the chunk
 * is in use.
 */
struct fln_chunk *fln_blockmap_chunk(struct fln_blockmap *map, uint64_t block);

/*
 * After fln_blockmap_chunk() returned NULL: will a chunk be free soon?  It will if the pool
 * has more chunks than the map has blocks and some await their grace period.  The caller
 * tries again; it gets a chunk after one grace period at the latest.
 */
static inline bool fln_blockmap_chunks_return(const struct fln_blockmap *map)
{
	return map->pool.nr_chunks > map->nr_blocks &&
	       atomic_load_explicit(&map->pool.nr_returning, memory_order_acquire) > 0;
}

/* The chunk of a block, or NULL when the block is uniform.  RCU read lock held. */
struct fln_chunk *fln_blockmap_peek(const struct fln_blockmap *map, uint64_t block);

/*
 * Replace @chunk by the state @uniform and return it to the pool after a grace period.
 * The caller ensures that no thread changes the chunk meanwhile.  False when
 * the slot no longer held @chunk.  RCU read lock held.
 */
bool fln_blockmap_collapse(struct fln_blockmap *map, uint64_t block, struct fln_chunk *chunk,
			   uint32_t uniform);

/*
 * Replace one uniform state by another without a chunk.  False when the slot
 * was not in the state @from.
 */
bool fln_blockmap_swap_uniform(struct fln_blockmap *map, uint64_t block, uint32_t from,
			       uint32_t to);

/* Is every block uniformly in a state that has the bit of @plane? */
static inline bool fln_blockmap_all(const struct fln_blockmap *map, uint32_t plane)
{
	return atomic_load(&map->nr_uniform[plane]) == map->nr_blocks;
}

/* How many blocks are closed. */
static inline uint64_t fln_blockmap_nr_closed(const struct fln_blockmap *map)
{
	return atomic_load(&map->nr_uniform[FLN_MAP_PLANES]);
}

/* The size of the slots and of the chunks that are not in the free list. */
uint64_t fln_blockmap_bytes(const struct fln_blockmap *map);

static inline struct fln_mask fln_chunk_load(const struct fln_chunk *c, uint32_t plane)
{
	struct fln_mask m;

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++)
		m.w[i] = atomic_load_explicit(&c->plane[plane][i], memory_order_acquire);
	return m;
}

/* Set bits; returns those of them that were clear before. */
static inline struct fln_mask fln_chunk_set(struct fln_chunk *c, uint32_t plane,
					    const struct fln_mask *bits)
{
	struct fln_mask won = { { 0 } };

	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++) {
		if (bits->w[i])
			won.w[i] = bits->w[i] & ~atomic_fetch_or_explicit(&c->plane[plane][i],
									  bits->w[i],
									  memory_order_acq_rel);
	}
	return won;
}

static inline void fln_chunk_clear(struct fln_chunk *c, uint32_t plane, const struct fln_mask *bits)
{
	for (uint32_t i = 0; i < FLN_MASK_WORDS; i++) {
		if (bits->w[i])
			atomic_fetch_and_explicit(&c->plane[plane][i], ~bits->w[i],
						  memory_order_acq_rel);
	}
}

#endif
