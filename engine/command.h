/* SPDX-License-Identifier: MIT */
/*
 * Waking and commanding the engine's threads: workers and the guard.
 *
 * A kick says that page states have changed; a command hands a shard over or takes it back.
 * Both write the worker's eventfd.  What workers do then is in worker.c.
 */
#ifndef FLN_ENGINE_COMMAND_H
#define FLN_ENGINE_COMMAND_H

#include "engine/state/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_guard;
struct fln_guest;
struct fln_shard;

/* Make the worker look at its held faults: page states have changed.  Any thread; never blocks. */
void fln_worker_kick(struct fln_worker *w);

/*
 * The same for signal handlers: the eventfd is written even if `kicked` is set, because the handler
 * may have interrupted its own thread between setting it and writing.
 */
void fln_worker_kick_again(struct fln_worker *w);

/*
 * Hand a shard to a worker, or take it back.  Blocks until the worker has done so; not on a
 * worker, nor in a read section.  After DETACH nothing of the worker's names the shard.
 * PASS with a shard, instead of NULL: -EBUSY while the worker holds a fault of it for which a region
 * is still to come.  Return: 0 or -errno; -ESHUTDOWN: the worker has been stopped.
 */
int fln_worker_command(struct fln_worker *w, enum fln_command_kind kind, struct fln_shard *shard);

/* DETACH shards from the workers that have them, many in one round.  Blocks. */
void fln_shards_detach(struct fln_shard *shards, uint32_t nr);

/* END_JOBS for all workers: none works on the guest's jobs any more.  Blocks. */
void fln_workers_end_jobs(struct fln_guest *guest);

/* PASS for the guest's workers: what they were doing with its regions is done.  Blocks. */
void fln_guest_pass_workers(struct fln_guest *guest);

/*
 * Make workers retry all blocks of the guest's jobs when they are kicked next, or soon: regions have
 * changed, which their images do not show, or a job is to end.  Any thread; does not kick.
 */
void fln_jobs_look(struct fln_guest *guest);

/* Make the guard look now, not only at its next tick. */
void fln_guard_call(struct fln_guard *guard);

#endif
