/* SPDX-License-Identifier: MIT */
/*
 * Jobs: ranges that are filled and mapped without a fault, by the workers.
 *
 * For fln_guest_populate(), which waits for its job, FLN_ADVICE_WILLNEED, and read-ahead.
 * A job has a part for each worker that has shards in its range: a worker maps blocks of
 * its own shards only, so that a shard has one installer.
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

#define FLN_JOB_BLOCKS 16u /* that a part has in work at a time, so that fills run in parallel */

#define FLN_MAX_BACKGROUND 8u /* jobs of WILLNEED of a guest at a time */

enum fln_job_block_state {
	FLN_JOB_TRY,     /* not looked at yet, or something has changed */
	FLN_JOB_WAITS,   /* for contents: until the worker is kicked, and they have changed */
	FLN_JOB_STARVED, /* for a fill that is free: the same, or until its part may ask for one */
	FLN_JOB_AGAIN,   /* for an event, a claim, memory: soon */
};

struct fln_job_block {
	uint64_t addr; /* of the block, whose first pages may lie before the region */
	struct fln_job_part *part;
	enum fln_job_block_state state;
	bool any_page; /* it waits for pages that no fill covers: for any change of its image */
	/* The set of its image, and the worker's blocks of that; at_watched is NULL: of none. */
	uint32_t set;
	struct fln_job_block *next_watched, **at_watched;
	/* Of the two blocks of the image that its pages lie in, and the image: fln_image_slot(). */
	uint32_t slot[3], seen[3];
	struct fln_mask todo; /* pages that are not mapped yet, as far as the job knows */
};

/* What a part has to do, by its blocks. */
enum fln_job_need {
	FLN_JOB_NEEDS_KICK,
	FLN_JOB_NEEDS_FILL,
	FLN_JOB_NEEDS_TIME,
	FLN_JOB_NEEDS_WORK,
	FLN_JOB_NEEDS_NR
};

/* What one worker does of a job; the worker's, from fln_job_submit() until it has ended. */
struct fln_job_part {
	struct fln_job *job;
	struct fln_job_part *next; /* of those that need the same, or on the way to the worker */
	struct fln_job_part **at_list;
	struct fln_job_part *next_of_worker, **at_worker;
	uint64_t at;          /* all blocks before it have been looked at */
	uint64_t progress_ns; /* when something was mapped last */
	uint64_t image_done;  /* pages that its image had when patience was up last */
	enum fln_job_need need;
	uint32_t seen_looks; /* jobs->nr_looks */
	uint32_t vain_turn;  /* the worker's job_turn in which it asked for a fill in vain */
	bool let_ask;        /* for a fill: it has not yet, or one of its image's has come free */
	uint32_t nr_blocks;
	struct fln_job_block blocks[FLN_JOB_BLOCKS];
};

/* Parts of a worker that need the same; those that have waited longest are first. */
struct fln_job_list {
	struct fln_job_part *first, **last;
	uint32_t nr;
};

struct fln_job {
	struct fln_guest *guest;
	uint64_t addr, end;
	uint64_t skip;   /* a page that is left out; 0: none */
	bool background; /* nobody waits: it takes no memory for holes */
	int pagemap_fd;  /* the waiting caller's, to see what is mapped; -1: there is no /proc */
	_Atomic bool cancelled;
	_Atomic int error;            /* the first, negative; -ESHUTDOWN before all others */
	_Atomic uint64_t failed_addr; /* the lowest page that has failed; UINT64_MAX: none */
	_Atomic uint64_t nr_done;     /* pages */
	uint32_t nr_running;          /* parts that have not ended; guarded by jobs->lock */
	bool taken;                   /* by jobs->lock; of jobs that are kept */
	struct fln_job *next;         /* of jobs that are kept; by jobs->lock */
	uint32_t nr_parts;
	struct fln_job_part parts[]; /* by worker */
};

/* A guest's jobs. */
struct fln_jobs {
	struct fln_lock lock; /* FLN_RANK_LEAF */
	pthread_cond_t ended; /* some job's nr_running has come to 0 */
	_Atomic bool open;    /* may be submitted: the guest's shards are attached */
	_Atomic uint32_t
		nr_looks; /* how often all blocks were to be looked at: regions have changed */
	_Atomic uint32_t nr_parts; /* of all its jobs, that have not ended */
	struct fln_job *kept;      /* WILLNEED's; freed with the guest; guarded by lock */
};

#endif
