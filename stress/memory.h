/* SPDX-License-Identifier: MIT */
/* The memory under test: engine, image, guest, region. */
#ifndef STRESS_MEMORY_H
#define STRESS_MEMORY_H

#include "stress/stress.h"

int memory_create(struct stress *s);
/* Return: 0; -1 when something was left behind or unaccounted for (it has been said). */
int memory_destroy(struct stress *s);
/*
 * Stop the guest with faults in flight, and begin anew; with @engine_too the engine
 * also, with @new_image from an image of which nothing is filled.
 */
int memory_restart(struct stress *s, bool engine_too, bool new_image);

#endif
