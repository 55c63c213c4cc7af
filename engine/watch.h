/* SPDX-License-Identifier: MIT */
/*
 * The shards that a worker watches: with an epoll set, or by polling where it has none.
 *
 * Runs on the worker's thread, which owns the list and the set.  Never blocks.
 */
#ifndef FLN_ENGINE_WATCH_H
#define FLN_ENGINE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;
struct fln_worker;

/* Watch @shard from now on.  Return: 0; -errno of epoll_ctl(). */
int fln_worker_watch(struct fln_worker *w, struct fln_shard *shard);

/* Watch @shard no longer.  It may have been unwatched before. */
void fln_worker_unwatch(struct fln_worker *w, struct fln_shard *shard);

/*
 * The epoll set has failed with @err: make a new one, or poll all shards from now on.  Posts
 * FLN_EVENT_WORKER_FAILED.
 */
void fln_worker_lose_epoll(struct fln_worker *w, int err);

#endif
