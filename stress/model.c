/* SPDX-License-Identifier: MIT */
/*
 * The model: one atomic word per page, which touching threads, vCPUs and the steps of chaos
 * change without a lock.
 */
#include "stress/model.h"

#include "stress/contents.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#define READERS UINT64_C(0x3ff)
#define READER UINT64_C(1)
#define WRITER (UINT64_C(1) << 10)
#define DISCARDING (UINT64_C(1) << 11)
#define KIND_SHIFT 12
#define KIND (UINT64_C(7) << KIND_SHIFT)
#define SEEN \
	(UINT64_C(1) << 15) /* the image's contents, or zeros, have been read: the page is filled */
#define VERSION_SHIFT 16

static enum page_kind kind_of(uint64_t w)
{
	return (enum page_kind)((w & KIND) >> KIND_SHIFT);
}

static uint64_t with_kind(uint64_t w, enum page_kind kind)
{
	return (w & ~KIND) | ((uint64_t)kind << KIND_SHIFT);
}

static uint64_t version_of(uint64_t w)
{
	return w >> VERSION_SHIFT;
}

bool model_begin_read(struct model *m, uint64_t page, uint64_t *word)
{
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	do {
		if ((w & WRITER) || (w & READERS) == READERS || kind_of(w) == PAGE_GAP)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&m->pages[page], &w, w + READER,
							memory_order_acquire,
							memory_order_relaxed));
	*word = w;
	return true;
}

/* The contents that the page may have: any of these stamps, and zero if @zero. */
struct allowed {
	uint64_t stamp[4];
	uint32_t nr;
	bool zero;
};

static void allow(struct allowed *a, const struct model *m, uint64_t page, uint64_t w)
{
	bool hole = page_is_hole(m->seed, page);

	switch (kind_of(w)) {
	case PAGE_WRITTEN:
		a->stamp[a->nr++] = page_stamp(m->seed, page, version_of(w));
		break;
	case PAGE_ZERO:
		a->zero = true;
		break;
	case PAGE_IMAGE_OR_ZERO:
		a->zero = true;
		/* fall through */
	case PAGE_IMAGE:
	default:
		if (hole)
			a->zero = true;
		else
			a->stamp[a->nr++] = page_stamp(m->seed, page, 0);
		break;
	}
	/* Becoming zero, or the image's contents again. */
	if (w & DISCARDING) {
		a->zero = true;
		if (!hole)
			a->stamp[a->nr++] = page_stamp(m->seed, page, 0);
	}
}

/* Which of the stamps the whole page has; -1: zero; -2: none of them. */
static int one_of(const struct allowed *a, const uint64_t *words)
{
	uint64_t stamp = words[0], diff = 0;
	bool zero = stamp == 0;

	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		diff |= words[i] ^ (zero ? 0 : stamp_word(stamp, i));
	if (diff)
		return -2;
	if (zero)
		return a->zero ? -1 : -2;
	for (uint32_t i = 0; i < a->nr; i++) {
		if (a->stamp[i] == stamp)
			return (int)i;
	}
	return -2;
}

/* While a page is being discarded each word may be the old or the new one. */
static bool each_word_allowed(const struct allowed *a, const uint64_t *words)
{
	for (uint32_t i = 0; i < PAGE_WORDS; i++) {
		bool ok = a->zero && words[i] == 0;

		for (uint32_t k = 0; !ok && k < a->nr; k++)
			ok = words[i] == stamp_word(a->stamp[k], i);
		if (!ok)
			return false;
	}
	return true;
}

/* A read decides what an IMAGE_OR_ZERO page is; a page that was read stays filled. */
static uint64_t learn(uint64_t now, uint64_t before, int what)
{
	if ((now & (DISCARDING | WRITER)) || ((now ^ before) & ~READERS))
		return now;
	if (kind_of(now) == PAGE_ZERO)
		return now | SEEN;
	if (kind_of(now) == PAGE_IMAGE_OR_ZERO)
		return with_kind(now, what == -1 ? PAGE_ZERO : PAGE_IMAGE) | SEEN;
	return kind_of(now) == PAGE_IMAGE ? now | SEEN : now;
}

bool model_end_read(struct model *m, uint64_t page, uint64_t word, const uint64_t *words)
{
	uint64_t now = atomic_load_explicit(&m->pages[page], memory_order_acquire), next;
	struct allowed a = { .nr = 0 };
	bool ok = true;
	int what = -2;

	allow(&a, m, page, word);
	if ((now ^ word) & ~READERS)
		allow(&a, m, page, now);
	if (words) {
		what = one_of(&a, words);
		ok = what != -2;
		if (!ok && ((now | word) & DISCARDING || version_of(now) != version_of(word) ||
			    kind_of(now) != kind_of(word)))
			ok = each_word_allowed(&a, words);
	}
	do {
		/* A hole reads zero in any case, so the read does not say whether it was filled. */
		next = words && ok && !page_is_hole(m->seed, page) ? learn(now, word, what) : now;
		next -= READER;
	} while (!atomic_compare_exchange_weak_explicit(&m->pages[page], &now, next,
							memory_order_release,
							memory_order_relaxed));
	return ok;
}

bool model_begin_write(struct model *m, uint64_t page, uint64_t *stamp)
{
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	do {
		if ((w & (READERS | WRITER | DISCARDING)) || kind_of(w) == PAGE_GAP)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&m->pages[page], &w, w | WRITER,
							memory_order_acquire,
							memory_order_relaxed));
	*stamp = page_stamp(m->seed, page, version_of(w) + 1);
	return true;
}

void model_end_write(struct model *m, uint64_t page, bool written)
{
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	/* No other thread changes the word of a page that is being written. */
	w &= ~WRITER;
	if (written)
		w = with_kind(w, PAGE_WRITTEN) + (UINT64_C(1) << VERSION_SHIFT);
	atomic_store_explicit(&m->pages[page], w, memory_order_release);
}

/* The rest is for the host only. */
#ifndef STRESS_IN_GUEST

int model_init(struct model *m, uint64_t nr_pages, uint64_t seed)
{
	size_t bytes = nr_pages * (sizeof(*m->pages) + sizeof(*m->settled_before));
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	m->pages = p;
	m->settled_before = (void *)(m->pages + nr_pages);
	m->nr_pages = nr_pages;
	m->seed = seed;
	return 0;
}

void model_deinit(struct model *m)
{
	(void)munmap(m->pages, m->nr_pages * (sizeof(*m->pages) + sizeof(*m->settled_before)));
	m->pages = NULL;
}

bool model_begin_discard(struct model *m, uint64_t page)
{
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	do {
		if ((w & (WRITER | DISCARDING)) || kind_of(w) == PAGE_GAP)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&m->pages[page], &w, w | DISCARDING,
							memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

static uint64_t discarded(uint64_t w, enum discard_effect effect)
{
	switch (effect) {
	case DISCARD_ZEROES:
		return with_kind(w, PAGE_ZERO) & ~SEEN;
	case DISCARD_TO_IMAGE:
		return with_kind(w, PAGE_IMAGE);
	case DISCARD_TO_IMAGE_OR_ZERO:
		return with_kind(w, PAGE_IMAGE_OR_ZERO) & ~SEEN;
	case DISCARD_NOTHING:
		return w;
	case DISCARD_KEEPS:
	default:
		return kind_of(w) == PAGE_IMAGE && !(w & SEEN) ? with_kind(w, PAGE_IMAGE_OR_ZERO)
							       : w;
	}
}

void model_end_discard(struct model *m, uint64_t page, enum discard_effect effect)
{
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&m->pages[page], &w,
						      discarded(w, effect) & ~DISCARDING,
						      memory_order_acq_rel, memory_order_relaxed))
		;
}

void model_reset(struct model *m)
{
	for (uint64_t i = 0; i < m->nr_pages; i++) {
		uint64_t w = atomic_load_explicit(&m->pages[i], memory_order_relaxed);

		if (kind_of(w) != PAGE_GAP)
			atomic_store_explicit(&m->pages[i], with_kind(w, PAGE_IMAGE) & ~SEEN,
					      memory_order_relaxed);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

void model_set_gap(struct model *m, uint64_t page, uint64_t nr, bool gap)
{
	for (uint64_t i = page; i < page + nr; i++) {
		uint64_t w = atomic_load_explicit(&m->pages[i], memory_order_relaxed);

		if (gap || kind_of(w) == PAGE_GAP)
			atomic_store(&m->pages[i],
				     with_kind(w, gap ? PAGE_GAP : PAGE_IMAGE) & ~SEEN);
	}
}

void model_note_settled(struct model *m)
{
	for (uint64_t i = 0; i < m->nr_pages; i++)
		atomic_store_explicit(&m->settled_before[i], model_is_settled(m, i),
				      memory_order_relaxed);
}

bool model_stays_settled(const struct model *m, uint64_t page)
{
	return atomic_load_explicit(&m->settled_before[page], memory_order_relaxed) &&
	       model_is_settled(m, page);
}

bool model_is_settled(const struct model *m, uint64_t page)
{
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	return kind_of(w) == PAGE_WRITTEN ||
	       ((kind_of(w) == PAGE_IMAGE || kind_of(w) == PAGE_ZERO) && (w & SEEN));
}

const char *model_describe(struct model *m, uint64_t page, char *buf, uint32_t len)
{
	static const char *const names[] = { "the image's contents", "a write", "zero",
					     "the image's contents or zero", "nothing" };
	uint64_t w = atomic_load_explicit(&m->pages[page], memory_order_relaxed);

	(void)snprintf(buf, len, "%s (version %" PRIu64 ", %s%s%u readers)", names[kind_of(w)],
		       version_of(w), w & WRITER ? "being written, " : "",
		       w & DISCARDING ? "being discarded, " : "", (unsigned)(w & READERS));
	return buf;
}

#endif
