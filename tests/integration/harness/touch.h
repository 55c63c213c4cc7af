/* SPDX-License-Identifier: MIT */
/* Contents that tell whose they are, and touches that may end in a signal. */
#ifndef FLN_TESTS_HARNESS_TOUCH_H
#define FLN_TESTS_HARNESS_TOUCH_H

#include <stdbool.h>
#include <stdint.h>

uint64_t next_random(uint64_t *state);

/*
 * Contents that tell whose they are: no word of a page is zero, and no two pages
 * of two images (@salt) are alike.
 */
uint64_t word_of(uint64_t salt, uint64_t page, uint32_t word);
void contents_of(uint64_t salt, uint64_t page, void *buf);

/* A touch: what became of it. */
enum touch {
	TOUCH_PENDING,
	TOUCH_OK,
	TOUCH_SIGBUS,
	TOUCH_SIGSEGV
};

enum touch touch_read(const void *addr, uint64_t *value);
enum touch touch_write(void *addr, uint64_t value);
/* Reads all of a page.  TOUCH_OK with *@right set when it has these contents. */
enum touch touch_page(const void *addr, uint64_t salt, uint64_t page, bool *right);
const char *touch_name(enum touch t);

/* Signals of touches are theirs; of others it is said where they came from. */
void touch_signals(void);

#endif
