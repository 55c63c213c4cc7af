/* SPDX-License-Identifier: MIT */
/* Collapses pages of an image into large ones, behind the engine. */
#ifndef STRESS_COLLAPSE_H
#define STRESS_COLLAPSE_H

#include "stress/stress.h"

/* Through a mapping of its own: the block of the image in which @page lies. */
bool collapse_elsewhere(struct stress *s, uint64_t page);

#endif
