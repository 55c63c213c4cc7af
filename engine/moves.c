/* SPDX-License-Identifier: MIT */
/*
 * What mremap() has moved: where pages of a shard lie that were registered elsewhere.
 *
 * The worker of the shard writes the moves, when it acts upon events, or who closes regions,
 * when it has no worker; under guest->lock, under which others read them.  Others also must
 * not map across what was moved in between, and threads that resolve their own faults may
 * take no lock: for them there is a copy of the new places, which is looked at by a sequence
 * number that is odd while it changes.
 */
#include "engine/moves.h"

#include "base/lock.h"
#include "base/rcu.h"

#include <string.h>

#define READING_LOOKS 500u

uint64_t fln_shard_unmove(const struct fln_shard *shard, uint64_t addr)
{
	for (uint32_t i = atomic_load_explicit(&shard->nr_moves, memory_order_acquire); i > 0;
	     i--) {
		const struct fln_move *m = &shard->moves[i - 1];

		if (addr >= m->to && addr - m->to < m->len_bytes)
			return m->from + (addr - m->to);
	}
	return addr;
}

/* The pages of the block at @block_addr that lie in [addr, addr + len_bytes). */
static struct fln_mask pages_in(uint64_t block_addr, uint64_t addr, uint64_t len_bytes)
{
	uint64_t lo = addr > block_addr ? addr - block_addr : 0;
	uint64_t hi = addr + len_bytes > block_addr ? addr + len_bytes - block_addr : 0;

	hi = hi < FLN_BLOCK_BYTES ? hi : FLN_BLOCK_BYTES;
	lo = lo < hi ? lo : hi;
	return fln_mask_range((uint32_t)fln_bytes_to_pages(lo), (uint32_t)fln_bytes_to_pages(hi));
}

struct fln_mask fln_shard_lying(const struct fln_shard *shard, uint64_t block_addr,
				uint64_t home_addr)
{
	struct fln_mask lying = fln_mask_range(0, block_addr == home_addr ? FLN_BLOCK_PAGES : 0);

	for (uint32_t i = atomic_load_explicit(&shard->nr_moves, memory_order_acquire); i > 0;
	     i--) {
		const struct fln_move *m = &shard->moves[i - 1];
		struct fln_mask here = pages_in(block_addr, m->to, m->len_bytes);
		struct fln_mask away = pages_in(home_addr, m->from, m->len_bytes);

		if (m->to - m->from == block_addr - home_addr) {
			lying = fln_mask_or(&lying, &here);
			continue;
		}
		lying = fln_mask_andnot(&lying, &here);
		if (block_addr == home_addr)
			lying = fln_mask_andnot(&lying, &away);
	}
	return lying;
}

bool fln_shard_has_map(const struct fln_shard *shard, uint64_t addr, uint64_t home_addr)
{
	if (addr != home_addr)
		return true; /* it lies where a move has put it */
	for (uint32_t i = atomic_load_explicit(&shard->nr_moves, memory_order_acquire); i > 0;
	     i--) {
		const struct fln_move *m = &shard->moves[i - 1];

		if (addr >= m->from && addr - m->from < m->len_bytes)
			return false;
	}
	return true;
}

struct fln_span fln_shard_span_at(const struct fln_shard *shard, uint64_t at, uint64_t end)
{
	uint32_t nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);
	struct fln_span s = { .home = at, .stop = end };

	for (uint32_t i = 0; i < nr; i++) {
		const struct fln_move *m = &shard->moves[i];
		uint64_t bound = m->to;

		if (at >= m->to && at - m->to < m->len_bytes) {
			s.home = m->from + (at - m->to);
			bound = m->to + m->len_bytes;
		}
		if (bound > at && bound < s.stop)
			s.stop = bound;
	}
	return s;
}

uint32_t fln_shard_moves(struct fln_shard *shard, struct fln_move moves[FLN_MAX_MOVES])
{
	uint32_t nr;

	fln_lock(&shard->guest->lock);
	nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);
	memcpy(moves, shard->moves, nr * sizeof(*moves));
	fln_unlock(&shard->guest->lock);
	return nr;
}

/* By who has guest->lock. */
static bool overlaps_region(const struct fln_guest *guest, uint64_t lo, uint64_t hi)
{
	const struct fln_region *r = guest->regions;

	while (r && (lo >= r->addr + r->len_bytes || r->addr >= hi))
		r = r->next;
	return r;
}

/* What cannot be followed must not be let go of either: see closing.c. */
static bool add_move(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes)
{
	uint32_t nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);

	if (from == to)
		return true; /* home again */
	if (nr == FLN_MAX_MOVES) {
		atomic_store_explicit(&shard->keep_open, true, memory_order_relaxed);
		/* Elsewhere nobody takes it for something else. */
		if (!overlaps_region(shard->guest, to, to + len_bytes))
			return false;
		if (shard->lost_end == 0 || to < shard->lost)
			shard->lost = to;
		if (to + len_bytes > shard->lost_end)
			shard->lost_end = to + len_bytes;
		return false;
	}
	shard->moves[nr].from = from;
	shard->moves[nr].to = to;
	shard->moves[nr].len_bytes = len_bytes;
	atomic_store_explicit(&shard->nr_moves, nr + 1, memory_order_release);
	return true;
}

/* Nothing that was moved lies in [start, end) any more. */
static bool cut_moves(struct fln_shard *shard, uint64_t start, uint64_t end)
{
	uint32_t nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);
	bool room = true;

	for (uint32_t i = nr; i-- > 0;) {
		struct fln_move *m = &shard->moves[i], old = *m;
		uint64_t old_end = old.to + old.len_bytes;

		if (old.to >= end || old_end <= start)
			continue;
		/* What is left is a head, a tail, both, or nothing. */
		if (old.to < start) {
			m->len_bytes = start - old.to;
			if (old_end > end)
				room &= add_move(shard, old.from + (end - old.to), end,
						 old_end - end);
		} else if (old_end > end) {
			m->from = old.from + (end - old.to);
			m->to = end;
			m->len_bytes = old_end - end;
		} else {
			nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed) - 1;
			*m = shard->moves[nr];
			atomic_store_explicit(&shard->nr_moves, nr, memory_order_release);
		}
	}
	return room;
}

static void publish_range(struct fln_moved *moved, uint32_t i, uint64_t lo, uint64_t hi)
{
	atomic_store(&moved->ranges[i].lo, lo);
	atomic_store(&moved->ranges[i].hi, hi);
}

/* For who has no lock.  By who has guest->lock. */
static void publish(struct fln_shard *shard)
{
	struct fln_moved *moved = &shard->moved;
	uint32_t nr = atomic_load(&shard->nr_moves);

	(void)atomic_fetch_add(&moved->seq, 1);
	for (uint32_t i = 0; i < nr; i++)
		publish_range(moved, i, shard->moves[i].to,
			      shard->moves[i].to + shard->moves[i].len_bytes);
	if (shard->lost_end > 0)
		publish_range(moved, nr++, shard->lost, shard->lost_end);
	atomic_store(&moved->nr, nr);
	atomic_store(&shard->guest->any_moved, true);
	(void)atomic_fetch_add(&moved->seq, 1);
}

/* Adds the pages of the block onto which the shard's were moved.  False: that is changing. */
static bool add_moved(const struct fln_shard *shard, uint64_t block_addr, struct fln_mask *pages)
{
	const struct fln_moved *moved = &shard->moved;
	uint32_t seq = atomic_load(&moved->seq), nr;

	if (seq == 0)
		return true;
	nr = atomic_load(&moved->nr);
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t lo = atomic_load(&moved->ranges[i].lo);
		uint64_t hi = atomic_load(&moved->ranges[i].hi);
		struct fln_mask in = { { 0 } };

		if (lo < hi && lo < block_addr + FLN_BLOCK_BYTES && hi > block_addr)
			in = pages_in(block_addr, lo, hi - lo);
		*pages = fln_mask_or(pages, &in);
	}
	return seq % 2 == 0 && atomic_load(&moved->seq) == seq;
}

bool fln_guest_moved_onto(const struct fln_guest *guest, const struct fln_shard *own,
			  uint64_t block_addr, struct fln_mask *pages)
{
	const struct fln_shard *in_context = fln_context_shards(guest);

	memset(pages, 0, sizeof(*pages));
	for (uint32_t i = 0; !own && atomic_load(&guest->nr_reading) > 0; i++) {
		if (i == READING_LOOKS)
			return false;
		fln_cpu_relax(); /* mostly as long as a read() takes */
	}
	if (!atomic_load(&guest->any_moved))
		return true;
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		if (&guest->shards[i] != own && !add_moved(&guest->shards[i], block_addr, pages))
			return false;
		if (in_context && &in_context[i] != own &&
		    !add_moved(&in_context[i], block_addr, pages))
			return false;
	}
	return true;
}

void fln_shard_reading_begin(struct fln_shard *shard)
{
	if (shard->in_context)
		(void)atomic_fetch_add(&shard->guest->nr_reading, 1);
}

void fln_shard_reading_end(struct fln_shard *shard)
{
	if (shard->in_context)
		(void)atomic_fetch_sub(&shard->guest->nr_reading, 1);
}

bool fln_shard_cut_moves(struct fln_shard *shard, uint64_t start, uint64_t end)
{
	bool room;

	if (atomic_load_explicit(&shard->nr_moves, memory_order_relaxed) == 0)
		return true;
	fln_lock(&shard->guest->lock);
	room = cut_moves(shard, start, end);
	publish(shard);
	fln_unlock(&shard->guest->lock);
	return room;
}

bool fln_shard_remap(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes)
{
	uint64_t end = from + len_bytes;
	bool room;
	struct fln_span s;

	/* The old place is left to the UNMAP event that follows, if one does. */
	fln_lock(&shard->guest->lock);
	room = cut_moves(shard, to, to + len_bytes);
	for (uint64_t at = from; at < end; at = s.stop) {
		s = fln_shard_span_at(shard, at, end);
		room &= add_move(shard, s.home, to + (at - from), s.stop - at);
	}
	publish(shard);
	fln_unlock(&shard->guest->lock);
	return room;
}

void fln_shard_forget_moves(struct fln_shard *shard)
{
	struct fln_guest *guest = shard->guest;
	uint32_t nr;

	fln_lock(&guest->lock);
	nr = atomic_load_explicit(&shard->nr_moves, memory_order_relaxed);
	for (uint32_t i = nr; i-- > 0;) {
		const struct fln_move *m = &shard->moves[i];

		if (overlaps_region(guest, m->from, m->from + m->len_bytes))
			continue;
		shard->moves[i] = shard->moves[--nr];
		atomic_store_explicit(&shard->nr_moves, nr, memory_order_release);
	}
	if (!overlaps_region(guest, shard->lost, shard->lost_end))
		shard->lost = shard->lost_end = 0;
	publish(shard);
	fln_unlock(&guest->lock);
}
