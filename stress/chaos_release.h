/* SPDX-License-Identifier: MIT */
/* Memory that leaves its userfaultfds under threads that touch it. */
#ifndef STRESS_CHAOS_RELEASE_H
#define STRESS_CHAOS_RELEASE_H

#include "stress/stress.h"

#include <faultlane/guest.h>

bool chaos_release(struct stress *s, struct rng *rng);

/* What the next guest does by itself: released memory is not faulted any more, so not all do. */
enum fln_release chaos_release_option(struct stress *s);

#endif
