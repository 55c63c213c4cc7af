/* SPDX-License-Identifier: MIT */
/* The memory under test: engine, image, guest, region. */
#ifndef STRESS_MEMORY_H
#define STRESS_MEMORY_H

#include "stress/stress.h"

int memory_create(struct stress *s);
/* Return: 0; -1 when memory was leaked or faults are unaccounted for (a message was printed). */
int memory_destroy(struct stress *s);
/* How the guest is stopped and created anew. */
struct restart {
	bool engine_too;
	bool new_image; /* with a new image, which is unfilled */
	bool open;      /* touches continue during the stop; otherwise no new one begins */
};

/* Stop the guest with faults in flight, and create it anew. */
int memory_restart(struct stress *s, const struct restart *how);

#endif
