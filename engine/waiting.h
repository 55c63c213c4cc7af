/* SPDX-License-Identifier: MIT */
/*
 * How a worker waits for its shards.
 */
#ifndef FLN_ENGINE_WAITING_H
#define FLN_ENGINE_WAITING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_worker;

/*
 * Wait for at most @timeout_ns (-1: for ever), and serve what shards have.
 * *rung: somebody has written the eventfd.  Returns whether there was anything.
 */
bool fln_worker_wait(struct fln_worker *w, int64_t timeout_ns, bool *rung, bool *served);

#endif
