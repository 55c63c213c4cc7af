/* SPDX-License-Identifier: MIT */
/* Decisions, taken from a string of bytes: the same bytes, the same decisions. */
#ifndef FLN_TESTS_BYTES_H
#define FLN_TESTS_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
	const uint8_t *at;
	size_t left;
};

/* When there are none left all further ones are 0. */
static inline uint8_t bytes_take(struct bytes *b)
{
	if (b->left == 0)
		return 0;
	b->left--;
	return *b->at++;
}

/* 0 to @n - 1; takes one byte, or two where one would not do. */
static inline uint32_t bytes_below(struct bytes *b, uint32_t n)
{
	uint32_t x = bytes_take(b);

	if (n > 256)
		x = x << 8 | bytes_take(b);
	return x % n;
}

#endif
