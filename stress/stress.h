/* SPDX-License-Identifier: MIT */
/*
 * The run: memory under test, the threads that touch it, what goes wrong meanwhile.
 */
#ifndef STRESS_STRESS_H
#define STRESS_STRESS_H

#include "stress/clock.h"
#include "stress/contents.h"
#include "stress/guard.h"
#include "stress/layout.h"
#include "stress/model.h"
#include "stress/options.h"
#include "stress/source.h"
#include "vcpu/vcpu.h"

#include <faultlane/faultlane.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#define HUGE_BYTES (UINT64_C(2) << 20)
#define HUGE_PAGES (HUGE_BYTES / PAGE_BYTES)
/* How long a read of the source may take where the process is stopped for longer. */
#define STRESS_SOURCE_TIMEOUT_MS UINT64_C(10000)

/*
 * With discards the second half of the memory is cold: threads go there only on the trail
 * of chaos, else nothing would be unfilled a second after the beginning.
 */
#define TRAIL_NR 32u

struct stress;

/* What a vCPU does to its page just now. */
enum touch_kind {
	TOUCH_NOTHING,
	TOUCH_READS,
	TOUCH_WRITES
};

/* With --guest kvm the vCPU has it mapped, and changes it. */
struct toucher {
	struct stress *s;
	uint32_t index;
	pthread_t thread;
	_Atomic pid_t tid;
	struct rng rng;
	struct guard guard;
	_Atomic bool inside;       /* between the gate and the end of a touch */
	_Atomic bool gone;         /* it touches no more */
	_Atomic uint64_t since_ns; /* when the touch began that is under way; 0: none */
	_Atomic uint64_t page;     /* of that touch */
	_Atomic uint64_t stampede; /* the last that it took part in */
	_Atomic uint64_t longest_ns;
	uint64_t limit; /* of touches */
	_Atomic uint64_t nr_touches, nr_verified, nr_declared;
	uint64_t *copy; /* of a page */
	/* Of a vCPU, for the host that finds the touch ended by a signal. */
	_Atomic(enum touch_kind) doing;
	uint64_t begun; /* model_begin_read()'s word */
};

/* Engine-side totals of guests that are gone. */
struct totals {
	uint64_t faults, minor, major, zero, invalid, refaults, resumed, poisoned, failed;
	uint64_t again, in_context;
	uint64_t oldest_ns;   /* the oldest fault now, as the engine sees it */
	uint64_t unaccounted; /* I4: faults that did not end */
	struct fln_histogram service;
};

/* What crowds cost that had the guest to themselves. */
struct crowd_counts {
	uint64_t nr, faults, fills, installs;
	uint64_t fills_max, installs_max; /* of one */
};

struct stress {
	struct options opts;
	struct stress_source source;
	struct model model;
	struct fln_engine *engine;
	struct layout layout;
	struct fln_guest *guest;
	_Atomic(char *) base;
	uint64_t nr_pages;
	uint64_t begin_ns;
	_Atomic bool stop;    /* the run is over */
	_Atomic bool gate;    /* no touch may begin */
	_Atomic bool alone;   /* but of those that belong to the crowd */
	_Atomic bool closing; /* the guest is being stopped: touches may end in signals */
	/* When the page that fails was given up, and reads zero from then on; 0: it was not. */
	_Atomic uint64_t dead_given_up_ns;
	pthread_mutex_t gate_lock; /* of the threads that sleep at the gate */
	pthread_cond_t gate_changed;
	pthread_mutex_t turn; /* of the thread that closes the gate; taken before the world */
	_Atomic uint64_t turn_since_ns; /* when somebody got it the last time */
	pthread_rwlock_t
		world; /* written by the thread that takes guests down, read by other chaos */
	_Atomic uint64_t hot;      /* convergence: first page, plus 1; 0: everywhere */
	_Atomic uint64_t stampede; /* page, and above bit 40 a running number; 0: none yet */
	/* Where something has happened lately: first page << 8 | how many. */
	_Atomic uint64_t trail[TRAIL_NR];
	_Atomic uint32_t trail_next;
	struct crowd_counts stampedes, convergences;
	_Atomic uint64_t nr_chaos[CHAOS_NR];
	_Atomic uint64_t nr_wrong; /* all that complain() was told */
	_Atomic uint64_t nr_signals;
	_Atomic uint64_t allocated; /* bytes that the engine has of us */
	struct toucher *touchers;
	size_t touchers_bytes;   /* with their copies */
	struct vcpu_vm *vm;      /* --guest kvm */
	struct vcpu_clock clock; /* what vCPUs tell the time by */
	struct totals totals;
	FILE *messages;
};

/* It fails for ever: with source-errors one page, and all that is one huge page with it. */
static inline bool stress_is_dead(const struct stress *s, uint64_t page)
{
	if (s->source.dead_page == UINT64_MAX)
		return false;
	return s->opts.huge ? page / HUGE_PAGES == s->source.dead_page / HUGE_PAGES
			    : page == s->source.dead_page;
}

#endif
