/* SPDX-License-Identifier: MIT */
/*
 * The subjects of the micro benchmarks: the library's internals and the kernel's calls,
 * behind plain functions, because internal headers are C11 and Google Benchmark is C++.
 *
 * Functions that return nanoseconds time only what their name says, without set-up.
 * NAN: the measurement failed, and micro_error() returns the reason.
 */
#ifndef BENCH_MICRO_SUBJECT_H
#define BENCH_MICRO_SUBJECT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The error message of this thread's last failed call. */
const char *micro_error(void);

/* CPU time of the whole process, user and system. */
double micro_cpu_ns(void);

/* Pin the calling thread to the @cpu-th permitted processor; -1: restore its first affinity. */
bool micro_pin(int cpu);
int micro_nr_cpus(void);

/* map.c: a region's page-state map, stripe plans, fault batches, histograms. */
struct micro_map;
struct micro_map *micro_map_new(void);
void micro_map_free(struct micro_map *m);
/* Look up the state of a page, under RCU. */
uint32_t micro_map_lookup(struct micro_map *m, uint64_t page);
/* Claim a window, settle it as PRESENT, then make it ABSENT again. */
uint32_t micro_map_window(struct micro_map *m, uint32_t nr_pages);
/* Take a block from a new chunk to uniformly PRESENT, and return the chunk. */
bool micro_map_whole(struct micro_map *m, uint64_t nth);
/* Look up the shard of an address in a plan of @nr_shards. */
struct micro_plan;
struct micro_plan *micro_plan_new(uint32_t nr_shards);
void micro_plan_free(struct micro_plan *p);
uint32_t micro_plan_shard(const struct micro_plan *p, uint64_t nth);
/* Sort a batch of @nr faults that arrived in random order (or @sorted). */
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

/* uffd.c: calls on a userfaultfd on which @nr_blocked threads are blocked. */
struct micro_uffd;
struct micro_uffd *micro_uffd_new(uint32_t nr_blocked);
void micro_uffd_free(struct micro_uffd *u);
/* One CONTINUE of @nr_pages that are not mapped and have no waiters. */
double micro_uffd_continue_ns(struct micro_uffd *u, uint32_t nr_pages, bool wake);
/* A WAKE without waiters. */
double micro_uffd_wake_ns(struct micro_uffd *u);
/* read() of the messages of all blocked threads, per message. */
double micro_uffd_read_ns(struct micro_uffd *u);
/* The first write to a page of the same file, mapped without userfaultfd. */
double micro_uffd_kernel_fault_ns(struct micro_uffd *u);
/* The first touch of a page that is mapped already. */
double micro_uffd_touch_ns(struct micro_uffd *u);

/* queued.c: one fault between a toucher and a server thread, step by step. */
struct micro_steps {
	double touch_ns;   /* the whole touch */
	double to_read_ns; /* from the touch until the server has read the message */
	double serve_ns;   /* CONTINUE of one page, including the wake */
	double resume_ns;  /* the rest, until the toucher runs again; may be negative */
};
struct micro_queued;
struct micro_queued *micro_queued_new(int touch_cpu, int serve_cpu);
void micro_queued_free(struct micro_queued *q);
bool micro_queued_fault(struct micro_queued *q, struct micro_steps *out);

/* wake.c: two threads that wake each other, and signals. */
struct micro_pair;
/* @spin: poll a shared cache line instead of sleeping. */
struct micro_pair *micro_pair_new(int cpu, int other_cpu, bool spin);
void micro_pair_free(struct micro_pair *p);
/* One round trip. */
void micro_pair_round(struct micro_pair *p);
/* The cost to the waker: FUTEX_WAKE of a sleeping thread. */
double micro_pair_wake_ns(struct micro_pair *p);
/* A signal raised by an instruction of the thread, and the return from its handler. */
bool micro_trap_prepare(void);
void micro_trap(void);
void micro_syscall(void);

/* context.c: a whole engine; touches resolved in context or by its workers. */
struct micro_context;
struct micro_context *micro_context_new(uint32_t window_pages, bool in_context);
void micro_context_free(struct micro_context *c);
/* The next touch that faults. */
double micro_context_touch_ns(struct micro_context *c);

#ifdef __cplusplus
}
#endif

#endif
