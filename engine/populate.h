/* SPDX-License-Identifier: MIT */
/*
 * Jobs, on the worker: ranges are filled and mapped without faults.
 *
 * For fln_guest_populate(), which waits for its job, FLN_ADVICE_WILLNEED, and read-ahead.  A job
 * has a part for each worker that has shards in its range: a worker maps blocks of its own shards
 * only, so that a shard has one installer.  All calls are made on the worker's thread; none
 * blocks.
 */
#ifndef FLN_ENGINE_POPULATE_H
#define FLN_ENGINE_POPULATE_H

#include <faultlane/advice.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_worker;

/* The worker was kicked: find the blocks that wait and have changed, to try them again. */
void fln_populate_kicked(struct fln_worker *w);

/* Called every 50 ms or so: ends parts whose source is late, and retries all blocks now and then. */
void fln_populate_tick(struct fln_worker *w, uint64_t now_ns);

/* Work on jobs until about @nr_pages are mapped.  After all faults that wait (I7). */
void fln_populate_slice(struct fln_worker *w, uint32_t nr_pages);

/* Exclude @stopped_ns, in which the process was stopped, from the time that sources have taken. */
void fln_populate_credit(struct fln_worker *w, uint64_t stopped_ns);

enum fln_populate_need {
	FLN_POPULATE_IDLE,  /* there are no jobs */
	FLN_POPULATE_WAITS, /* all wait for a kick */
	FLN_POPULATE_AGAIN, /* some are to be retried soon */
	FLN_POPULATE_BUSY,  /* some can be worked on now */
};

/* What the worker's jobs need next. */
enum fln_populate_need fln_populate_need(const struct fln_worker *w);

/* End the worker's parts of a guest's jobs, with -ESHUTDOWN. */
void fln_populate_end(struct fln_worker *w, const struct fln_guest *guest);

#endif
