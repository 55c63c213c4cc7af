/* SPDX-License-Identifier: MIT */
/*
 * The touches of a vCPU: the same as a thread's in toucher.c, on the same model, run inside the
 * guest.  The toucher records the touch that is under way for the host, because a failed page
 * ends the function in the middle.
 */
#define STRESS_IN_GUEST
#include "stress/guest.h"

#include "stress/touch.h"
#include "vcpu/vcpu.h"

/* Word by word: memcpy() is in the C library, which the guest does not have. */
static void copy_page(uint64_t *to, const uint64_t *from)
{
	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		to[i] = from[i];
}

static uint64_t *page_at(const struct toucher *t, uint64_t page)
{
	return (uint64_t *)(void *)(atomic_load_explicit(&t->s->base, memory_order_relaxed) +
				    page * PAGE_BYTES);
}

/* The compiler must not move accesses to guest memory across this. */
static void set_doing(struct toucher *t, enum touch_kind kind)
{
	atomic_store_explicit(&t->doing, kind, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static bool read_page(struct toucher *t, uint64_t page)
{
	if (!model_begin_read(&t->s->model, page, &t->begun))
		return true;
	set_doing(t, TOUCH_READS);
	copy_page(t->copy, page_at(t, page));
	set_doing(t, TOUCH_NOTHING);
	atomic_fetch_add_explicit(&t->nr_verified, 1, memory_order_relaxed);
	return model_end_read(&t->s->model, page, t->begun, t->copy);
}

static void write_page(struct toucher *t, uint64_t page)
{
	uint64_t stamp;

	if (!model_begin_write(&t->s->model, page, &stamp))
		return;
	set_doing(t, TOUCH_WRITES);
	page_write(page_at(t, page), stamp);
	set_doing(t, TOUCH_NOTHING);
	model_end_write(&t->s->model, page, true);
}

uint64_t guest_touch(void *toucher)
{
	struct toucher *t = toucher;
	struct stress *s = t->s;
	bool ok = true;

	while (ok && touch_has_next(t) && !atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		struct touch touch;
		uint64_t begin;

		if (!touch_enter(t))
			return GUEST_GATE;
		begin = vcpu_clock_ns(&s->clock);
		touch = touch_begin(t, begin);
		if (touch.writes)
			write_page(t, touch.page);
		else
			ok = read_page(t, touch.page);
		touch_end(t, vcpu_clock_ns(&s->clock) - begin);
	}
	return ok ? GUEST_DONE : GUEST_WRONG;
}

/*
 * The emulator loads half a word at a time.  If the page is discarded between the two loads the
 * word would be half old and half new, so the first half is loaded again.
 */
static uint64_t load_word(const uint32_t *halves)
{
	uint32_t low, high, again = vcpu_load_emulated(&halves[0]);

	do {
		low = again;
		high = vcpu_load_emulated(&halves[1]);
		again = vcpu_load_emulated(&halves[0]);
	} while (again != low);
	return low | (uint64_t)high << 32;
}

uint64_t guest_copy_emulated(void *copy)
{
	struct guest_copy *c = copy;
	const uint32_t *from = (const uint32_t *)(const void *)c->from;

	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		c->to[i] = load_word(&from[(size_t)2 * i]);
	return 0;
}
