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
#include <time.h>
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

#define NR_HEADS 1000u

static struct fln_rcu_head heads[NR_HEADS];
static _Atomic uint32_t nr_called;

static void on_call(struct fln_rcu_head *head)
{
	FLN_TSAN_ACQUIRE();
	assert_true(head >= heads && head < heads + NR_HEADS);
	atomic_fetch_add(&nr_called, 1);
}

static void wait_called(uint32_t want)
{
	while (atomic_load(&nr_called) < want)
		(void)sched_yield();
}

static void calls_start_no_thread(void **state)
{
	uint32_t nr_before, deaf_before, nr, nr_deaf, nr_after;
	sigset_t mask;

	(void)state;
	look_at_threads(&nr_before, &deaf_before);
	assert_int_equal(fln_rcu_get(), 0);
	look_at_threads(&nr, &nr_deaf);
	/* More than one with a sanitizer, which starts its own behind the first. */
	assert_true(nr > nr_before);
	assert_true(nr_deaf > deaf_before); /* it takes none of the embedder's signals */
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
	assert_false(sigismember(&mask, SIGUSR1));
	assert_int_equal(fln_rcu_get(), 0);
	atomic_store(&nr_called, 0);
	fln_rcu_call(&heads[0], on_call);
	wait_called(1);
	look_at_threads(&nr_after, &nr_deaf);
	assert_int_equal(nr_after, nr);
	fln_rcu_put();
	fln_rcu_put();
}

static void the_thread_goes_with_its_last_user(void **state)
{
	uint32_t nr_before, nr, nr_deaf;

	(void)state;
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(fln_rcu_get(), 0);
		atomic_store(&nr_called, 0);
		fln_rcu_call(&heads[0], on_call);
		wait_called(1);
		fln_rcu_put();
	}
	look_at_threads(&nr_before, &nr_deaf);
	assert_int_equal(fln_rcu_get(), 0);
	look_at_threads(&nr, &nr_deaf);
	assert_int_equal(nr, nr_before + 1);
	fln_rcu_put();
	/* It is joined, which the kernel's list of threads may show a moment later. */
	do
		look_at_threads(&nr, &nr_deaf);
	while (nr > nr_before);
}

/* What is put off by several threads, while others read, comes once each and not too early. */
struct pushing {
	uint32_t from, step;
};

static void *push(void *arg)
{
	const struct pushing *p = arg;

	for (uint32_t i = p->from; i < NR_HEADS; i += p->step)
		fln_rcu_call(&heads[i], on_call);
	return NULL;
}

static void every_call_comes_once_after_readers(void **state)
{
	struct pushing p[2] = { { 0, 2 }, { 1, 2 } };
	struct timespec while_reading = { .tv_nsec = 50000000 };
	pthread_t threads[2];
	bool entered;

	(void)state;
	assert_int_equal(fln_rcu_get(), 0);
	atomic_store(&nr_called, 0);
	entered = fln_rcu_enter();
	fln_rcu_read_lock();
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, push, &p[i]), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	(void)nanosleep(&while_reading, NULL);
	assert_int_equal(atomic_load(&nr_called), 0);
	fln_rcu_read_unlock();
	fln_rcu_leave(entered);
	wait_called(NR_HEADS);
	fln_rcu_put();
	assert_int_equal(atomic_load(&nr_called), NR_HEADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_start_no_thread),
		cmocka_unit_test(the_thread_goes_with_its_last_user),
		cmocka_unit_test(every_call_comes_once_after_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
