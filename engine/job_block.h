/* SPDX-License-Identifier: MIT */
/*
 * One block of a job: its pages are mapped, or their fills requested.
 *
 * Runs on the worker that has the job's part, except the two functions that fail a job, which any
 * thread may call.  Nothing blocks.
 */
#ifndef FLN_ENGINE_JOB_BLOCK_H
#define FLN_ENGINE_JOB_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct fln_job;
struct fln_job_block;
struct fln_job_part;
struct fln_worker;

/* Set the job's error: the first one stays, but -ESHUTDOWN replaces an error of pages. */
void fln_job_fail(struct fln_job *job, int error);

/* A page cannot be filled or mapped: -EIO.  The job keeps the lowest such address. */
void fln_job_fail_page(struct fln_job *job, uint64_t addr);

/*
 * May a part ask for a fill?  A part that has asked in vain waits until a fill comes free.  If that
 * is one of its image's it asks at once (let_ask).  Else the waiting parts ask in turn until some
 * have asked in vain: each image has a share of the fills, so what one image has used up another
 * may still have.
 */
bool fln_job_may_ask(const struct fln_worker *w, const struct fln_job_part *part);

/* A fill of the pool has come free: waiting parts may ask again. */
void fln_job_let_ask(struct fln_worker *w);

/* Have pages of the block changed since its last look at them? */
bool fln_job_block_has_changed(const struct fln_worker *w, const struct fln_job_block *jb);

/* Work once on a block.  RCU read lock held.  Returns the cost of it, in pages. */
uint32_t fln_job_block_work(struct fln_worker *w, struct fln_job_part *part,
			    struct fln_job_block *jb);

#endif
