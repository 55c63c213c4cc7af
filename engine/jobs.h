/* SPDX-License-Identifier: MIT */
/*
 * Jobs' lives: made, handed to their workers, waited for, ended.
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

/*
 * Jobs may begin; and: they may not any more, and those that have are ended with
 * -ESHUTDOWN.  In the guest's turn, all shards attached.
 */
void fln_jobs_open(struct fln_guest *guest);
void fln_jobs_close(struct fln_guest *guest);

struct fln_job *fln_job_alloc(struct fln_guest *guest);
void fln_job_free(struct fln_guest *guest, struct fln_job *job);

/* Begin anew. */
void fln_job_init(struct fln_job *job, struct fln_guest *guest, uint64_t addr, uint64_t end);

/*
 * Hand a job to its workers.  Never blocks; on a worker, or in the guest's turn.
 * False: the guest does not run, or there is nothing to do; no part of it runs.
 */
bool fln_job_submit(struct fln_job *job);

/* A worker's part is at its end; the job is not the worker's any more. */
void fln_job_part_end(struct fln_job_part *part);

/* Wait until all parts have ended or @deadline_ns has passed.  True: they have. */
bool fln_job_wait(struct fln_job *job, uint64_t deadline_ns);

#endif
