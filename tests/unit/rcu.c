/* SPDX-License-Identifier: MIT */
/* The thread that carries out what is put off for a grace period. */
#include "base/rcu.h"

#include "tests/support/cm.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many threads there are, and how many of them block SIGUSR1. */
static void look_at_threads(uint32_t *nr, uint32_t *nr_deaf)
{
	DIR *dir = opendir("/proc/self/task");
	char path[300], line[128];
	const struct dirent *e;

	*nr = *nr_deaf = 0;
	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		FILE *file;

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		++*nr;
		while (fgets(line, sizeof(line), file)) {
			if (strncmp(line, "SigBlk:", 7) == 0 &&
			    strtoull(line + 7, NULL, 16) >> (SIGUSR1 - 1) & 1)
				++*nr_deaf;
		}
		(void)fclose(file);
	}
	(void)closedir(dir);
}

static _Atomic bool called;

static void on_call(struct rcu_head *head)
{
	FLN_TSAN_ACQUIRE();
	(void)head;
	atomic_store(&called, true);
}

static void calls_start_no_thread(void **state)
{
	static struct rcu_head head;
	uint32_t nr_before, deaf_before, nr, nr_deaf, nr_after;
	sigset_t mask;

	(void)state;
	look_at_threads(&nr_before, &deaf_before);
	fln_rcu_prepare();
	look_at_threads(&nr, &nr_deaf);
	/* More than one with a sanitizer, which starts its own behind the first. */
	assert_true(nr > nr_before);
	assert_true(nr_deaf > deaf_before); /* it takes none of the embedder's signals */
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
	assert_false(sigismember(&mask, SIGUSR1));
	fln_rcu_prepare();
	fln_rcu_call(&head, on_call);
	while (!atomic_load(&called))
		(void)sched_yield();
	look_at_threads(&nr_after, &nr_deaf);
	assert_int_equal(nr_after, nr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_start_no_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
