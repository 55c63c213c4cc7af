/* SPDX-License-Identifier: MIT */
/* What the process holds: descriptors, mappings, threads. */
#include "tests/integration/harness/holdings.h"

#include "tests/integration/harness/verdict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static uint32_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t nr = 0;

	CHECK(dir, "%s: %s", path, strerror(errno));
	while (readdir(dir))
		nr++;
	(void)closedir(dir);
	return nr - 2;
}

uint32_t count_fds(void)
{
	return count_entries("/proc/self/fd") - 1;
}

uint32_t count_threads(void)
{
	return count_entries("/proc/self/task");
}

uint32_t settle_threads(uint32_t want)
{
	uint32_t nr = count_threads();

	/* A thread that was joined may be listed a little longer. */
	for (uint32_t i = 0; nr > want && i < 1000; i++) {
		sleep_ms(1);
		nr = count_threads();
	}
	return nr;
}

uint32_t count_maps(void)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	static char buf[65536];
	uint32_t nr = 0;
	ssize_t got;

	CHECK(fd >= 0, "/proc/self/maps: %s", strerror(errno));
	while ((got = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			nr += buf[i] == '\n';
	}
	(void)close(fd);
	return nr;
}
