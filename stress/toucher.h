/* SPDX-License-Identifier: MIT */
/* The touching threads. */
#ifndef STRESS_TOUCHER_H
#define STRESS_TOUCHER_H

#include "stress/stress.h"

int touchers_alloc(struct stress *s);
void touchers_free(struct stress *s);
int touchers_start(struct stress *s);
void touchers_join(struct stress *s);

#endif
