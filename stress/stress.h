/* SPDX-License-Identifier: MIT */
/*
 * The run: memory under test, the threads that touch it, what goes wrong meanwhile.
 */
#ifndef STRESS_STRESS_H
#define STRESS_STRESS_H

#include "stress/clock.h"
#include "stress/contents.h"
#include "stress/layout.h"
#include "stress/model.h"
#include "stress/options.h"
#include "stress/source.h"
#include "vcpu/vcpu.h"

#include <faultlane/faultlane.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
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

/* Where a thread can be brought back to from a signal. */
struct guard {
	sigjmp_buf jump;
	volatile sig_atomic_t armed;
};

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
	_Atomic bool stop;         /* the run is over */
	_Atomic bool gate;         /* no touch may begin */
	_Atomic bool alone;        /* but of those who belong to the crowd */
	_Atomic bool closing;      /* the guest is being stopped: touches may end in signals */
	pthread_mutex_t gate_lock; /* of who sleeps at the gate */
	pthread_cond_t gate_changed;
	pthread_mutex_t turn;           /* of who closes the gate; taken before the world */
	_Atomic uint64_t turn_since_ns; /* when somebody got it the last time */
	pthread_rwlock_t world;         /* written by who takes guests down, read by other chaos */
	_Atomic uint64_t hot;           /* convergence: first page, plus 1; 0: everywhere */
	_Atomic uint64_t stampede;      /* page, and above bit 40 a running number; 0: none yet */
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

/* It cannot be had: with source-errors one page, and all that is one huge page with it. */
static inline bool stress_is_dead(const struct stress *s, uint64_t page)
{
	if (s->source.dead_page == UINT64_MAX)
		return false;
	return s->opts.huge ? page / HUGE_PAGES == s->source.dead_page / HUGE_PAGES
			    : page == s->source.dead_page;
}

/* memory.c */
int memory_create(struct stress *s);
/* Return: 0; -1 when something was left behind or unaccounted for (it has been said). */
int memory_destroy(struct stress *s);
/*
 * Stop the guest with faults in flight, and begin anew; with @engine_too the engine
 * also, with @new_image from an image of which nothing is filled.
 */
int memory_restart(struct stress *s, bool engine_too, bool new_image);
/* What a region of ours is like: the kinds of sharing and delivery. */
void memory_region_opts(const struct stress *s, struct fln_region_opts *o);
void memory_take_stats(struct stress *s, struct totals *t);
/* More faults have ended than begun?  At any time while the guest is there. */
void memory_check_ended(struct stress *s);
/* Nobody is inside a touch: all faults have ended by themselves, each counted once (I4). */
void memory_check_settled(struct stress *s);

/* images.c */
/* Reserve the place.  Return: 0 or a negative errno. */
int images_init(struct stress *s);
void images_deinit(struct stress *s);
/* Draw a layout, and make its images.  Return: 0 or a negative errno. */
int images_create(struct stress *s);
int images_destroy(struct stress *s);
/* Map and add the regions of the guest. */
int images_add_regions(struct stress *s);
/* The guest has been destroyed: nothing of it is left mapped, and the place stays ours. */
void images_unmap(struct stress *s);
/* The image of a segment. */
struct fln_image *memory_image(struct stress *s, const struct segment *g);

/* gate.c */
void gate_init(struct stress *s);
/* Open and close the gate: after closing and waiting nobody is inside a touch. */
void gate_close_begin(struct stress *s);
void gate_wait_outside(struct stress *s);
void gate_open(struct stress *s);
/* Those of a crowd pass, or no more. */
void gate_let_crowd(struct stress *s, bool in);
/* Sleep while @t may not pass, and until the run is over. */
void gate_wait(struct toucher *t);
/* Only who has its turn closes the gate. */
void turn_take(struct stress *s);
void turn_give(struct stress *s);

/* toucher.c */
int touchers_alloc(struct stress *s);
void touchers_free(struct stress *s);
int touchers_start(struct stress *s);
void touchers_join(struct stress *s);
int guard_install(struct stress *s);
/* The guard of this thread; NULL: none. */
void guard_set(struct guard *g);
/* Copy the page at @at.  Return: 0, or the signal that it ended in.  In look.c */
int guard_copy(struct guard *g, const char *at, uint64_t *copy);

/* A touch ended in a signal: complains unless that was what was declared. */
void touch_after_signal(struct toucher *t, uint64_t page, int signo);
/* The page that is in t->copy is not what was due. */
void touch_describe_wrong(struct toucher *t, uint64_t page);

/* vcpus.c: with --guest kvm the threads run vCPUs, which touch. */
int vcpus_create(struct stress *s);
void vcpus_destroy(struct stress *s);
/* The guest's memory is there now, is about to go: the slot follows. */
int vcpus_map_memory(struct stress *s);
int vcpus_unmap_memory(struct stress *s);
void *vcpu_toucher_main(void *toucher);
/* The time by which touchers say since when they wait. */
uint64_t touch_now_ns(const struct stress *s);

/* chaos.c */
/* Before anything runs: leaves out, and says so, what this machine cannot do. */
void chaos_prepare(struct stress *s);
int chaos_start(struct stress *s);
/* Who calls gets a processor before those that touch, where that is permitted. */
void go_before_touchers(void);
void chaos_stop(void);
/*
 * What this thread's step does from now on, for who watches: it has its time anew.
 * NULL: just what it is named after.  Nothing where this is no thread of chaos.
 */
void chaos_stage(const char *stage);
#define CHAOS_WAITS_OTHERS "waits for the steps of other kinds to end"
extern const char chaos_waits_turn[];
/* Of the steps under way the one that is longest in its stage: for how many seconds. */
double chaos_oldest(const struct stress *s, enum chaos_kind *kind);
/* What is under way, a line each. */
void chaos_say_steps(const struct stress *s);
/* All have taken notice of the end. */
bool chaos_ended(void);

/* Through a mapping that is nobody's guest: the block of its image in which @page lies. */
bool collapse_elsewhere(struct stress *s, uint64_t page);
/* Let threads go there, to see what has become of it. */
void chaos_leave_trail(struct stress *s, uint64_t page, uint32_t nr);
/* Give a page up so that its contents come back, unless others have it. */
void chaos_unmap_page(struct stress *s, uint64_t page);

/* chaos_crowd.c: steps that lock the world themselves */
bool chaos_stampede(struct stress *s, struct rng *rng);
bool chaos_convergence(struct stress *s, struct rng *rng);
bool chaos_pause(struct stress *s, struct rng *rng);
/* All threads on one page at once; the gate is closed, and nobody under way. */
void crowd_stampede(struct stress *s, uint64_t page);

/* chaos_emulated.c: with --guest kvm */
bool chaos_emulated(struct stress *s, struct rng *rng);

/* chaos_regions.c: a step each; false: it was refused, as can be when others misbehave. */
bool chaos_regions(struct stress *s, struct rng *rng);
bool chaos_unmap(struct stress *s, struct rng *rng);
bool chaos_remap(struct stress *s, struct rng *rng);
/* A region once more for a moment, read and verified: however it came about that it is there. */
bool extra_look(struct stress *s, struct rng *rng, uint32_t nr);
/* @words are the image's contents of a page. */
bool page_is_images(const struct stress *s, uint64_t page, const uint64_t *words);

/* look.c: every page after an end, by nobody else */
/* Stopped, and mapped still: for a while, with all that may happen to its page tables. */
void look_at_stopped(struct stress *s);
/* Destroyed, where mappings of our own are left. */
void look_at_destroyed(struct stress *s);

/* chaos_host.c: what the host does to us */
const char *chaos_host_prepare(struct stress *s);
void chaos_host_undo(void);
bool chaos_host(struct stress *s, struct rng *rng);
/* Stop the process for a while, by another process. */
bool chaos_host_freeze(uint64_t ms);

/* chaos_neighbours.c: others of the same engine that hang or misbehave */
const char *chaos_neighbours_prepare(struct stress *s);
bool chaos_neighbours(struct stress *s, struct rng *rng);

/* chaos_limits.c */
bool chaos_descriptors(struct stress *s, struct rng *rng);
bool chaos_mappings(struct stress *s, struct rng *rng);
bool chaos_memory(struct stress *s, struct rng *rng);
bool chaos_stall(struct stress *s, struct rng *rng);
/* What must be arranged before; returns why a kind cannot be had here, or NULL. */
const char *chaos_limits_prepare(struct stress *s, enum chaos_kind kind);
void chaos_limits_undo(struct stress *s);

/* watch.c: nobody waits for ever */
/* The oldest touch that is under way: its age in seconds, and whose it is. */
double watch_oldest_touch(struct stress *s, struct toucher **who);
/* Whether a thread has something to wait for, or waits for a processor: for messages. */
const char *watch_state(pid_t tid);
/* Says what a thread waits for that does so for ever, and ends the program. */
_Noreturn void watch_lost(struct stress *s, struct toucher *t, double age_s);
/* While the run lasts: nothing is lost, no fault ends twice.  Returns the oldest wait. */
double watch_once(struct stress *s);

/* Nothing can be joined any more, or need be. */
_Noreturn void end_at_once(struct stress *s);
/* Something is wrong: say it (the first few), count it; with --until-wrong end. */
void complain(struct stress *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
