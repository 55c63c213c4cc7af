/* SPDX-License-Identifier: MIT */
/* The memory under test: engine, image, guest, region. */
#ifndef STRESS_MEMORY_H
#define STRESS_MEMORY_H

#include "stress/stress.h"

int memory_create(struct stress *s);
/* Return: 0; -1 when something was left behind or unaccounted for (it has been said). */
int memory_destroy(struct stress *s);
/* How the guest is stopped, and begins anew. */
struct restart {
	bool engine_too;
	bool new_image; /* from an image of which nothing is filled */
	bool open;      /* touches go on all through the stop; else none begins */
};

/* With faults in flight. */
int memory_restart(struct stress *s, const struct restart *how);

#endif
