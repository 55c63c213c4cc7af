/* SPDX-License-Identifier: MIT */
/* Keeps the library's descriptors above the numbers of the standard streams. */
#include "base/fd.h"

#include "base/plant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_FD 3 /* the first number above the standard streams */

int fln_fd_keep(int fd)
{
	int higher, err;

	if (fd < 0 || fd >= FIRST_FD || fln_planted(FLN_BUG_LOW_DESCRIPTORS))
		return fd;
	higher = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
	err = errno;
	(void)close(fd);
	errno = err;
	return higher;
}

FILE *fln_fd_fopen(const char *path)
{
	int fd = fln_fd_keep(open(path, O_RDONLY | O_CLOEXEC)), err;
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;

	if (fd >= 0 && !f) {
		err = errno;
		(void)close(fd);
		errno = err;
	}
	return f;
}

bool fln_fd_read_number(const char *path, uint32_t nth, uint64_t *out)
{
	FILE *f = fln_fd_fopen(path);
	char line[128], *at = line, *end = line;

	if (!f)
		return false;
	if (fgets(line, sizeof(line), f)) {
		for (uint32_t i = 0; i <= nth; i++) {
			at = end;
			*out = strtoull(at, &end, 10);
		}
	}
	(void)fclose(f);
	return end != at;
}
