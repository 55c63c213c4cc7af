/* SPDX-License-Identifier: MIT */
/*
 * struct fln_engine, and the state of its guard and ender.
 */
#ifndef FLN_ENGINE_STATE_ENGINE_H
#define FLN_ENGINE_STATE_ENGINE_H

#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "engine/event_queue.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "engine/vacant.h"
#include "sources/filler.h"

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_memory_ops;
struct fln_plan;
struct fln_topology;
struct fln_worker;

/* Counters of one node, from the shards of destroyed guests. */
struct fln_node_counts {
	uint64_t faults, pages_installed, remote;
};

struct fln_guard {
	struct fln_thread thread;
	struct fln_lock lock; /* FLN_RANK_LEAF */
	pthread_cond_t wake;
	bool called, stopping; /* guarded by lock */
	struct fln_log_limit fault_limit, worker_limit;
};

struct fln_ender {
	struct fln_thread thread;
	struct fln_lock lock; /* FLN_RANK_LEAF */
	pthread_cond_t wake;
	bool runs;             /* the thread exists; used by the guard, then fln_ender_stop() */
	bool called, stopping; /* these and the following are guarded by lock */
	bool takes;            /* accepts guests: the engine is running and not stopping */
	struct fln_guest *leaving, **last_leaving;
};

struct fln_engine {
	struct fln_engine_opts opts; /* defaults filled in */
	struct fln_allocator alloc;
	struct fln_log log;
	struct fln_thread_hooks hooks; /* opts.thread_hooks points here, or is NULL */
	struct fln_topology *topology;
	struct fln_plan *plan;
	_Atomic uint64_t features;   /* UFFD_FEATURE_* available here; 0: not permitted so far */
	struct fln_uffd asking;      /* finds ranges that are registered; guarded by asking_lock */
	struct fln_lock asking_lock; /* FLN_RANK_LEAF */
	struct fln_vacant vacant;
	struct fln_event_queue events;
	struct fln_filler filler;
	struct fln_guard guard;
	struct fln_ender ender;
	uint64_t close_patience_ns;          /* 0: the default; see closing.c */
	const struct fln_memory_ops *memory; /* NULL: the kernel's; see deny.h */
	struct fln_worker *workers;
	struct fln_lock lock;             /* FLN_RANK_ENGINE */
	struct fln_turn turn;             /* serialises start and stop */
	pthread_cond_t unpinned;          /* broadcast when a guest is unpinned */
	struct fln_guest *guests;         /* newest first; this and the following guarded by lock */
	struct fln_node_counts *departed; /* counters of destroyed guests, by node */
	uint32_t nr_images;
	uint64_t nr_guests_made;
	bool running, stopping;
	_Atomic uint64_t nr_stripes;   /* the used part of opts.max_stripes */
	_Atomic uint32_t next_worker;  /* gets the next guest's first shard */
	_Atomic uint32_t nr_job_looks; /* of some guest that has jobs: jobs.nr_looks has grown */
	_Atomic bool said_unpinned, said_nice, said_unbound;
};

#endif
