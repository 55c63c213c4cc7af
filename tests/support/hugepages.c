/* SPDX-License-Identifier: MIT */
/* Huge pages for a test; see hugepages.h. */
#include "tests/support/hugepages.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB"
#define LOCK_TRIES 900u /* 100 ms apart */

static uint64_t pool_read(const char *name)
{
	char path[96], line[32] = "";
	FILE *f;

	(void)snprintf(path, sizeof(path), POOL "/%s", name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	(void)fclose(f);
	return strtoull(line, NULL, 10);
}

static bool pool_write(uint64_t nr_pages)
{
	FILE *f = fopen(POOL "/nr_hugepages", "we");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%llu", (unsigned long long)nr_pages) > 0;
	return fclose(f) == 0 && ok;
}

static void pause_ms(long ms)
{
	(void)nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* The child: has the lock as long as there is something to give back. */
static _Noreturn void guard(int alive, uint64_t before)
{
	char byte;

	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)setsid();
	(void)close(STDIN_FILENO);
	(void)close(STDOUT_FILENO);
	(void)close(STDERR_FILENO);
	while (read(alive, &byte, 1) < 0 && errno == EINTR)
		;
	/* Pages that are still mapped go as their process goes. */
	for (uint32_t i = 0; i < 100 && pool_read("nr_hugepages") != before; i++) {
		(void)pool_write(before);
		pause_ms(20);
	}
	_exit(0);
}

uint64_t hugepages_free(void)
{
	return pool_read("free_hugepages");
}

const char *hugepages_take(uint64_t nr_pages)
{
	int lock = open(POOL, O_RDONLY | O_DIRECTORY | O_CLOEXEC), alive[2];
	uint64_t before, taken;
	pid_t pid;

	if (lock < 0)
		return "this kernel has no huge pages of 2 MiB";
	for (uint32_t i = 0; flock(lock, LOCK_EX | LOCK_NB) != 0; i++) {
		if (i == LOCK_TRIES)
			return "another test has had the machine's huge pages for 90 s";
		pause_ms(100);
	}
	before = pool_read("nr_hugepages");
	taken = before - pool_read("free_hugepages") + pool_read("resv_hugepages");
	if (pipe2(alive, O_CLOEXEC) != 0)
		return "no pipe";
	pid = fork();
	if (pid < 0)
		return "no child process to give huge pages back";
	if (pid == 0) {
		(void)close(alive[1]);
		guard(alive[0], before);
	}
	(void)close(alive[0]);
	(void)close(lock); /* the child has it */
	/* The writing end stays open until this process ends. */
	if (!pool_write(taken + nr_pages))
		return "huge pages cannot be reserved: this needs root "
		       "(/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)";
	if (pool_read("free_hugepages") - pool_read("resv_hugepages") < nr_pages)
		return "the kernel has not enough memory in one piece for huge pages";
	return NULL;
}
