/* SPDX-License-Identifier: MIT */
/*
 * A place that stays the test's when something is unmapped there.
 *
 * A thread that touches memory which is unmapped meanwhile should get SIGSEGV; but any
 * allocator's mapping may come to lie there before it touches, and what it reads then says
 * nothing of the library.  In programs that are linked with this, munmap() within a place
 * that is kept puts an inaccessible mapping there instead, in one step.
 */
#ifndef TESTS_PLACE_H
#define TESTS_PLACE_H

#include <stddef.h>

/* One place at a time, and only what is mapped now or was unmapped under it. */
void place_keep(void *addr, size_t len);
/* Nobody touches it any more: it is the kernel's to give. */
void place_give_back(void);

#endif
