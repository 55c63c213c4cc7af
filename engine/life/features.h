/* SPDX-License-Identifier: MIT */
/*
 * Whether this kernel and this user permit what a guest needs: probed, never derived from a
 * kernel version.  Any thread; never blocks for long.
 */
#ifndef FLN_ENGINE_LIFE_FEATURES_H
#define FLN_ENGINE_LIFE_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;

/*
 * May this user create userfaultfds, and do they have the features that guests need?  Probes
 * once per engine, and sets engine->features and engine->asking.
 * Return: 0; errors of fln_uffd_probe() and fln_uffd_check_features().
 */
int fln_engine_check_features(struct fln_engine *engine);

#endif
