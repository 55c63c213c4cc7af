/* SPDX-License-Identifier: MIT */
/*
 * A worker's life: it is made, started, stopped and destroyed.
 *
 * A worker is the pinned thread that serves some shards.  Everything that it needs while it
 * serves is allocated when it is made (I5).  Other threads reach it by kicks and commands
 * (command.h).  The thread that makes, starts, stops or destroys the engine calls these;
 * fln_worker_stop() blocks until the worker's thread has ended.
 */
#ifndef FLN_ENGINE_WORKER_H
#define FLN_ENGINE_WORKER_H

#include <pthread.h>
#include <stdint.h>

struct fln_worker;
struct fln_worker_opts;

/* Return: 0; -ENOMEM; -errno of epoll_create1() or eventfd(). */
int fln_worker_init(struct fln_worker *w, const struct fln_worker_opts *opts);
void fln_worker_deinit(struct fln_worker *w);

/* Return: 0; as fln_thread_create(). */
int fln_worker_start(struct fln_worker *w);
void fln_worker_stop(struct fln_worker *w);

/*
 * One round of the worker's thread: wait up to @timeout_ns (-1: without limit), then serve.
 * Declared for tests, which call it in place of a thread.
 */
void fln_worker_round(struct fln_worker *w, int64_t timeout_ns);

#endif
