/* SPDX-License-Identifier: MIT */
/*
 * A worker: the pinned thread that serves some shards.
 *
 * All that a worker needs while it serves is reserved when it is made (I5): the
 * messages of one read, the table of held faults.  Others talk to it in two
 * ways: a kick (pages of an image have changed, look at what you hold) and a
 * command (take a shard on, let go of a shard), both through one eventfd.
 */
#ifndef FLN_ENGINE_WORKER_H
#define FLN_ENGINE_WORKER_H

#include <pthread.h>
#include <stdint.h>

struct fln_worker;
struct fln_worker_opts;

int fln_worker_init(struct fln_worker *w, const struct fln_worker_opts *opts);
void fln_worker_deinit(struct fln_worker *w);

/* Return: 0; as fln_thread_create(). */
int fln_worker_start(struct fln_worker *w);
void fln_worker_stop(struct fln_worker *w);

/* One round, waiting at most @timeout_ns (-1: for ever).  For the thread, and for tests. */
void fln_worker_round(struct fln_worker *w, int64_t timeout_ns);

#endif
