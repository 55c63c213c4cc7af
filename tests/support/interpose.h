/* SPDX-License-Identifier: MIT */
/*
 * malloc and its family, defined in the program itself as an embedder with an
 * allocator of its own has it.  They pass on to the C library, and while they watch
 * they count what threads of the engine ask for (threads whose name begins "fln-").
 */
#ifndef FLN_TESTS_INTERPOSE_H
#define FLN_TESTS_INTERPOSE_H

#include <stdbool.h>
#include <stdint.h>

/* Sanitizers have a malloc of their own, and are left alone. */
bool interpose_works(void);
/* How often the program's functions were called at all. */
uint64_t interpose_nr_calls(void);
/* Count anew what threads of the engine do from now on, or stop counting. */
void interpose_watch(bool on);
/* While it is set on a thread, that thread counts like one of the engine: for handlers. */
extern _Thread_local bool interpose_inside;
/* How often they allocated or freed, and from where first. */
uint64_t interpose_nr_watched(void **first_caller);

#endif
