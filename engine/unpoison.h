/* SPDX-License-Identifier: MIT */
/*
 * Lifting poison from pages that were discarded, by mapping zeros over it.
 */
#ifndef FLN_ENGINE_UNPOISON_H
#define FLN_ENGINE_UNPOISON_H

struct fln_engine;
struct fln_worker;

/*
 * Lift poison in the worker's shards if anything has been discarded since the last round, or
 * some was left over.  On the worker's thread.
 */
void fln_unpoison_round(struct fln_worker *w);

/*
 * Wait until the workers have lifted the poison that they know of.  Blocks, for a bounded number
 * of their rounds: what the kernel has not let them lift by then is lifted later.  Not on a
 * thread of the engine's.
 */
void fln_unpoison_wait(struct fln_engine *engine);

#endif
