/* SPDX-License-Identifier: MIT */
/*
 * Which shards a worker watches: its epoll set, as long as there is one.
 */
#ifndef FLN_ENGINE_WATCH_H
#define FLN_ENGINE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;
struct fln_worker;

/* The worker looks after @shard, or does so no more.  Return: 0; -errno. */
int fln_worker_watch(struct fln_worker *w, struct fln_shard *shard);

void fln_worker_unwatch(struct fln_worker *w, struct fln_shard *shard);

/* The epoll set has failed with @err: make a new one, or scan all shards from now on. */
void fln_worker_lose_epoll(struct fln_worker *w, int err);

#endif
