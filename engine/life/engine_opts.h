/* SPDX-License-Identifier: MIT */
/* An engine's options: checked, with defaults in place of zeros. */
#ifndef FLN_ENGINE_LIFE_ENGINE_OPTS_H
#define FLN_ENGINE_LIFE_ENGINE_OPTS_H

struct fln_engine;
struct fln_engine_opts;

/*
 * Check @o, which fln_opts_copy() has taken, and put defaults in place of zeros.  What depends on
 * the machine's topology, such as the number of workers, is left to fln_nodes_init().
 * Returns 0, or -EINVAL (reported).
 */
int fln_engine_set_defaults(struct fln_engine_opts *o);

/*
 * Check engine->opts.thread_hooks, and copy them to engine->hooks, because the struct is the
 * caller's.  Returns 0, or -EINVAL (reported).
 */
int fln_engine_take_hooks(struct fln_engine *engine);

#endif /* FLN_ENGINE_LIFE_ENGINE_OPTS_H */
