/* SPDX-License-Identifier: MIT */
/* Touches that ended in a signal or with wrong contents. */
#include "stress/touch.h"

#include "stress/complain.h"
#include "stress/stress.h"

#include <string.h>

/* A worker lifts the poison of a discarded page, which may take this long. */
#define LIFT_NS UINT64_C(4000000000)

static bool must_read_zero(struct stress *s)
{
	uint64_t given_up_ns = atomic_load(&s->dead_given_up_ns);

	return given_up_ns && now_ns() - given_up_ns > LIFT_NS;
}

void touch_after_signal(struct toucher *t, uint64_t page, int signo, bool settled)
{
	struct stress *s = t->s;
	char buf[128];

	if (atomic_load(&s->closing) && !(settled && model_stays_settled(&s->model, page)))
		return;
	if (stress_is_dead(s, page) && !must_read_zero(s)) {
		atomic_fetch_add_explicit(&t->nr_declared, 1, memory_order_relaxed);
		return;
	}
	complain(s, "page %llu: signal %d (%s), where %s is due", (unsigned long long)page, signo,
		 strsignal(signo), model_describe(&s->model, page, buf, sizeof(buf)));
}

void touch_describe_wrong(struct toucher *t, uint64_t page)
{
	struct stress *s = t->s;
	char buf[128];
	uint32_t i = 0;

	while (i + 1 < PAGE_WORDS && t->copy[i + 1] == t->copy[i] + (t->copy[0] ? 2 : 0))
		i++;
	complain(s, "page %llu reads %016llx … %016llx (consistent to word %u), where %s is due",
		 (unsigned long long)page, (unsigned long long)t->copy[0],
		 (unsigned long long)t->copy[PAGE_WORDS - 1], i,
		 model_describe(&s->model, page, buf, sizeof(buf)));
}
