/* SPDX-License-Identifier: MIT */
/*
 * Waking and commanding the engine's threads: workers and the guard.
 *
 * A kick says that pages have changed, a command hands a shard over or takes it back; both
 * ring the worker's eventfd. None of it depends on what these threads do with it.
 */
#ifndef FLN_ENGINE_COMMAND_H
#define FLN_ENGINE_COMMAND_H

#include "engine/state/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_guard;
struct fln_guest;
struct fln_shard;

/* Pages have changed: look at held faults.  Any thread; never blocks. */
void fln_worker_kick(struct fln_worker *w);

/* The same for signal handlers, which may have interrupted a kick of their own thread. */
void fln_worker_kick_again(struct fln_worker *w);

/*
 * Hand a shard to a worker, or take it back; returns when that is done.  After
 * DETACH the worker does not know the shard any more.  Return: 0 or -errno;
 * -ESHUTDOWN when the worker has been stopped.
 */
int fln_worker_command(struct fln_worker *w, enum fln_command_kind kind, struct fln_shard *shard);

/* Take shards back from the workers that have them: DETACH, in few rounds of each. */
void fln_shards_detach(struct fln_shard *shards, uint32_t nr);

/* No worker has anything of the guest's jobs any more. */
void fln_workers_end_jobs(struct fln_guest *guest);

/* All that workers were doing with the guest's regions is done. */
void fln_guest_pass_workers(struct fln_guest *guest);

/*
 * Regions have changed, not their images: all blocks of the guest's jobs are looked at when
 * their worker is kicked, or soon.  Any thread.
 */
void fln_jobs_look(struct fln_guest *guest);

/* Have it look now.  No lock held. */
void fln_guard_call(struct fln_guard *guard);

#endif
