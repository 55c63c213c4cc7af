/* SPDX-License-Identifier: MIT */
/*
 * Lifting poison: zeros are mapped over it where pages were given up.
 */
#ifndef FLN_ENGINE_UNPOISON_H
#define FLN_ENGINE_UNPOISON_H

struct fln_engine;
struct fln_worker;

/* Something was given up that may have poison in the worker's shards: lift it. */
void fln_unpoison_round(struct fln_worker *w);

/* Wait until the workers have lifted what they know of, as far as the kernel lets them. */
void fln_unpoison_wait(struct fln_engine *engine);

#endif
