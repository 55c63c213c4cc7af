/* SPDX-License-Identifier: MIT */
/* Does a function abort?  Tried in a child, so that the test lives on. */
#ifndef FLN_TESTS_DEATH_H
#define FLN_TESTS_DEATH_H

#include <stdbool.h>

bool aborts(void (*fn)(void *arg), void *arg);

#endif
