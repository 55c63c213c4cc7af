/* SPDX-License-Identifier: MIT */
/*
 * Jobs: ranges that the workers fill and map without a fault.
 *
 * They serve fln_guest_populate(), which waits for its job, FLN_ADVICE_WILLNEED, and read-ahead.
 * A job has a part for each worker with shards in its range.  A worker maps blocks of its own
 * shards only, so that each shard has one installer.
 */
#ifndef FLN_ENGINE_STATE_JOB_H
#define FLN_ENGINE_STATE_JOB_H

#include "base/lock.h"
#include "base/page.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

#define FLN_JOB_BLOCKS 16u /* blocks that a part works on at a time: their fills run in parallel */

#define FLN_MAX_BACKGROUND 8u /* concurrent WILLNEED jobs of a guest */

enum fln_job_block_state {
	FLN_JOB_TRY,     /* to be tried now: it is new, or something has changed */
	FLN_JOB_WAITS,   /* waits for contents, until a kick finds them changed */
	FLN_JOB_STARVED, /* waits for a free fill, until a kick or until its part may ask again */
	FLN_JOB_AGAIN,   /* waits for an event, a claim or memory: retried soon */
};

struct fln_job_block {
	uint64_t addr; /* the block's address; its first pages may lie before the region */
	struct fln_job_part *part;
	enum fln_job_block_state state;
	bool any_page; /* waits for pages without a fill, so any change of the image counts */
	/* The set of its image, and the worker's blocks of that; at_watched is NULL: of none. */
	uint32_t set;
	struct fln_job_block *next_watched, **at_watched;
	/* Of the two blocks of the image that its pages lie in, and the image: fln_image_slot(). */
	uint32_t slot[3], seen[3];
	struct fln_mask todo; /* pages that the job has not found mapped yet */
};

/* What a part waits for, from the states of its blocks. */
enum fln_job_need {
	FLN_JOB_NEEDS_KICK,
	FLN_JOB_NEEDS_FILL,
	FLN_JOB_NEEDS_TIME,
	FLN_JOB_NEEDS_WORK,
	FLN_JOB_NEEDS_NR
};

/* One worker's part of a job.  Only that worker uses it, from fln_job_submit() until its end. */
struct fln_job_part {
	struct fln_job *job;
	struct fln_job_part *next; /* of those that need the same, or on the way to the worker */
	struct fln_job_part **at_list;
	struct fln_job_part *next_of_worker, **at_worker;
	uint64_t at;          /* address up to which blocks were taken into @blocks */
	uint64_t progress_ns; /* when it last mapped a page */
	uint64_t image_done;  /* pages that its image had when patience was up last */
	enum fln_job_need need;
	uint32_t seen_looks; /* jobs->nr_looks */
	uint32_t vain_turn;  /* the worker's job_turn in which it asked for a fill in vain */
	bool let_ask;        /* for a fill: it has not yet, or one of its image's has come free */
	uint32_t nr_blocks;
	struct fln_job_block blocks[FLN_JOB_BLOCKS];
};

/* A worker's parts with the same need, longest waiting first. */
struct fln_job_list {
	struct fln_job_part *first, **last;
	uint32_t nr;
};

struct fln_job {
	struct fln_guest *guest;
	uint64_t addr, end;
	uint64_t skip;   /* address of a page to leave unmapped; 0: none */
	bool background; /* no caller waits, and holes are not mapped, as that takes memory */
	int pagemap_fd;  /* /proc/self/pagemap, of the waiting caller; -1: not available */
	_Atomic bool cancelled;
	_Atomic int error;            /* the first, negative; -ESHUTDOWN replaces others */
	_Atomic uint64_t failed_addr; /* the lowest failed page; UINT64_MAX: none */
	_Atomic uint64_t nr_done;     /* pages done */
	uint32_t nr_running;          /* parts that have not ended; guarded by jobs->lock */
	bool taken;                   /* a kept job that is in use; guarded by jobs->lock */
	struct fln_job *next;         /* in the list of kept jobs; guarded by jobs->lock */
	uint32_t nr_parts;
	struct fln_job_part parts[]; /* by worker */
};

/* A guest's jobs. */
struct fln_jobs {
	struct fln_lock lock; /* FLN_RANK_LEAF */
	pthread_cond_t ended; /* signalled when nr_running of a job becomes 0 */
	_Atomic bool open;    /* jobs can be submitted: the guest's shards are attached */
	_Atomic uint32_t
		nr_looks; /* how often all blocks were to be looked at: regions have changed */
	_Atomic uint32_t nr_parts; /* of all its jobs, that have not ended */
	struct fln_job *kept;      /* WILLNEED's; freed with the guest; guarded by lock */
};

#endif
