/* SPDX-License-Identifier: MIT */
/*
 * What this kernel and this user can do: probed, never derived from a version.
 */
#ifndef FLN_ENGINE_LIFE_FEATURES_H
#define FLN_ENGINE_LIFE_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;

/*
 * May this user have userfaultfds, and does the kernel's do what we need?  Return: 0; as
 * fln_uffd_probe(), fln_uffd_check_features().
 */
int fln_engine_check_features(struct fln_engine *engine);

#endif
