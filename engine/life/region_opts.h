/* SPDX-License-Identifier: MIT */
/*
 * What a region may be: options, and what does not go together.
 */
#ifndef FLN_ENGINE_LIFE_REGION_OPTS_H
#define FLN_ENGINE_LIFE_REGION_OPTS_H

#include <faultlane/guest.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* May such a region be?  Return: 0; -EINVAL, -EOPNOTSUPP. */
int fln_region_check_opts(const struct fln_guest *guest, const struct fln_region_opts *o);

/* What the region's discards mean. */
enum fln_discard fln_region_discard(const struct fln_guest *guest, const struct fln_region_opts *o);

#endif
