/* SPDX-License-Identifier: MIT */
/*
 * faultlane: serves the page faults of very large virtual machines from user space.
 *
 * Reading order: base.h (errors, log, allocator), engine.h (the process-wide
 * object), source.h (where contents come from), image.h (the contents of one guest
 * memory), guest.h (one VM's memory and its regions), context.h (threads that
 * resolve their own faults), advice.h (calls on ranges), event.h (notifications),
 * stats.h (counters), plan.h (placement on processors and NUMA nodes).
 */
#ifndef FAULTLANE_FAULTLANE_H
#define FAULTLANE_FAULTLANE_H

#include <faultlane/advice.h>
#include <faultlane/base.h>
#include <faultlane/context.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/plan.h>
#include <faultlane/source.h>
#include <faultlane/stats.h>
#include <faultlane/version.h>

#endif
