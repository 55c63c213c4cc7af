/* SPDX-License-Identifier: MIT */
/*
 * A worker's lists of its parts of jobs, and of the blocks that wait for images.
 *
 * Parts are in lists by what they need, so that a round touches only those that can make progress;
 * blocks are in lists by the set of the image that they wait for, so that a change of an image
 * leads to its blocks.  All of it belongs to the worker's thread.
 */
#ifndef FLN_ENGINE_JOB_PARTS_H
#define FLN_ENGINE_JOB_PARTS_H

#include "engine/state/job.h"

#include <stdint.h>

struct fln_worker;

void fln_job_parts_init(struct fln_worker *w);

/* Add a new part; it needs work. */
void fln_job_part_enter(struct fln_worker *w, struct fln_job_part *part);

/* Remove a part and all its blocks. */
void fln_job_part_leave(struct fln_worker *w, struct fln_job_part *part);

/* Move a part to the end of the list of @need, even if it is in that list. */
void fln_job_part_needs(struct fln_worker *w, struct fln_job_part *part, enum fln_job_need need);

/* List the block under @set, so that changes of its image lead to it until it is done or dropped. */
void fln_job_block_watch(struct fln_worker *w, struct fln_job_block *jb, uint32_t set);

/* The block is done: its part's last block moves to its place. */
void fln_job_block_done(struct fln_job_part *part, struct fln_job_block *jb);

/* Drop all blocks of the part. */
void fln_job_blocks_drop(struct fln_job_part *part);

#endif
