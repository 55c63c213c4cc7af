/* SPDX-License-Identifier: MIT */
/*
 * Does a sentence name what it must?  Tests ask for the values (options, numbers, addresses,
 * paths) and leave the wording alone.
 */
#ifndef FLN_TESTS_NAMES_H
#define FLN_TESTS_NAMES_H

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static inline bool names_in_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

/* Is @name somewhere in @sentence, and no part of a longer word or number? */
static inline bool names_one(const char *sentence, const char *name, size_t len)
{
	for (const char *at = sentence; *at; at++) {
		if (strncmp(at, name, len) != 0)
			continue;
		if (at > sentence && names_in_word(at[-1]) && names_in_word(at[0]))
			continue;
		if (!names_in_word(at[len - 1]) || !names_in_word(at[len]))
			return true;
	}
	return false;
}

/* All of @names, which are separated by blanks, in any order.  NULL: does it say anything? */
static inline bool names_all(const char *sentence, const char *names)
{
	if (!names)
		return sentence[0] != '\0';
	for (size_t len; *names; names += len) {
		names += strspn(names, " ");
		len = strcspn(names, " ");
		if (len > 0 && !names_one(sentence, names, len))
			return false;
	}
	return true;
}

#endif
