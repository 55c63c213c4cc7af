/* SPDX-License-Identifier: MIT */
/*
 * faultlane: serves the page faults of very large virtual machines from user space.
 *
 * Reading order: base.h (errors, log, allocator), engine.h (the process-wide
 * object), source.h (where contents come from), image.h (contents of one
 * memory), guest.h (one VM's memory and its regions), stats.h (what happened).
 */
#ifndef FAULTLANE_FAULTLANE_H
#define FAULTLANE_FAULTLANE_H

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/source.h>
#include <faultlane/stats.h>
#include <faultlane/version.h>

#endif
