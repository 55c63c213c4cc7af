/* SPDX-License-Identifier: MIT */
/* Waits until the memory under test has settled: until its counters no longer change. */
#include "cli/settle.h"

#include "measure/clock.h"
#include "measure/error.h"
#include "measure/machine.h"

#include <time.h>

#define LIMIT_NS UINT64_C(10000000000)
#define LOOK_NS 5000000
/* Workers install the windows of the last faults a little after the last touch. */
#define QUIET_NS UINT64_C(20000000)
/* How long a fill that is under way may leave the counters unchanged. */
#define QUIET_FILLING_NS UINT64_C(250000000)
/* Releases, and giving back spare memory of large folios, follow a while after the last fault. */
#define QUIET_RELEASING_NS UINT64_C(1500000000)
#define QUIET_MAX_NS UINT64_C(3000000000)

struct settling {
	const struct cli_options *o;
	uint64_t len_bytes;
};

/* Is all filled that can be, and all released that is to be? */
static bool is_final(const struct settling *s, const struct cli_counters *c)
{
	if (s->o->design != CLI_ENGINE)
		return true;
	return c->filled_bytes == s->len_bytes &&
	       (s->o->release == CLI_RELEASE_NEVER || c->stats.userfaultfds == 0);
}

/* What must end before the memory has settled; NULL: nothing that is known of. */
static const char *pending(const struct settling *s, const struct cli_counters *c)
{
	if (c->stats.in_flight)
		return "faults to be served";
	if (c->filled_bytes == s->len_bytes && !is_final(s, c))
		return "filled memory to be released";
	return NULL;
}

/* How long the counters must stay unchanged before the memory counts as settled. */
static uint64_t quiet_ns(const struct settling *s, const struct cli_counters *c)
{
	uint64_t ns;

	if (s->o->design == CLI_ENGINE && c->stats.userfaultfds == 0)
		return 0;
	if (is_final(s, c))
		return QUIET_NS;
	ns = s->o->release == CLI_RELEASE_AUTO ? QUIET_RELEASING_NS : QUIET_FILLING_NS;
	ns += s->o->delay_ms * 1000000;
	return ns < QUIET_MAX_NS ? ns : QUIET_MAX_NS;
}

static bool has_changed(const struct cli_counters *a, const struct cli_counters *b)
{
	return a->filled_bytes != b->filled_bytes || a->memory_bytes != b->memory_bytes ||
	       a->stats.released_bytes != b->stats.released_bytes ||
	       a->stats.userfaultfds != b->stats.userfaultfds ||
	       a->stats.pages_installed != b->stats.pages_installed;
}

static void note_given_up(const struct settling *s, const struct cli_counters *c)
{
	const char *what = pending(s, c);

	measure_error("note: gave up after %u s waiting for %s: %llu of %llu MiB are filled, "
		      "%llu of %llu MiB released, %llu userfaultfds open",
		      (unsigned)(LIMIT_NS / 1000000000), what ? what : "fills to end",
		      (unsigned long long)(c->filled_bytes >> 20),
		      (unsigned long long)(s->len_bytes >> 20),
		      (unsigned long long)(c->stats.released_bytes >> 20),
		      (unsigned long long)(s->len_bytes >> 20) * s->o->nr_guests,
		      (unsigned long long)c->stats.userfaultfds);
}

static bool look_until_quiet(const struct settling *s, struct cli_memory *m, bool *complete,
			     struct cli_counters *c)
{
	const struct timespec look = { .tv_nsec = LOOK_NS };
	uint64_t start_ns = measure_now_ns(), changed_ns = start_ns, now_ns;
	struct cli_counters before;

	if (!cli_counters_read(m, c))
		return false;
	for (;;) {
		now_ns = measure_now_ns();
		*complete = !pending(s, c) && now_ns - changed_ns >= quiet_ns(s, c);
		if (*complete || now_ns - start_ns >= LIMIT_NS)
			return true;
		(void)nanosleep(&look, NULL);
		before = *c;
		if (!cli_counters_read(m, c))
			return false;
		if (has_changed(&before, c))
			changed_ns = measure_now_ns();
	}
}

bool cli_settle(const struct cli_options *o, struct cli_memory *m, uint64_t len_bytes,
		struct cli_settled *out, struct cli_counters *counters)
{
	const struct settling s = { .o = o, .len_bytes = len_bytes };
	struct measure_usage from, to;

	measure_usage_read(&from);
	if (!look_until_quiet(&s, m, &out->complete, counters))
		return false;
	measure_usage_read(&to);
	out->seconds = (double)(to.wall_ns - from.wall_ns) / 1e9;
	out->cpu_ns = to.own_cpu_ns - from.own_cpu_ns;
	if (!out->complete)
		note_given_up(&s, counters);
	return true;
}
