/* SPDX-License-Identifier: MIT */
/*
 * Jobs: ranges that are filled and mapped without a fault, by the workers.
 *
 * For fln_guest_populate(), which waits for its job, FLN_ADVICE_WILLNEED, and
 * read-ahead.  A job has a part for each worker that has shards in its range:
 * a worker maps blocks of its own shards only, so that a shard has one installer.
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

/* The worker's side.  It was kicked: what of what waits has changed? */
void fln_populate_kicked(struct fln_worker *w);

/* Now and then: sources that are late; and a look at everything, should a change have gone unnoticed. */
void fln_populate_tick(struct fln_worker *w, uint64_t now_ns);

/* Work on jobs until about @nr_pages are mapped.  Behind all faults (I7). */
void fln_populate_slice(struct fln_worker *w, uint32_t nr_pages);

/* The process was stopped for so long: that is none of the sources' time. */
void fln_populate_credit(struct fln_worker *w, uint64_t stopped_ns);

enum fln_populate_need {
	FLN_POPULATE_IDLE,  /* nothing to do */
	FLN_POPULATE_WAITS, /* for a kick */
	FLN_POPULATE_AGAIN, /* soon */
	FLN_POPULATE_BUSY,  /* now */
};

enum fln_populate_need fln_populate_need(const struct fln_worker *w);

/* End the parts that the worker has of a guest's jobs. */
void fln_populate_end(struct fln_worker *w, const struct fln_guest *guest);

#endif
