/* SPDX-License-Identifier: MIT */
/* Threads as the scheduler sees them. */
#include "stress/task.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* A thread's state as in /proc: R, S, D; 0: unknown.  The engine's threads are known by name. */
static char state_of(const char *tid, bool *is_engines)
{
	char path[320], line[512] = "";
	const char *end;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%s/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	end = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	(void)fclose(f);
	*is_engines = strstr(line, "(fln-") != NULL;
	return end && end[1] ? end[2] : 0;
}

const char *task_state(pid_t tid)
{
	bool is_engines;
	char text[16], state;

	(void)snprintf(text, sizeof(text), "%d", (int)tid);
	state = state_of(text, &is_engines);
	return state == 'R' ? "runs or waits for a processor"
	       : state      ? "sleeps"
			    : "has an unknown state";
}

/* Where all threads sleep they wait for each other; where one runs, it may only be slow. */
void task_say_all(void)
{
	uint32_t nr = 0, nr_running = 0, nr_engines = 0, nr_engines_running = 0;
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;

	while (dir && (e = readdir(dir)) != NULL) {
		bool is_engines = false, runs;

		if (e->d_name[0] == '.')
			continue;
		runs = state_of(e->d_name, &is_engines) == 'R';
		nr++;
		nr_running += runs;
		nr_engines += is_engines;
		nr_engines_running += is_engines && runs;
	}
	if (!dir)
		return;
	(void)closedir(dir);
	(void)fprintf(stderr,
		      "  of %u threads %u run or wait for a processor; of the engine's %u, %u\n",
		      nr, nr_running, nr_engines, nr_engines_running);
}

/*
 * Hundreds of threads that touch mapped pages use up the processors: a step would wait a second
 * for a time slice.  Without the privilege it does wait.
 */
void task_raise_priority(void)
{
	int before = getpriority(PRIO_PROCESS, 0);

	(void)setpriority(PRIO_PROCESS, 0, before > -10 ? before - 10 : -20);
}
