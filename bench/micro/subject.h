/* SPDX-License-Identifier: MIT */
/*
 * What the micro benchmarks measure: the library's internals and the kernel's calls,
 * behind plain functions, because internal headers are C11 and Google Benchmark is C++.
 *
 * Functions that return nanoseconds time only what their name says, and set up outside.
 * NAN: it could not be measured; micro_error() says why.
 */
#ifndef BENCH_MICRO_SUBJECT_H
#define BENCH_MICRO_SUBJECT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A sentence of this thread. */
const char *micro_error(void);

/* CPU time of the whole process, user and system. */
double micro_cpu_ns(void);

/* Pin the calling thread to @cpu; -1: to where it may run at first. */
bool micro_pin(int cpu);
int micro_nr_cpus(void);

/* map.c: a region's page-state map, and what else is looked up for a fault. */
struct micro_map;
struct micro_map *micro_map_new(void);
void micro_map_free(struct micro_map *m);
/* The state of a page, under RCU. */
uint32_t micro_map_lookup(struct micro_map *m, uint64_t page);
/* Claim a window, settle it as PRESENT, forget it. */
uint32_t micro_map_window(struct micro_map *m, uint32_t nr_pages);
/* A block from its first chunk to wholly PRESENT, and its chunk given back. */
bool micro_map_whole(struct micro_map *m, uint64_t nth);
/* The shard of an address in a plan of @nr_shards. */
struct micro_plan;
struct micro_plan *micro_plan_new(uint32_t nr_shards);
void micro_plan_free(struct micro_plan *p);
uint32_t micro_plan_shard(const struct micro_plan *p, uint64_t nth);
/* Sort a batch of @nr faults that came in random order (or already sorted). */
struct micro_batch;
struct micro_batch *micro_batch_new(uint32_t nr, bool sorted);
void micro_batch_free(struct micro_batch *b);
void micro_batch_sort(struct micro_batch *b);
/* Histograms. */
struct micro_histogram;
struct micro_histogram *micro_histogram_new(void);
void micro_histogram_free(struct micro_histogram *h);
void micro_histogram_record(struct micro_histogram *h, uint64_t ns);
void micro_histogram_record_shared(struct micro_histogram *h, uint64_t ns);
void micro_histogram_merge(struct micro_histogram *h);
uint64_t micro_clock(void);
void micro_atomic(void);

/* uffd.c: one userfaultfd on which @nr_blocked threads are blocked, and its calls. */
struct micro_uffd;
struct micro_uffd *micro_uffd_new(uint32_t nr_blocked);
void micro_uffd_free(struct micro_uffd *u);
/* One CONTINUE of @nr_pages that are not mapped and for which nobody waits. */
double micro_uffd_continue_ns(struct micro_uffd *u, uint32_t nr_pages, bool wake);
/* A wake for which nobody waits. */
double micro_uffd_wake_ns(struct micro_uffd *u);
/* One read() that takes the messages of all threads that are blocked, per message. */
double micro_uffd_read_ns(struct micro_uffd *u);
/* A page of the same file, mapped without userfaultfd, written for the first time. */
double micro_uffd_kernel_fault_ns(struct micro_uffd *u);
/* A first touch when all is mapped: what the touch alone costs. */
double micro_uffd_touch_ns(struct micro_uffd *u);

/* queued.c: a thread that faults and one that serves, step by step. */
struct micro_steps {
	double touch_ns;   /* the whole */
	double to_read_ns; /* from the touch to the handler's having read it */
	double serve_ns;   /* CONTINUE of one page, and its wake */
	double resume_ns;  /* until the thread goes on */
};
struct micro_queued;
struct micro_queued *micro_queued_new(int touch_cpu, int serve_cpu);
void micro_queued_free(struct micro_queued *q);
bool micro_queued_fault(struct micro_queued *q, struct micro_steps *out);

/* wake.c: threads that wake each other, and signals. */
struct micro_pair;
/* @spin: they poll a shared line instead of sleeping. */
struct micro_pair *micro_pair_new(int cpu, int other_cpu, bool spin);
void micro_pair_free(struct micro_pair *p);
/* There and back. */
void micro_pair_round(struct micro_pair *p);
/* The waker's part: FUTEX_WAKE of a thread that sleeps. */
double micro_pair_wake_ns(struct micro_pair *p);
/* A signal that the thread itself raises by an instruction, and its handler's return. */
bool micro_trap_prepare(void);
void micro_trap(void);
void micro_syscall(void);

/* context.c: a whole engine, and touches that are resolved in their own context. */
struct micro_context;
struct micro_context *micro_context_new(uint32_t window_pages, bool in_context);
void micro_context_free(struct micro_context *c);
/* The next touch that faults. */
double micro_context_touch_ns(struct micro_context *c);

#ifdef __cplusplus
}
#endif

#endif
