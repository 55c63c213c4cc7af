/* SPDX-License-Identifier: MIT */
/*
 * The state of a run: the memory under test, the threads that touch it, injected trouble.
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
/* The source timeout with chaos host, which stops the process for longer. */
#define STRESS_SOURCE_TIMEOUT_MS UINT64_C(10000)

/*
 * With discards the second half of the memory is cold: threads go there only on the trail of
 * chaos; otherwise no page would be unfilled one second after the beginning.
 */
#define TRAIL_NR 32u

struct stress;

/* What a vCPU is doing to its page. */
enum touch_kind {
	TOUCH_NOTHING,
	TOUCH_READS,
	TOUCH_WRITES
};

/* A touching thread.  With --guest kvm the vCPU maps this struct, and changes it. */
struct toucher {
	struct stress *s;
	uint32_t index;
	pthread_t thread;
	_Atomic pid_t tid;
	struct rng rng;
	struct guard guard;
	_Atomic bool inside;       /* between the gate and the end of a touch */
	_Atomic bool gone;         /* the thread has made its last touch */
	_Atomic uint64_t since_ns; /* when the current touch began; 0: none */
	_Atomic uint64_t page;     /* of the current touch */
	_Atomic uint64_t stampede; /* the last one that it took part in */
	_Atomic uint64_t longest_ns;
	uint64_t limit; /* number of touches to make */
	_Atomic uint64_t nr_touches, nr_verified, nr_declared;
	uint64_t *copy; /* the page that was read */
	/* Of a vCPU, for the host when a signal has ended the touch. */
	_Atomic(enum touch_kind) doing;
	uint64_t begun; /* model_begin_read()'s word */
};

/* Engine-side totals of guests that are gone. */
struct totals {
	uint64_t faults, minor, major, zero, invalid, refaults, resumed, poisoned, failed;
	uint64_t again, in_context;
	uint64_t oldest_ns;   /* age of the oldest fault according to the engine */
	uint64_t unaccounted; /* I4: faults that did not end */
	struct fln_histogram service;
};

/* The cost of crowds that had the guest to themselves. */
struct crowd_counts {
	uint64_t nr, faults, fills, installs;
	uint64_t fills_max, installs_max; /* of one crowd */
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
	/* Set again once the engine has started, whose threads may be logging by then. */
	_Atomic uint64_t begin_ns;
	_Atomic bool stop;    /* the run is over */
	_Atomic bool gate;    /* no touch may begin */
	_Atomic bool alone;   /* except by threads of the crowd */
	_Atomic bool closing; /* the guest is being stopped: touches may end in signals */
	/* When the failing page was discarded, and reads zero from then on; 0: it was not. */
	_Atomic uint64_t dead_given_up_ns;
	pthread_mutex_t gate_lock; /* for threads that sleep at the gate */
	pthread_cond_t gate_changed;
	pthread_mutex_t turn; /* held by the step that closes the gate; taken before the world */
	pthread_rwlock_t
		world; /* write-locked by the step that stops the guest, read-locked by others */
	_Atomic uint64_t hot;      /* convergence: first page, plus 1; 0: no convergence */
	_Atomic uint64_t stampede; /* page, and from bit 40 on a running number; 0: none yet */
	/* Where chaos has recently changed pages: first page << 8 | number of pages. */
	_Atomic uint64_t trail[TRAIL_NR];
	_Atomic uint32_t trail_next;
	struct crowd_counts stampedes, convergences;
	_Atomic uint64_t nr_chaos[CHAOS_NR];
	_Atomic uint64_t nr_wrong; /* calls of complain() */
	_Atomic uint64_t nr_signals;
	_Atomic uint64_t allocated; /* bytes that the engine has allocated */
	struct toucher *touchers;
	size_t touchers_bytes;   /* including their copies */
	struct vcpu_vm *vm;      /* --guest kvm */
	struct vcpu_clock clock; /* the vCPUs' clock */
	struct totals totals;
	FILE *messages;
};

/* With source-errors one page always fails, together with all of its huge page. */
static inline bool stress_is_dead(const struct stress *s, uint64_t page)
{
	if (s->source.dead_page == UINT64_MAX)
		return false;
	return s->opts.huge ? page / HUGE_PAGES == s->source.dead_page / HUGE_PAGES
			    : page == s->source.dead_page;
}

#endif
