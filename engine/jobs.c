/* SPDX-License-Identifier: MIT */
/*
 * A job's life: it is made, handed to workers, waited for, and ended.
 *
 * Tested by unit.populate, integration.populate.
 */
#include "engine/jobs.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/rcu.h"
#include "engine/command.h"
#include "engine/directory.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/state/worker.h"
#include "sharding/stripes.h"

#include <faultlane/base.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

void fln_jobs_init(struct fln_jobs *jobs)
{
	fln_lock_init(&jobs->lock, FLN_RANK_LEAF);
	fln_cond_init(&jobs->ended);
}

static size_t job_bytes(uint32_t nr_parts)
{
	return sizeof(struct fln_job) + nr_parts * sizeof(struct fln_job_part);
}

struct fln_job *fln_job_alloc(struct fln_guest *guest)
{
	uint32_t nr = guest->engine->opts.nr_workers;
	struct fln_job *job = fln_zalloc(&guest->engine->alloc, job_bytes(nr), FLN_NODE_ANY);

	if (job)
		job->nr_parts = nr;
	return job;
}

void fln_job_free(struct fln_guest *guest, struct fln_job *job)
{
	fln_free(&guest->engine->alloc, job, job_bytes(job->nr_parts), FLN_NODE_ANY);
}

void fln_jobs_deinit(struct fln_guest *guest)
{
	struct fln_jobs *jobs = &guest->jobs;

	while (jobs->kept) {
		struct fln_job *job = jobs->kept;

		jobs->kept = job->next;
		fln_job_free(guest, job);
	}
	(void)pthread_cond_destroy(&jobs->ended);
	fln_lock_deinit(&jobs->lock);
}

void fln_job_init(struct fln_job *job, struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	job->guest = guest;
	job->addr = addr;
	job->end = end;
	job->skip = 0;
	job->background = false;
	job->pagemap_fd = -1;
	atomic_store(&job->cancelled, false);
	atomic_store(&job->error, 0);
	atomic_store(&job->failed_addr, UINT64_MAX);
	atomic_store(&job->nr_done, 0);
}

void fln_jobs_open(struct fln_guest *guest)
{
	atomic_store_explicit(&guest->jobs.open, true, memory_order_release);
}

void fln_jobs_close(struct fln_guest *guest)
{
	if (!atomic_exchange(&guest->jobs.open, false))
		return;
	/* After this a worker that found `open` set has submitted its read-ahead. */
	fln_guest_pass_workers(guest);
	fln_workers_end_jobs(guest);
}

/* The workers that have shards in the job's range, one bit each.  RCU read lock held. */
static uint64_t workers_of(const struct fln_job *job)
{
	uint32_t nr = job->guest->engine->opts.nr_workers;
	uint64_t all = UINT64_MAX >> (64 - nr), some = 0;

	for (uint64_t at = job->addr; at < job->end && some != all;) {
		const struct fln_region *r = fln_directory_find(job->guest, at);
		const struct fln_shard *s;
		uint64_t stripe = 0, len = 0;
		uint32_t shard;

		if (!r)
			return 1; /* any worker will do: it fails the job for want of a region */
		(void)fln_stripe_get(&r->plan, fln_stripe_index(&r->plan, at), &stripe, &len,
				     &shard);
		s = fln_region_shard(r, shard);
		if (s->worker)
			some |= UINT64_C(1) << s->worker->opts.index;
		at = stripe + len;
	}
	return some;
}

static void give_part(struct fln_worker *w, struct fln_job_part *part)
{
	struct fln_job_part *first = atomic_load_explicit(&w->given, memory_order_relaxed);

	do {
		part->next = first;
	} while (!atomic_compare_exchange_weak_explicit(&w->given, &first, part,
							memory_order_release,
							memory_order_relaxed));
	fln_worker_kick(w);
}

bool fln_job_submit(struct fln_job *job)
{
	struct fln_guest *guest = job->guest;
	uint64_t workers;

	if (!atomic_load_explicit(&guest->jobs.open, memory_order_acquire))
		return false;
	fln_rcu_read_lock();
	workers = workers_of(job);
	fln_rcu_read_unlock();
	if (!workers)
		return false;
	fln_lock(&guest->jobs.lock);
	job->nr_running = (uint32_t)__builtin_popcountll(workers);
	fln_unlock(&guest->jobs.lock);
	/* Before nr_looks is read: see fln_jobs_look(). */
	(void)atomic_fetch_add(&guest->jobs.nr_parts, (uint32_t)__builtin_popcountll(workers));
	/* Once its last part is handed over the job may end, and must not be used here. */
	while (workers) {
		uint32_t i = (uint32_t)__builtin_ctzll(workers);
		struct fln_job_part *part = &job->parts[i];

		workers &= workers - 1;
		part->job = job;
		part->at = job->addr;
		part->nr_blocks = 0;
		part->seen_looks = atomic_load(&guest->jobs.nr_looks);
		part->progress_ns = fln_now_ns();
		give_part(&guest->engine->workers[i], part);
	}
	return true;
}

bool fln_job_wait(struct fln_job *job, uint64_t deadline_ns)
{
	struct fln_jobs *jobs = &job->guest->jobs;
	bool in_time = true, ended;

	fln_lock(&jobs->lock);
	while (job->nr_running > 0 && in_time)
		in_time = fln_cond_wait_until(&jobs->ended, &jobs->lock, deadline_ns);
	ended = job->nr_running == 0;
	fln_unlock(&jobs->lock);
	return ended;
}

void fln_job_part_end(struct fln_job_part *part)
{
	struct fln_job *job = part->job;
	struct fln_jobs *jobs = &job->guest->jobs;

	(void)atomic_fetch_sub_explicit(&jobs->nr_parts, 1, memory_order_relaxed);
	fln_lock(&jobs->lock);
	FLN_ASSERT(job->nr_running > 0);
	if (--job->nr_running == 0) {
		job->taken = false;
		(void)pthread_cond_broadcast(&jobs->ended);
	}
	fln_unlock(&jobs->lock);
}
