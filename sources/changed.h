/* SPDX-License-Identifier: MIT */
/*
 * Which images have changed, for one waiter: set by whoever kicks it, taken by the waiter.
 *
 * A kick says that something has changed, this says of what: a waiter for many images goes
 * straight to those that wait for the one that has.  Images fall into sets, by their address.
 */
#ifndef FLN_SOURCES_CHANGED_H
#define FLN_SOURCES_CHANGED_H

#include <stdatomic.h>
#include <stdint.h>

#define FLN_NR_IMAGE_SETS 1024u

enum fln_change {
	FLN_CHANGE_PAGES, /* states have moved */
	FLN_CHANGE_FILLS, /* a fill that the image may take has come free */
	FLN_NR_CHANGES
};

#define FLN_NR_CHANGED_WORDS (FLN_NR_CHANGES * FLN_NR_IMAGE_SETS / 64)

struct fln_changed {
	_Atomic uint64_t words; /* of bits, those in which there are some */
	_Atomic uint64_t bits[FLN_NR_CHANGED_WORDS];
	uint64_t pad[7]; /* to whole cache lines: the next waiter's are others */
};

/*
 * After the change, before the kick.  The bit comes first, then the word's, then the kick;
 * the waiter takes them in the opposite order.  So a bit that is set after its word was taken
 * has its word's bit and its kick to come, and the waiter comes back for it.
 */
static inline void fln_changed_set(struct fln_changed *c, enum fln_change what, uint32_t set)
{
	uint32_t i = (uint32_t)what * FLN_NR_IMAGE_SETS + set;

	(void)atomic_fetch_or_explicit(&c->bits[i / 64], UINT64_C(1) << i % 64,
				       memory_order_release);
	(void)atomic_fetch_or_explicit(&c->words, UINT64_C(1) << i / 64, memory_order_release);
}

/* By the waiter, after it has taken note of the kick: @fn for each, which is forgotten. */
static inline void fln_changed_take(struct fln_changed *c, void *ctx,
				    void (*fn)(void *ctx, enum fln_change what, uint32_t set))
{
	uint64_t words = 0;

	if (atomic_load_explicit(&c->words, memory_order_relaxed) != 0)
		words = atomic_exchange_explicit(&c->words, 0, memory_order_acquire);
	for (; words; words &= words - 1) {
		uint32_t word = (uint32_t)__builtin_ctzll(words);
		uint64_t bits = atomic_exchange_explicit(&c->bits[word], 0, memory_order_acquire);

		for (; bits; bits &= bits - 1) {
			uint32_t i = word * 64 + (uint32_t)__builtin_ctzll(bits);

			fn(ctx, i / FLN_NR_IMAGE_SETS, i % FLN_NR_IMAGE_SETS);
		}
	}
}

#endif
