/* SPDX-License-Identifier: MIT */
/*
 * Pages that threads wait for in their own context.
 */
#ifndef FLN_ENGINE_WANTED_H
#define FLN_ENGINE_WANTED_H

#include "engine/state/wanted.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;
struct fln_worker;

/* A free slot, or NULL: try later. */
struct fln_wanted *fln_wanted_take(void);

/* Hand it to @w.  In the read section in which the region was found, and not closing. */
void fln_wanted_submit(struct fln_worker *w, struct fln_wanted *wanted);

/* Wait for its end, and give it back.  No read section. */
enum fln_wanted_end fln_wanted_wait(struct fln_wanted *wanted);

/* The worker's part: look at all that it has. */
void fln_serve_wanted(struct fln_worker *w);

/* The process was stopped for so long: for none of them it counts. */
void fln_wanted_credit(struct fln_worker *w, uint64_t stopped_ns);

/* Of what has been unmapped: as fln_drop_unmapped(), in worker.h. */
void fln_wanted_drop(struct fln_worker *w, const struct fln_shard *shard, uint64_t start,
		     uint64_t end);

#endif
