/* SPDX-License-Identifier: MIT */
/*
 * Checks of struct fln_region_opts.  Any thread; takes no lock and never blocks.
 */
#ifndef FLN_ENGINE_LIFE_REGION_OPTS_H
#define FLN_ENGINE_LIFE_REGION_OPTS_H

#include <faultlane/guest.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* Can @guest have a region with these options?  Return: 0; -EINVAL; -EOPNOTSUPP. */
int fln_region_check_opts(const struct fln_guest *guest, const struct fln_region_opts *o);

/* How the region treats discards: @o->discard, with the default filled in. */
enum fln_discard fln_region_discard(const struct fln_guest *guest, const struct fln_region_opts *o);

#endif
