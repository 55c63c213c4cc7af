/* SPDX-License-Identifier: MIT */
/*
 * Bugs planted on purpose, to see that the stress program finds them.
 *
 * Only in faultlane-stress-planted (tests/stress/CMakeLists.txt), for which the files
 * that include this header are compiled once more, with FLN_PLANTS; the environment
 * variable FAULTLANE_PLANT chooses one.  Everywhere else fln_planted() is false.
 */
#ifndef FLN_BASE_PLANT_H
#define FLN_BASE_PLANT_H

#include <stdbool.h>

enum fln_bug {
	FLN_BUG_NONE,
	FLN_BUG_WAKE_LEFT_OUT,      /* one install in 64 wakes nobody */
	FLN_BUG_NEIGHBOUR,          /* one fill in 16 reads the page after the right one */
	FLN_BUG_ZEROS_FOR_FAILED,   /* what cannot be read is zero */
	FLN_BUG_DISCARD_REFILLED,   /* what was given up is read from the source later */
	FLN_BUG_LEFT_CLAIMED,       /* one claim in 256 never ends */
	FLN_BUG_COUNTED_TWICE,      /* one fault in 256 ends twice */
	FLN_BUG_WAKE_ONLY,          /* what the map calls present is woken, not installed */
	FLN_BUG_CONTINUE_UNFILLED,  /* what the cache has is taken for filled */
	FLN_BUG_POISON_OVERWRITTEN, /* windows and faults go over poisoned pages */
	FLN_BUG_NO_GRACE_PERIOD,    /* a directory is freed while it may be read */
	FLN_BUG_MMIO_ANSWERED,      /* a monitor answers for memory that has failed: zeros */
	FLN_BUG_JOB_KEEPS_ERROR,    /* a page's error keeps a job from ending with its region */
	FLN_BUG_PRESENT_BELIEVED,   /* populate believes what the map calls present */
	FLN_BUG_STRAY_LEFT,         /* what mremap() and fork() take along is left as it is */
	FLN_BUG_END_BY_POISON,      /* at the end what is not filled is poisoned, no more */
	FLN_BUG_FOREIGN_BELIEVED,   /* at the end the map of a foreign region is believed */
	FLN_BUG_END_BY_ZERO_PAGE,   /* at the end what a clone gave up is the kernel's zero page */
	FLN_BUG_POISON_STAYS,       /* what is given up after it has failed stays poisoned */
	FLN_BUG_POISON_FORGOTTEN,   /* populate forgets poison before it maps zeros over it */
	FLN_BUG_POISON_UNMARKED, /* the map forgets poison that is given up where the image is due */
	FLN_BUG_GIVEN_UP_AS_FILLED, /* what was given up last in its block counts as filled */
	FLN_BUG_LATER_OF_ANOTHER,   /* what is left for later of a block is one region's */
	FLN_BUG_LOW_DESCRIPTORS,    /* descriptors take the numbers of closed standard streams */
	FLN_BUG_TOUCHED_EARLY,      /* mappings can be touched before they are registered */
	FLN_BUG_HOLE_OVER_OLD,      /* holes are called zero over what an adopted memfd had */
	FLN_BUG_NO_SHARE,           /* fills and filler threads go to the first that asks */
	FLN_BUG_STOPPED_COUNTS,     /* time in which the process was stopped is the source's */
	FLN_BUG_DISCARD_WAITS,      /* what is given up while it is read waits for its source */
	FLN_BUG_EEXIST_SERVED,      /* what is there is woken, whatever its fault was for */
	FLN_BUG_HELD_NO_SHARE,      /* one guest may have all of a worker's held faults */
	FLN_BUG_STRAY_ONCE,         /* what cannot be made unreadable just now is given up */
	FLN_BUG_ZEROS_AS_COUNTED,   /* at the end no more zeros are mapped than were counted */
	FLN_BUG_END_OVER_OLD,       /* at the end copies lie over what an adopted memfd had */
	FLN_BUG_WRITERS_DENIED,     /* at the end a thread that writes among zeros gets a signal */
	FLN_BUG_EVENTS_NO_SHARE,    /* one guest's poisoned pages may fill the queue of events */
	FLN_BUG_UNMAPS_TWICE, /* a region that goes unmaps what others have mapped there since */
	FLN_BUG_NR
};

#ifdef FLN_PLANTS
bool fln_planted(enum fln_bug bug);
/* The same, once in @n calls. */
bool fln_planted_in(enum fln_bug bug, unsigned n);
/* Once in @n calls the thread is off its processor for a while, as any thread may be. */
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
