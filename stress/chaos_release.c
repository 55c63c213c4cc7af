/* SPDX-License-Identifier: MIT */
/*
 * Memory that leaves its userfaultfds under threads that touch it.
 *
 * What is released is touched on, and judged as all memory is.  Guests release by themselves, or
 * when they are told to here, or not at all, so that the rest of the engine has faults to serve.
 */
#include "stress/chaos_release.h"

#include "stress/complain.h"
#include "stress/stress.h"

#include <errno.h>

enum fln_release chaos_release_option(struct stress *s)
{
	static uint64_t nr_guests;
	uint64_t dice;

	if (!has_chaos(&s->opts, CHAOS_RELEASE))
		return FLN_RELEASE_DEFAULT;
	dice = mix(s->opts.seed ^ mix(0x2e1ea5e + nr_guests++)) % 4;
	/* Not the first: in a run without restarts it is the only one. */
	if (dice == 0 && nr_guests > 1)
		return FLN_RELEASE_NEVER;
	return dice == 1 ? FLN_RELEASE_AUTO : FLN_RELEASE_ON_CALL;
}

static uint64_t served_bytes(const struct layout *l)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; i < l->nr_segments; i++)
		nr += l->segments[i].gap ? 0 : l->segments[i].nr;
	return nr * PAGE_BYTES;
}

/* All blocks of the guest are in the report once; other kinds add and remove regions meanwhile. */
bool chaos_release(struct stress *s, struct rng *rng)
{
	struct fln_release_report r = FLN_RELEASE_REPORT_INIT;
	uint64_t sum, due = served_bytes(&s->layout);
	int rc;

	(void)rng;
	rc = fln_guest_release(s->guest, &r);
	if (rc == -ESHUTDOWN)
		return false;
	if (rc) {
		complain(s, "releasing the guest: %s", fln_last_error());
		return false;
	}
	sum = r.released_bytes + r.unfilled_bytes + r.failed_bytes + r.kept_bytes +
	      r.limited_bytes + r.busy_bytes;
	if (sum < due)
		complain(s, "a release has looked at %llu bytes of %llu", (unsigned long long)sum,
			 (unsigned long long)due);
	return r.released_bytes > 0;
}
