/* SPDX-License-Identifier: MIT */
/* Detects forked children with a fork handler that sets a flag, and refuses their calls. */
#include "base/fork.h"

#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

bool fln_forked;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int watch_rc;

/* Runs in the child, which has one thread: no atomics needed. */
static void in_child(void)
{
	fln_forked = true;
}

static void watch(void)
{
	watch_rc = -pthread_atfork(NULL, NULL, in_child);
}

int fln_fork_watch(void)
{
	(void)pthread_once(&once, watch);
	return watch_rc ? fln_fail(-watch_rc, "pthread_atfork: %s", strerror(-watch_rc)) : 0;
}

int fln_fork_refused(const char *call)
{
	return fln_fail(ECHILD,
			"%s: this process was forked from one that had an engine; call exec() "
			"first, or fork before the engine is made",
			call);
}

int fln_call_refused(const char *call, const char *names, const void *const *args, size_t nr)
{
	if (fln_forked)
		return fln_fork_refused(call);
	for (size_t i = 0; i < nr; i++) {
		if (!args[i])
			return fln_fail(EINVAL, "%s: %.*s is NULL", call, (int)strcspn(names, ","),
					names);
		names += strcspn(names, ",") + 2; /* as they are spelled: "a, b" */
	}
	return 0;
}
