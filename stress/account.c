/* SPDX-License-Identifier: MIT */
/* Checks that each fault is counted once, and that all of them end (I4). */
#include "stress/account.h"

#include "stress/complain.h"
#include "stress/stress.h"

static void add_stats(struct totals *t, const struct fln_stats *st)
{
	t->faults += st->faults;
	t->minor += st->minor;
	t->major += st->major;
	t->zero += st->zero;
	t->invalid += st->invalid;
	t->refaults += st->refaults;
	t->resumed += st->resumed;
	t->poisoned += st->poisoned;
	t->failed += st->failed;
	t->again += st->again;
	t->in_context += st->in_context;
	fln_histogram_merge(&t->service, &st->service);
}

void account_add(struct stress *s, struct totals *t)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (!s->guest || fln_guest_stats(s->guest, &st) != 0)
		return;
	add_stats(t, &st);
	t->oldest_ns = st.oldest_ns;
}

static uint64_t ended(const struct fln_stats *st)
{
	return st->resumed + st->poisoned + st->failed;
}

static bool is_settled(const struct fln_stats *st)
{
	return st->faults == ended(st) && st->in_flight == 0 &&
	       st->faults == st->minor + st->major + st->zero + st->invalid;
}

static void complain_unsettled(struct stress *s, const char *when, const struct fln_stats *st)
{
	complain(s,
		 "%s faults are not accounted for: %llu taken, %llu resumed, %llu poisoned, "
		 "%llu failed, %lld in flight",
		 when, (unsigned long long)st->faults, (unsigned long long)st->resumed,
		 (unsigned long long)st->poisoned, (unsigned long long)st->failed,
		 (long long)st->in_flight);
}

void account_check_ended(struct stress *s)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (s->guest && fln_guest_stats(s->guest, &st) == 0 && ended(&st) > st.faults)
		complain_unsettled(s, "while threads fault", &st);
}

void account_check_settled(struct stress *s)
{
	uint64_t begin = now_ns();
	struct fln_stats st;

	/* A woken thread continues before the engine counts the end of its fault. */
	do {
		st = (struct fln_stats)FLN_STATS_INIT;
		if (!s->guest || fln_guest_stats(s->guest, &st) != 0 || is_settled(&st))
			return;
		sleep_ms(1);
	} while (ended(&st) <= st.faults && (double)(now_ns() - begin) / 1e9 < s->opts.max_wait_s);
	complain_unsettled(s, "while nobody faults", &st);
}

void account_settle(struct stress *s)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (fln_guest_stats(s->guest, &st) != 0)
		return;
	add_stats(&s->totals, &st);
	if (is_settled(&st))
		return;
	s->totals.unaccounted += st.faults > ended(&st) ? st.faults - ended(&st) : 1;
	complain_unsettled(s, "after the stop", &st);
}
