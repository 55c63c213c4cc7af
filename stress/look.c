/* SPDX-License-Identifier: MIT */
/*
 * Checks every page after an end, and repeatedly for a while: no engine serves the memory any
 * more, and the kernel may change its page tables at any time.  Pages that were filled, written
 * or discarded read as before; unfilled pages raise a signal and never read zeros.
 */
#include "stress/look.h"

#include "stress/collapse.h"
#include "stress/complain.h"
#include "stress/guard.h"
#include "stress/stage.h"
#include "stress/stress.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define LOOKS_AT_ONCE 2048u

static void look_at(struct stress *s, struct guard *g, uint64_t page, const char *when)
{
	static uint64_t copy[PAGE_WORDS];
	bool settled = atomic_load(&s->closing) ? model_stays_settled(&s->model, page)
						: model_is_settled(&s->model, page);
	bool right;
	uint64_t word;
	char buf[128];
	int signo;

	/* No other thread reads, writes or discards: only gaps are refused. */
	if (!model_begin_read(&s->model, page, &word))
		return;
	signo = guard_copy(g, atomic_load(&s->base) + page * PAGE_BYTES, copy);
	right = model_end_read(&s->model, page, word, signo ? NULL : copy);
	if (signo && settled && !stress_is_dead(s, page))
		complain(s, "page %llu: signal %d %s, where %s is due", (unsigned long long)page,
			 signo, when, model_describe(&s->model, page, buf, sizeof(buf)));
	else if (!signo && !right)
		complain(s, "page %llu reads %016llx … %016llx %s, where %s is due",
			 (unsigned long long)page, (unsigned long long)copy[0],
			 (unsigned long long)copy[PAGE_WORDS - 1], when,
			 model_describe(&s->model, page, buf, sizeof(buf)));
}

/*
 * After the end the kernel alone handles a discard.  Private memory then shows its image, or
 * zero where zero was promised; a shared page is still in the cache, or was never filled.
 */
static void discard_some(struct stress *s, struct rng *rng)
{
	uint64_t page = rng_below(rng, s->nr_pages);
	const struct segment *g = layout_at(&s->layout, page);
	uint64_t nr = g ? layout_clip(g, page, 1 + rng_below(rng, HUGE_PAGES)) : 0;
	enum discard_effect effect = DISCARD_NOTHING;

	if (nr == 0 || s->opts.huge)
		return;
	if (s->opts.is_private)
		effect = s->opts.in_context ? DISCARD_TO_IMAGE : DISCARD_TO_IMAGE_OR_ZERO;
	for (uint64_t i = 0; i < nr; i++)
		(void)model_begin_discard(&s->model, page + i);
	if (madvise(atomic_load(&s->base) + page * PAGE_BYTES, nr * PAGE_BYTES, MADV_DONTNEED) != 0)
		effect = DISCARD_NOTHING; /* the present mapping refuses discards */
	for (uint64_t i = 0; i < nr; i++)
		model_end_discard(&s->model, page + i, effect);
}

static void look_at_all(struct stress *s, struct guard *g, const char *when)
{
	for (uint64_t page = 0; page < s->nr_pages; page++)
		look_at(s, g, page, when);
}

/* How long to look: longer in long runs, and with chaos of the host. */
static uint64_t patience_ms(const struct stress *s)
{
	bool last = atomic_load(&s->stop);
	uint64_t ms = has_chaos(&s->opts, CHAOS_HOST) ? 300 : 50;

	return last && (s->opts.seconds <= 0 || s->opts.seconds > 10) ? 10 * ms : ms;
}

void look_at_stopped(struct stress *s)
{
	static uint64_t number;
	struct rng rng = { mix(s->opts.seed ^ mix(0x1007 + number++)) };
	struct guard g = { .armed = 0 };
	uint64_t until;

	guard_set(&g);
	look_at_all(s, &g, "after the stop");
	until = now_ns() + patience_ms(s) * 1000000u;
	do {
		for (uint32_t i = 0; !s->opts.huge && i < 4; i++)
			(void)collapse_elsewhere(s, rng_below(&rng, s->nr_pages));
		for (uint32_t i = 0; i < LOOKS_AT_ONCE; i++)
			look_at(s, &g, rng_below(&rng, s->nr_pages), "some time after the stop");
		stage_begin("looks again at what was stopped");
	} while (now_ns() < until);
	look_at_all(s, &g, "after the stop, collapsed elsewhere");
	for (uint32_t i = 0; i < 16; i++)
		discard_some(s, &rng);
	look_at_all(s, &g, "discarded after the stop");
	guard_set(NULL);
}

void look_at_destroyed(struct stress *s)
{
	struct guard g = { .armed = 0 };

	if (!s->layout.room)
		return;
	guard_set(&g);
	look_at_all(s, &g, "after the guest was destroyed");
	guard_set(NULL);
}
