/* SPDX-License-Identifier: MIT */
/* A source in this process's memory.  It has no holes. */
#include "base/cancel.h"
#include "base/error.h"
#include "sources/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

struct memory {
	const char *addr;
	uint64_t len_bytes;
};

/*
 * Copy with an error where memcpy() would raise SIGBUS, because a mapped file was truncated.
 * Only wrappers of the source copy; fills do without (fln_source_fetch()).
 */
static int64_t copy_out(void *buf, const char *from, uint64_t len)
{
	struct iovec local = { buf, len }, remote = { (void *)(uintptr_t)from, len };
	ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	if (n < 0 && errno == EFAULT)
		return fln_fail(EFAULT,
				"its memory is unreadable: the mapped file was truncated, or "
				"nothing is mapped; leave it unchanged while it is in use");
	return n < 0 ? -errno : n;
}

static int64_t memory_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	const struct memory *m = ctx;

	if (offset_bytes >= m->len_bytes)
		return 0;
	if (len_bytes > m->len_bytes - offset_bytes)
		len_bytes = m->len_bytes - offset_bytes;
	return copy_out(buf, m->addr + offset_bytes, len_bytes);
}

int fln_source_from_memory(const void *addr, uint64_t len_bytes, struct fln_source **out)
{
	FLN_UNCANCELLABLE;
	const struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "memory",
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = memory_read,
		.destroy = free,
	};
	struct memory *m;
	int rc;

	if (!addr || !out)
		return fln_fail(EINVAL, "fln_source_from_memory: %s is NULL",
				addr ? "out" : "addr");
	if (len_bytes == 0 || len_bytes > UINTPTR_MAX - (uintptr_t)addr)
		return fln_fail(
			EINVAL,
			"fln_source_from_memory: length %llu at address %p; the length must be "
			"positive and the range end inside the address space",
			(unsigned long long)len_bytes, addr);
	m = malloc(sizeof(*m));
	if (!m)
		return fln_fail(ENOMEM, "no memory for a source");
	m->addr = addr;
	m->len_bytes = len_bytes;
	rc = fln_source_make(&ops, m, len_bytes, out);
	if (rc)
		free(m);
	else
		(*out)->memory = addr;
	return rc;
}
