/* SPDX-License-Identifier: MIT */
/*
 * The state of a worker: the thread that serves the faults of some shards.
 *
 * All memory that it needs on the fault path is allocated when it is created (I5): the messages of
 * one read, the table of held faults.  Other threads reach it in two ways, both through one
 * eventfd: a kick (page states of an image have changed: look at held faults) and a command
 * (attach or detach a shard, for example).  Each group of fields says which thread uses it.
 */
#ifndef FLN_ENGINE_STATE_WORKER_H
#define FLN_ENGINE_STATE_WORKER_H

#include "base/lock.h"
#include "base/log.h"
#include "base/page.h"
#include "base/thread.h"
#include "engine/state/job.h"

#include <faultlane/base.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_cpuset;
struct fln_event_queue;
struct fln_filler;
struct fln_region;
struct fln_shard;
struct fln_thread_hooks;
struct fln_wanted;
struct uffd_msg;

/* The most messages that one read() takes. */
#define FLN_BATCH_LIMIT 256u

/* The next step for an unfilled page, when its fault is served again. */
enum fln_next {
	FLN_NEXT_REQUEST, /* request a fill */
	FLN_NEXT_RETRY,   /* request a fill although the page has failed */
	FLN_NEXT_STARVED, /* the same, after no fill was free */
	FLN_NEXT_ASK,     /* the page has failed: ask the embedder again */
};

/* The kind of a fault, from the kernel's message. */
enum fln_fault_kind {
	FLN_FAULT_MISSING,   /* no page is mapped; in our own regions it may be cached */
	FLN_FAULT_MINOR,     /* foreign: the page is in that process's page cache */
	FLN_FAULT_PROTECTED, /* a write to a write-protected page */
};

/* A fault in a worker, or several on the same page.  All zeros is a valid initial state. */
struct fln_fault {
	uint64_t addr;           /* page-aligned, as the kernel gave it */
	uint64_t t0_ns;          /* when its (first) message was read */
	uint64_t since_ns;       /* when its source timeout began; 0: at t0_ns */
	uint64_t stopped_ns;     /* time since t0_ns in which the process was stopped */
	uint64_t not_before_ns;  /* held: do not retry before */
	uint64_t again_since_ns; /* when retries without result began; 0: there are none */
	uint64_t nr_let_go;      /* image->nr_let_go when the worker became a waiter there */
	uint32_t nr;             /* messages that it stands for */
	uint32_t nr_failures;    /* how often its page has failed */
	uint32_t nr_asked;       /* how often the embedder was asked about it */
	enum fln_next next;
	enum fln_fault_kind kind;
	uint8_t nr_starved; /* pauses so far because the kernel had no memory */
	bool held;          /* it waited for contents: counts as major */
	bool fresh;         /* just read: not yet checked whether it is remote */
	bool reported;      /* the log has said what it waits for */
	bool claimed;       /* retried because another thread is mapping its page */
	bool kept;          /* it was held before; true for all faults of a batch, or none */
};

/* Why a fault is held. */
enum fln_held_reason {
	FLN_HELD_FILL,   /* its page is being filled */
	FLN_HELD_AGAIN,  /* an event is unread, or the page is claimed: retried soon */
	FLN_HELD_PAUSE,  /* its page has failed: retried at fault.not_before_ns */
	FLN_HELD_MEMORY, /* the kernel had no memory: retried at fault.not_before_ns */
	FLN_HELD_REGION, /* foreign: no region is there yet: retried at fault.not_before_ns */
	FLN_HELD_STUCK,  /* its page can be neither mapped nor poisoned: retried now and then */
};

struct fln_held {
	struct fln_fault fault;
	struct fln_shard *shard;
	enum fln_held_reason reason;
};

/*
 * Pages of windows that no thread waits for, in one block of one region (two regions may meet
 * within a block).  Waiting faults go first (I7): these pages are mapped between rounds.  Nothing
 * is claimed for them, and their states are looked up again then.
 */
struct fln_later {
	struct fln_shard *shard;         /* NULL: the slot is free */
	const struct fln_region *region; /* compared only, never dereferenced: it may be gone */
	uint64_t block_addr;
	struct fln_mask pages;
};

/* Blocks that can have such pages at a time; a power of two. */
#define FLN_NR_LATER 1024u

/* A worker's look at all of its blocks for those to release (release.c), in slices. */
struct fln_release_sweep {
	bool active;
	bool asked;           /* without delay: another one after this */
	bool wanted;          /* some block is to be released by itself, once it is filled */
	bool left;            /* some block could not be released for now */
	bool edge;            /* some block may become whole without a kick */
	bool forced;          /* fln_guest_release() has asked for @shard's */
	bool quiet_look;      /* it looks for quiet blocks, FLN_QUIET_NS after the last such one */
	bool restless;        /* some whole block was not quiet: another one */
	uint64_t quiet_at_ns; /* when that may be, at the earliest */
	uint64_t quiet_addr;  /* the block that was last asked about; UINT64_MAX: none */
	bool was_quiet;       /* the answer */
	struct fln_shard *shard; /* whose blocks it looks at; NULL: between two */
	struct fln_shard *next;  /* the one after that */
	uint64_t addr;           /* the next block's */
	uint64_t seen, pass;     /* of @shard's guest, before the look */
	uint64_t busy_ns;        /* what this one has cost */
	uint64_t not_before_ns;  /* when the next one may begin, unless it is asked for */
	uint64_t at_ns;          /* when it begins; UINT64_MAX: not until something changes */
	uint64_t retry_ns;       /* pause before what is left is tried again */
	uint64_t edge_ns;        /* pause before blocks at edges are looked at again */
	uint32_t nr_put_off;     /* rounds, because faults came in */
};

enum fln_command_kind {
	FLN_COMMAND_ATTACH,
	FLN_COMMAND_DETACH,
	FLN_COMMAND_END_JOBS, /* end the jobs of the shard's guest */
	FLN_COMMAND_PASS,     /* does nothing: returns when the worker's present round has ended */
	FLN_COMMAND_STOP,
};

struct fln_command {
	enum fln_command_kind kind;
	struct fln_shard *shard;
	int result;
	bool done; /* guarded by worker->lock */
	struct fln_command *next;
};

struct fln_worker_opts {
	struct fln_allocator alloc;
	struct fln_log log;
	struct fln_event_queue *events;       /* NULL: no events are posted */
	struct fln_filler *filler;            /* fills the images that its shards map */
	const struct fln_thread_hooks *hooks; /* create the thread; NULL: the library does */
	uint32_t index;
	uint32_t batch_max;
	uint32_t held_max;
	uint64_t spin_ns;
	uint64_t source_timeout_ns;
	int64_t pu;                    /* processor to pin it to; -1: see cpus */
	const struct fln_cpuset *cpus; /* processors that it may run on; NULL: any */
	uint32_t node;                 /* the kernel's number of its node */
	uint32_t node_index;           /* the node's index in the topology */
	_Atomic bool *said_unpinned;   /* log it once per engine; NULL: always */
	_Atomic bool *said_nice;       /* the same */
	int32_t nice;                  /* as fln_engine_opts.worker_nice */
};

struct fln_worker {
	/* Set before its thread runs. */
	struct fln_worker_opts opts;
	struct fln_thread thread;
	int epoll_fd; /* from then on only the thread uses it, and may replace it */
	int event_fd;

	/* Pushed by any thread, also in signal handlers; taken by the worker. */
	_Atomic(struct fln_job_part *) given;    /* parts of new jobs */
	_Atomic(struct fln_wanted *) wanted_new; /* new requests of threads in context */
	_Atomic bool kicked;                     /* page states have changed: look at held faults */
	_Atomic bool release_asked;              /* look for blocks to release now */

	/* Guarded by lock. */
	struct fln_lock lock; /* FLN_RANK_WORKER */
	pthread_cond_t done;
	struct fln_command *commands;
	bool ended; /* accepts no more commands */

	/* Written only by the worker; read by any thread. */
	_Atomic uint64_t beat;   /* odd: in a round; even: waiting for events */
	_Atomic bool lifts_left; /* some poison could not be dropped yet, and is retried */

	/* Written only by the guard; stalled_since_ns is read by any thread. */
	uint64_t seen_beat, seen_ns;
	bool told_stalled;
	_Atomic uint64_t stalled_since_ns; /* begin of a round that has not ended; 0: none known */

	/* Everything from here on is used only by the worker. */
	bool only_ms;             /* epoll_pwait2() is refused here */
	bool polls;               /* so is epoll: it polls all its shards every millisecond */
	uint32_t nr_renewed;      /* how often the epoll set was replaced */
	struct fln_shard *shards; /* its readable shards */
	struct fln_shard *cursor; /* where in that list poll_all() continues */
	struct fln_shard *noted;  /* shards with a note of their oldest fault */
	uint64_t last_note_ns;    /* when the notes were last written */
	uint64_t nr_lifts;        /* value of filler->nr_lifts that it has last seen */
	bool stopping;
	uint32_t nr_guests; /* guests with shards here */
	uint32_t nr_held;
	uint32_t nr_again; /* held faults that are retried soon */
	struct fln_held *held;
	struct fln_held *held_spare;  /* copy during a pass over them */
	uint32_t *held_index;         /* by shard and page: index in held, plus 1 */
	struct fln_shard *overflowed; /* shards with faults that were left with the kernel */
	struct fln_wanted *wanted;    /* open requests of threads in context */
	struct fln_shard *in_context; /* its shards of in-context regions */
	bool has_whole;               /* some of those have a few wholly mapped blocks */
	uint64_t last_whole_ns;       /* when it last looked for such blocks */
	struct fln_later *later;      /* FLN_NR_LATER slots, by region and block */
	uint32_t *later_queue;        /* ring of slots in use, oldest first */
	uint32_t later_head, nr_later;
	struct fln_job_part *parts; /* of jobs that it works on: all, and by what they need */
	struct fln_job_list parts_that[FLN_JOB_NEEDS_NR];
	struct fln_job_block **job_blocks; /* by set of images: those that wait for one of it */
	uint32_t seen_job_looks;           /* of its engine, when all parts were asked */
	uint32_t job_slices;
	uint32_t nr_job_tries;      /* to get a fill, that are left until one comes free */
	uint32_t job_turn;          /* how often there were new ones */
	uint32_t nr_jobs_put_off;   /* rounds, because faults came in */
	uint64_t last_jobs_ns;      /* of the last fln_populate_tick() */
	uint64_t last_jobs_look_ns; /* when all that waits in them was looked at */
	struct fln_release_sweep release;
	struct uffd_msg *msgs;
	struct fln_fault *faults; /* of one read, or of one pass over held faults */
	uint64_t last_arrival_ns;
	uint64_t gap_ns;       /* smoothed time between arrivals */
	uint64_t last_held_ns; /* when it last looked at held faults */
	/*
	 * When waiting faults were last credited with time in which the process was stopped; the
	 * present time for their deadlines.  0: none waits.
	 */
	uint64_t looked_ns;
	uint64_t next_due_ns; /* earliest not_before_ns of held faults; UINT64_MAX: none */
	uint32_t nr_idle_rounds;
};

/* Something with a deadline waits from @now_ns on: from then on stops of the process are credited. */
static inline void fln_worker_has_waiting(struct fln_worker *w, uint64_t now_ns)
{
	if (w->looked_ns == 0)
		w->looked_ns = now_ns;
}

#endif
