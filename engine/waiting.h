/* SPDX-License-Identifier: MIT */
/*
 * How a worker waits for its shards, and serves those that have messages.
 *
 * Runs on the worker's thread, which owns everything that is touched here.
 */
#ifndef FLN_ENGINE_WAITING_H
#define FLN_ENGINE_WAITING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_worker;

/*
 * Wait up to @timeout_ns (-1: without limit), and serve the shards that are ready.  *rung: the
 * worker's eventfd was written, or that is unknown.  *served: a shard was served.  Both are
 * only ever set to true.  Returns false if the time ran out or the wait failed.  A worker that
 * polls its shards does not know which of them had messages: it leaves *served alone and
 * always returns false, so that it looks at held faults in every round.
 */
bool fln_worker_wait(struct fln_worker *w, int64_t timeout_ns, bool *rung, bool *served);

#endif
