/* SPDX-License-Identifier: MIT */
/* Selects the planted bug (see plant.h). */
#include "base/plant.h"
#include "base/clock.h"

#ifdef FLN_PLANTS
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[FLN_BUG_NR] = {
	[FLN_BUG_NONE] = "none",
	[FLN_BUG_WAKE_LEFT_OUT] = "wake-left-out",
	[FLN_BUG_NEIGHBOUR] = "neighbour",
	[FLN_BUG_ZEROS_FOR_FAILED] = "zeros-for-failed",
	[FLN_BUG_DISCARD_REFILLED] = "discard-refilled",
	[FLN_BUG_LEFT_CLAIMED] = "left-claimed",
	[FLN_BUG_COUNTED_TWICE] = "counted-twice",
	[FLN_BUG_WAKE_ONLY] = "wake-only",
	[FLN_BUG_CONTINUE_UNFILLED] = "continue-unfilled",
	[FLN_BUG_POISON_OVERWRITTEN] = "poison-overwritten",
	[FLN_BUG_NO_GRACE_PERIOD] = "no-grace-period",
	[FLN_BUG_MMIO_ANSWERED] = "mmio-answered",
	[FLN_BUG_JOB_KEEPS_ERROR] = "job-keeps-error",
	[FLN_BUG_PRESENT_BELIEVED] = "present-believed",
	[FLN_BUG_STRAY_LEFT] = "stray-left",
	[FLN_BUG_END_BY_POISON] = "end-by-poison",
	[FLN_BUG_FOREIGN_BELIEVED] = "foreign-believed",
	[FLN_BUG_END_BY_ZERO_PAGE] = "end-by-zero-page",
	[FLN_BUG_POISON_STAYS] = "poison-stays",
	[FLN_BUG_POISON_FORGOTTEN] = "poison-forgotten",
	[FLN_BUG_POISON_UNMARKED] = "poison-unmarked",
	[FLN_BUG_GIVEN_UP_AS_FILLED] = "given-up-as-filled",
	[FLN_BUG_LOW_DESCRIPTORS] = "low-descriptors",
	[FLN_BUG_TOUCHED_EARLY] = "touched-early",
	[FLN_BUG_HOLE_OVER_OLD] = "hole-over-old-bytes",
	[FLN_BUG_LATER_OF_ANOTHER] = "later-of-another-region",
	[FLN_BUG_NO_SHARE] = "no-share",
	[FLN_BUG_STOPPED_COUNTS] = "stopped-counts",
	[FLN_BUG_DISCARD_WAITS] = "discard-waits",
	[FLN_BUG_EEXIST_SERVED] = "eexist-served",
	[FLN_BUG_HELD_NO_SHARE] = "held-no-share",
	[FLN_BUG_STRAY_ONCE] = "stray-once",
	[FLN_BUG_ZEROS_AS_COUNTED] = "zeros-as-counted",
	[FLN_BUG_END_OVER_OLD] = "end-over-old-bytes",
	[FLN_BUG_WRITERS_DENIED] = "writers-denied",
	[FLN_BUG_EVENTS_NO_SHARE] = "events-no-share",
	[FLN_BUG_UNMAPS_TWICE] = "unmaps-twice",
	[FLN_BUG_RELEASED_UNFILLED] = "released-unfilled",
	[FLN_BUG_RELEASED_POISONED] = "released-poisoned",
	[FLN_BUG_RELEASED_UNWOKEN] = "released-unwoken",
	[FLN_BUG_RELEASED_EARLY] = "released-early",
	[FLN_BUG_RELEASED_DENIED] = "released-denied",
	[FLN_BUG_RELEASED_HALF] = "released-half",
	[FLN_BUG_LET_GO_EARLY] = "let-go-early",
	[FLN_BUG_HOLE_IN_FOLIO] = "hole-in-folio",
	[FLN_BUG_FOLIO_OVER_OLD] = "folio-over-old-bytes",
	[FLN_BUG_ZERO_HOLE_LEFT] = "zero-hole-left",
};

static enum fln_bug chosen;

/* Runs before main(), so that no thread reads `chosen` while it is written. */
__attribute__((constructor)) static void choose(void)
{
	const char *name = getenv("FAULTLANE_PLANT");

	if (!name)
		return;
	for (unsigned i = 0; i < FLN_BUG_NR; i++) {
		if (strcmp(name, names[i]) == 0) {
			chosen = (enum fln_bug)i;
			return;
		}
	}
	(void)fprintf(stderr, "FAULTLANE_PLANT=%s is no planted bug; choose one of:", name);
	for (unsigned i = 0; i < FLN_BUG_NR; i++)
		(void)fprintf(stderr, " %s", names[i]);
	(void)fputc('\n', stderr);
	exit(2);
}

bool fln_planted(enum fln_bug bug)
{
	return chosen == bug;
}

bool fln_planted_in(enum fln_bug bug, unsigned n)
{
	static _Atomic unsigned nr;

	return chosen == bug && atomic_fetch_add_explicit(&nr, 1, memory_order_relaxed) % n == 0;
}

void fln_plant_preempt(enum fln_bug bug, unsigned n)
{
	if (fln_planted_in(bug, n))
		fln_sleep_ns(2 * FLN_NS_PER_MS);
}
#endif
