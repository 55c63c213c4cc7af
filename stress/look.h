/* SPDX-License-Identifier: MIT */
/* Checks every page after an end, while no other thread touches the memory. */
#ifndef STRESS_LOOK_H
#define STRESS_LOOK_H

#include "stress/stress.h"

/* After the stop, while the memory is still mapped: repeatedly, while its page tables change. */
void look_at_stopped(struct stress *s);
/* After the guest was destroyed, where mappings of this program are left. */
void look_at_destroyed(struct stress *s);

#endif
