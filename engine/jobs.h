/* SPDX-License-Identifier: MIT */
/*
 * A job's life: it is made, handed to workers, waited for, and ended.
 *
 * Jobs are begun in the guest's turn or, by read-ahead, on a worker; workers end them (populate.h).
 * Only fln_jobs_close() and fln_job_wait() block.
 */
#ifndef FLN_ENGINE_JOBS_H
#define FLN_ENGINE_JOBS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_job;
struct fln_job_part;
struct fln_jobs;

void fln_jobs_init(struct fln_jobs *jobs);
void fln_jobs_deinit(struct fln_guest *guest);

/* Allow jobs to begin.  In the guest's turn, all shards attached. */
void fln_jobs_open(struct fln_guest *guest);

/* Allow no more jobs, and end those that run with -ESHUTDOWN.  Likewise. */
void fln_jobs_close(struct fln_guest *guest);

/* A job with room for a part for each worker.  NULL: no memory. */
struct fln_job *fln_job_alloc(struct fln_guest *guest);
void fln_job_free(struct fln_guest *guest, struct fln_job *job);

/* Prepare a job for the range [addr, end), also one that has ended. */
void fln_job_init(struct fln_job *job, struct fln_guest *guest, uint64_t addr, uint64_t end);

/*
 * Hand a job's parts to the workers.  Never blocks.  On a worker or in the guest's turn.
 * False: the guest does not run, or no worker has a shard in the range; no part was handed over.
 */
bool fln_job_submit(struct fln_job *job);

/* A worker's part has ended; the worker may not use the job any more. */
void fln_job_part_end(struct fln_job_part *part);

/* Wait until all parts have ended, or until @deadline_ns.  True: they have ended. */
bool fln_job_wait(struct fln_job *job, uint64_t deadline_ns);

#endif
