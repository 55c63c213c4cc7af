/* SPDX-License-Identifier: MIT */
/*
 * Forked children: what the library refuses them.
 *
 * A child has neither the threads nor, unless forks are followed, the memory of its
 * parent's engine, and locks may have been held when it was born.  It shares the
 * parent's descriptors: what it did with them would be done to the parent.  So calls
 * fail in it before they touch anything; exec() makes it a process of its own.
 */
#ifndef FLN_BASE_FORK_H
#define FLN_BASE_FORK_H

#include <stdbool.h>
#include <stddef.h>

/* Set in a child by its fork(); visibility is hidden, so a look is a load. */
extern bool fln_forked;

/* Children that are born from here on are refused.  Return: 0; -ENOMEM. */
int fln_fork_watch(void);

/* fln_fail(ECHILD) with a sentence that names the call. */
int fln_fork_refused(const char *call);

/*
 * What a public call begins with: it is refused in a child, and where one of these arguments
 * of its is NULL.  Return: 0; -ECHILD or -EINVAL, with a sentence.
 */
#define FLN_CALL_REFUSED(...)                                                          \
	fln_call_refused(__func__, #__VA_ARGS__, (const void *const[]){ __VA_ARGS__ }, \
			 sizeof((const void *const[]){ __VA_ARGS__ }) / sizeof(void *))
int fln_call_refused(const char *call, const char *names, const void *const *args, size_t nr);

#endif
