/* SPDX-License-Identifier: MIT */
/* The image file of `faultlane restore`. */
#include "cli/input.h"

#include "cli/cli.h"
#include "measure/error.h"
#include "measure/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define MAX_BYTES (UINT64_C(1) << 44)

static bool check_size(const char *path, uint64_t len_bytes)
{
	uint64_t available;

	if (len_bytes == 0) {
		measure_error("--image '%s' is empty; give a file of raw memory", path);
		return false;
	}
	if (len_bytes % PAGE_BYTES) {
		uint64_t padded = len_bytes + PAGE_BYTES - len_bytes % PAGE_BYTES;

		measure_error(
			"--image '%s' has %llu bytes, not a multiple of 4096; pad it: truncate -s %llu '%s'",
			path, (unsigned long long)len_bytes, (unsigned long long)padded, path);
		return false;
	}
	if (len_bytes >= MAX_BYTES) {
		measure_error("--image '%s' has %llu bytes; the maximum is below 16 TiB", path,
			      (unsigned long long)len_bytes);
		return false;
	}
	if (measure_memory_available(&available) && len_bytes + len_bytes / 64 > available) {
		measure_error(
			"--image '%s' needs %llu MiB of memory, but only %llu MiB are available; "
			"free some or use a smaller image",
			path, (unsigned long long)((len_bytes + len_bytes / 64) >> 20),
			(unsigned long long)(available >> 20));
		return false;
	}
	return true;
}

bool cli_input_open(struct cli_input *in, const char *path)
{
	struct stat st;

	in->path = path;
	/* O_NONBLOCK: do not block on a FIFO; the type is checked below. */
	in->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (in->fd < 0) {
		measure_error("--image '%s': %s; give a readable file of raw memory", path,
			      strerror(errno));
		return false;
	}
	if (fstat(in->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		measure_error("--image '%s' is not a regular file; copy its contents to one", path);
		cli_input_close(in);
		return false;
	}
	in->len_bytes = (uint64_t)st.st_size;
	if (!check_size(path, in->len_bytes)) {
		cli_input_close(in);
		return false;
	}
	return true;
}

void cli_input_close(struct cli_input *in)
{
	if (in->fd >= 0)
		(void)close(in->fd);
	in->fd = -1;
}

int cli_input_read(const struct cli_input *in, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	char *to = buf;

	while (len_bytes) {
		ssize_t n = pread(in->fd, to, len_bytes, (off_t)offset_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		to += n;
		offset_bytes += (uint64_t)n;
		len_bytes -= (uint64_t)n;
	}
	return 0;
}

bool cli_input_next_data(const struct cli_input *in, uint64_t *lo, uint64_t end, uint64_t *hi)
{
	off_t data = lseek(in->fd, (off_t)*lo, SEEK_DATA);
	off_t hole;

	if (*lo >= end)
		return false;
	if (data < 0) {
		if (errno == ENXIO)
			return false; /* a hole up to the end of the file */
		*hi = end;            /* the file system does not support SEEK_DATA */
		return true;
	}
	if ((uint64_t)data >= end)
		return false;
	hole = lseek(in->fd, data, SEEK_HOLE);
	/* Round to whole pages: the file system's blocks may be smaller. */
	*lo = (uint64_t)data / PAGE_BYTES * PAGE_BYTES;
	*hi = hole < 0 ? end : ((uint64_t)hole + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
	if (*hi > end)
		*hi = end;
	return true;
}
