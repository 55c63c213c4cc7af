/* SPDX-License-Identifier: MIT */
/* Respects RLIMIT_FSIZE without raising SIGXFSZ (see file_size.h). */
#include "base/file_size.h"

#include "base/signals.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

uint64_t fln_file_size_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur;
}

bool fln_file_size_permitted(uint64_t end_bytes)
{
	return end_bytes <= fln_file_size_limit();
}

int fln_file_size_set(int fd, uint64_t len_bytes)
{
	struct fln_signals_ours ours;
	int rc = 0;

	if (!fln_file_size_permitted(len_bytes))
		return -EFBIG;
	fln_signals_ours_begin(&ours);
	if (ftruncate(fd, (off_t)len_bytes) != 0)
		rc = -errno;
	fln_signals_ours_end(&ours);
	return rc;
}
