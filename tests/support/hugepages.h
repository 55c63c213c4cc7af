/* SPDX-License-Identifier: MIT */
/*
 * Huge pages for a test.
 *
 * They are a reserve of the whole machine, so one test at a time has them, and they are
 * given back when its process ends, however it ends: a child of it waits for that.
 */
#ifndef FLN_TESTS_HUGEPAGES_H
#define FLN_TESTS_HUGEPAGES_H

#include <stdint.h>

/*
 * Have @nr_pages huge pages of 2 MiB free from here on, and exactly so many.  Waits for
 * another test that has some.  Before there are threads.
 * Return: NULL; or why they are unavailable.
 */
const char *hugepages_take(uint64_t nr_pages);

/* How many are free now. */
uint64_t hugepages_free(void);

#endif
