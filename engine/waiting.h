/* SPDX-License-Identifier: MIT */
/*
 * How a worker waits for its shards.
 */
#ifndef FLN_ENGINE_WAITING_H
#define FLN_ENGINE_WAITING_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;
struct fln_worker;

/* The worker looks after @shard, or does so no more.  Return: 0; -errno. */
int fln_worker_watch(struct fln_worker *w, struct fln_shard *shard);
void fln_worker_unwatch(struct fln_worker *w, struct fln_shard *shard);

/*
 * Wait for at most @timeout_ns (-1: for ever), and serve what shards have.
 * *rung: somebody has written the eventfd.  Returns whether there was anything.
 */
bool fln_worker_wait(struct fln_worker *w, int64_t timeout_ns, bool *rung, bool *served);

#endif
