/* SPDX-License-Identifier: MIT */
/* A block of a job, as its worker looks at it.  Nothing blocks. */
#ifndef FLN_ENGINE_JOB_BLOCK_H
#define FLN_ENGINE_JOB_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct fln_job;
struct fln_job_block;
struct fln_job_part;
struct fln_worker;

/* The job's error; the first counts, but -ESHUTDOWN goes over an error of pages. */
void fln_job_fail(struct fln_job *job, int error);

/* A page is not to be had: -EIO, and the lowest such address. */
void fln_job_fail_page(struct fln_job *job, uint64_t addr);

/*
 * May a part ask for a fill?  Once in vain, and it waits until one comes free.  If that was its
 * image's it asks again at once (let_ask).  Else those that wait have their turns, until some have
 * asked in vain: what one image finds used up another one need not, for each has a share.
 */
bool fln_job_may_ask(const struct fln_worker *w, const struct fln_job_part *part);

/* A fill has come free. */
void fln_job_let_ask(struct fln_worker *w);

/* Since its slots of the fills were noted. */
bool fln_job_block_has_changed(const struct fln_worker *w, const struct fln_job_block *jb);

/* One look at a block.  RCU read lock held.  Returns how many pages it came to. */
uint32_t fln_job_block_work(struct fln_worker *w, struct fln_job_part *part,
			    struct fln_job_block *jb);

#endif
