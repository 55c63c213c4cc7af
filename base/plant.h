/* SPDX-License-Identifier: MIT */
/*
 * Bugs planted on purpose, to prove that the stress program finds such bugs.
 *
 * They exist only in faultlane-stress-planted and fuzz.serve_planted, for which the files
 * that include this header are compiled again, with FLN_PLANTS.  The environment
 * variable FAULTLANE_PLANT selects one.  Everywhere else fln_planted() is false.
 */
#ifndef FLN_BASE_PLANT_H
#define FLN_BASE_PLANT_H

#include <stdbool.h>

enum fln_bug {
	FLN_BUG_NONE,
	FLN_BUG_WAKE_LEFT_OUT,      /* one install in 64 does not wake the waiters */
	FLN_BUG_NEIGHBOUR,          /* one fill in 16 reads the source one page too far */
	FLN_BUG_ZEROS_FOR_FAILED,   /* pages whose read failed are filled with zeros */
	FLN_BUG_DISCARD_REFILLED,   /* discarded pages are filled from the source later */
	FLN_BUG_LEFT_CLAIMED,       /* one claim in 256 is never released */
	FLN_BUG_COUNTED_TWICE,      /* one fault in 256 is counted twice */
	FLN_BUG_WAKE_ONLY,          /* faults on PRESENT pages are woken, not installed */
	FLN_BUG_CONTINUE_UNFILLED,  /* pages in the page cache count as filled */
	FLN_BUG_POISON_OVERWRITTEN, /* windows and faults install over poisoned pages */
	FLN_BUG_NO_GRACE_PERIOD,    /* a directory is freed while readers may use it */
	FLN_BUG_MMIO_ANSWERED,      /* a monitor answers accesses to failed memory with zeros */
	FLN_BUG_JOB_KEEPS_ERROR,    /* a job with an error does not stop when its region ends */
	FLN_BUG_PRESENT_BELIEVED,   /* populate skips pages PRESENT in the map unchecked */
	FLN_BUG_STRAY_LEFT,         /* memory that mremap() or fork() duplicates stays readable */
	FLN_BUG_END_BY_POISON,      /* region end only poisons unfilled pages */
	FLN_BUG_FOREIGN_BELIEVED,   /* region end trusts a foreign region's map */
	FLN_BUG_END_BY_ZERO_PAGE,   /* region end maps no zeros where a clone discarded pages */
	FLN_BUG_POISON_STAYS,       /* failed pages stay poisoned after a discard */
	FLN_BUG_POISON_FORGOTTEN,   /* populate clears POISONED before it maps zeros */
	FLN_BUG_POISON_UNMARKED,    /* the map forgets poison that a discard leaves */
	FLN_BUG_GIVEN_UP_AS_FILLED, /* a discard is forgotten when its block becomes uniform */
	FLN_BUG_LATER_OF_ANOTHER,   /* deferred work of a block is mixed between regions */
	FLN_BUG_LOW_DESCRIPTORS,    /* descriptors may get the numbers 0 to 2 */
	FLN_BUG_TOUCHED_EARLY,      /* mappings are accessible before they are registered */
	FLN_BUG_HOLE_OVER_OLD,      /* holes keep an adopted memfd's old contents */
	FLN_BUG_NO_SHARE,           /* one image may take all fills and filler threads */
	FLN_BUG_STOPPED_COUNTS,     /* timeouts count time in which the process was stopped */
	FLN_BUG_DISCARD_WAITS,      /* a discard during a read waits for the source */
	FLN_BUG_EEXIST_SERVED,      /* EEXIST counts as served, whatever the fault's kind */
	FLN_BUG_HELD_NO_SHARE,      /* one guest may take all of a worker's held faults */
	FLN_BUG_STRAY_ONCE,         /* making a stray mapping inaccessible is tried only once */
	FLN_BUG_ZEROS_AS_COUNTED,   /* region end maps only as many runs of zeros as counted */
	FLN_BUG_END_OVER_OLD,       /* region end leaves an adopted memfd's old contents */
	FLN_BUG_WRITERS_DENIED,     /* region end signals threads that write to zero pages */
	FLN_BUG_EVENTS_NO_SHARE,    /* one guest's events may fill the event queue */
	FLN_BUG_UNMAPS_TWICE,       /* removing a region unmaps newer mappings of others */
	FLN_BUG_RELEASED_UNFILLED,  /* a block is released while some of its pages are unfilled */
	FLN_BUG_RELEASED_POISONED,  /* a block is released with a poisoned page */
	FLN_BUG_RELEASED_UNWOKEN,   /* waiters of a block that counts as released are not woken */
	FLN_BUG_RELEASED_EARLY,     /* a block counts as released before it is unregistered */
	FLN_BUG_RELEASED_DENIED,    /* region end takes released memory for its own */
	FLN_BUG_RELEASED_HALF,      /* an UNREGISTER that fails half way counts as not begun */
	FLN_BUG_LET_GO_EARLY,       /* a foreign guest is let go while regions are to come */
	FLN_BUG_HOLE_IN_FOLIO,      /* unfilled pages of large folios count as filled */
	FLN_BUG_FOLIO_OVER_OLD,     /* large folios keep an adopted memfd's old contents */
	FLN_BUG_ZERO_HOLE_LEFT,     /* in context, holes among ZERO pages are not noted */
	FLN_BUG_NR
};

#ifdef FLN_PLANTS
bool fln_planted(enum fln_bug bug);
/* True once in @n calls while @bug is planted. */
bool fln_planted_in(enum fln_bug bug, unsigned n);
/* Sleep 2 ms once in @n calls while @bug is planted, like a preempted thread. */
void fln_plant_preempt(enum fln_bug bug, unsigned n);
#else
static inline bool fln_planted(enum fln_bug bug)
{
	(void)bug;
	return false;
}
static inline bool fln_planted_in(enum fln_bug bug, unsigned n)
{
	(void)bug;
	(void)n;
	return false;
}
static inline void fln_plant_preempt(enum fln_bug bug, unsigned n)
{
	(void)bug;
	(void)n;
}
#endif

#endif
