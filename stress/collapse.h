/* SPDX-License-Identifier: MIT */
/* Large pages made of small ones, behind the engine. */
#ifndef STRESS_COLLAPSE_H
#define STRESS_COLLAPSE_H

#include "stress/stress.h"

/* Through a mapping that is nobody's guest: the block of its image in which @page lies. */
bool collapse_elsewhere(struct stress *s, uint64_t page);

#endif
