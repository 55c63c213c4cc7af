/* SPDX-License-Identifier: MIT */
/*
 * Refuses library calls in forked children.
 *
 * A child has neither the threads nor the guest memory of its parent's engine, and another
 * thread may have held locks at the time of the fork.  The child shares the parent's
 * descriptors: what it did with them would affect the parent.  So calls
 * fail in it before they touch anything, until exec().
 */
#ifndef FLN_BASE_FORK_H
#define FLN_BASE_FORK_H

#include <stdbool.h>
#include <stddef.h>

/* True in forked children.  Visibility is hidden, so reading it is a plain load. */
extern bool fln_forked;

/* From now on, library calls fail in forked children.  Return: 0; -errno. */
int fln_fork_watch(void);

/* Return: -ECHILD, with a message that names @call. */
int fln_fork_refused(const char *call);

/*
 * Prologue of every public call.  Return: 0; -ECHILD in a forked child; -EINVAL if a listed
 * argument is NULL.
 */
#define FLN_CALL_REFUSED(...)                                                          \
	fln_call_refused(__func__, #__VA_ARGS__, (const void *const[]){ __VA_ARGS__ }, \
			 sizeof((const void *const[]){ __VA_ARGS__ }) / sizeof(void *))
int fln_call_refused(const char *call, const char *names, const void *const *args, size_t nr);

#endif
