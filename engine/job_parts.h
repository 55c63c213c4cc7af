/* SPDX-License-Identifier: MIT */
/*
 * A worker's parts of jobs: in lists by what they need, so that a round touches those alone
 * that have something to do; and their blocks by the image that they wait for, so that
 * a change of an image leads to its blocks.  All of it the worker's.
 */
#ifndef FLN_ENGINE_JOB_PARTS_H
#define FLN_ENGINE_JOB_PARTS_H

#include "engine/state/job.h"

#include <stdint.h>

struct fln_worker;

void fln_job_parts_init(struct fln_worker *w);

/* A new part, that needs work. */
void fln_job_part_enter(struct fln_worker *w, struct fln_job_part *part);

/* The worker has it no more, nor any of its blocks. */
void fln_job_part_leave(struct fln_worker *w, struct fln_job_part *part);

/* To the end of those that need the same, also when it was among them. */
void fln_job_part_needs(struct fln_worker *w, struct fln_job_part *part, enum fln_job_need need);

/* From now on the changes of images of @set lead to the block, until it is done or left alone. */
void fln_job_block_watch(struct fln_worker *w, struct fln_job_block *jb, uint32_t set);

/* All of the block is done: its place is another's. */
void fln_job_block_done(struct fln_job_part *part, struct fln_job_block *jb);

/* What the part has in work it has not any more. */
void fln_job_blocks_drop(struct fln_job_part *part);

#endif
