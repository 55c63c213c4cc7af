/* SPDX-License-Identifier: MIT */
/* A memfd that is filled, then mapped. */
#include "baselines/shmem.h"

#include "base/error.h"
#include "base/file_size.h"
#include "base/page.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

int fln_shmem_init(struct fln_shmem *s, uint64_t len_bytes)
{
	int rc;

	s->addr = NULL;
	s->fill = NULL;
	s->len_bytes = len_bytes;
	s->memfd = memfd_create("faultlane-baseline", MFD_CLOEXEC);
	if (s->memfd < 0)
		return fln_fail(errno, "memfd_create: %s", strerror(errno));
	rc = fln_file_size_set(s->memfd, len_bytes);
	if (rc == 0)
		return 0;
	rc = fln_fail(-rc, "cannot make a memfd of %llu bytes: %s%s", (unsigned long long)len_bytes,
		      strerror(-rc), rc == -EFBIG ? "; raise RLIMIT_FSIZE" : "");
	fln_shmem_deinit(s);
	return rc;
}

int fln_shmem_init_huge(struct fln_shmem *s, uint64_t len_bytes)
{
	void *fill = MAP_FAILED;
	int rc;

	s->addr = NULL;
	s->fill = NULL;
	s->len_bytes = len_bytes;
	s->memfd = memfd_create("faultlane-baseline", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (s->memfd >= 0)
		errno = -fln_file_size_set(s->memfd, len_bytes);
	if (s->memfd >= 0 && errno == 0)
		fill = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->memfd, 0);
	if (fill != MAP_FAILED) {
		s->fill = fill;
		return 0;
	}
	rc = fln_fail(errno,
		      "cannot have %llu huge pages of 2 MiB: %s; raise vm.nr_hugepages to that and "
		      "what others use",
		      (unsigned long long)(len_bytes / FLN_BLOCK_BYTES), strerror(errno));
	fln_shmem_deinit(s);
	return rc;
}

int fln_shmem_put(const struct fln_shmem *s, uint64_t offset_bytes, const void *buf,
		  uint64_t len_bytes)
{
	const char *from = buf;

	if (s->fill) {
		memcpy(s->fill + offset_bytes, buf, len_bytes);
		return 0;
	}
	while (len_bytes) {
		ssize_t n = pwrite(s->memfd, from, len_bytes, (off_t)offset_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fln_fail(n ? errno : ENOSPC, "cannot fill memory at offset %llu: %s",
					(unsigned long long)offset_bytes,
					n ? strerror(errno) : "no space");
		from += n;
		offset_bytes += (uint64_t)n;
		len_bytes -= (uint64_t)n;
	}
	return 0;
}

int fln_shmem_map(struct fln_shmem *s)
{
	/* Reserve more, so that a boundary of 2 MiB lies in it; give the rest back. */
	uint64_t reserve_bytes = s->len_bytes + FLN_BLOCK_BYTES;
	char *reserved = mmap(NULL, reserve_bytes, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *addr, *end;

	if (reserved == MAP_FAILED)
		return fln_fail(errno, "cannot reserve %llu bytes of addresses: %s",
				(unsigned long long)reserve_bytes, strerror(errno));
	end = reserved + reserve_bytes;
	addr = reserved +
	       (fln_align_up((uintptr_t)reserved, FLN_BLOCK_BYTES) - (uintptr_t)reserved);
	if (mmap(addr, s->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->memfd, 0) ==
	    MAP_FAILED) {
		int rc = fln_fail(errno, "cannot map %llu bytes: %s",
				  (unsigned long long)s->len_bytes, strerror(errno));

		(void)munmap(reserved, reserve_bytes);
		return rc;
	}
	if (addr > reserved)
		(void)munmap(reserved, (size_t)(addr - reserved));
	if (addr + s->len_bytes < end)
		(void)munmap(addr + s->len_bytes, (size_t)(end - (addr + s->len_bytes)));
	if (s->fill)
		(void)munmap(s->fill, s->len_bytes);
	s->fill = NULL;
	(void)madvise(addr, s->len_bytes, MADV_DONTFORK);
	s->addr = addr;
	return 0;
}

int fln_shmem_populate(const struct fln_shmem *s, uint64_t offset_bytes, uint64_t len_bytes,
		       bool write)
{
	char *addr = (char *)s->addr + offset_bytes;
	int rc;

	/* A signal ends it in the middle; what is mapped stays so. */
	do {
		rc = madvise(addr, len_bytes, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	} while (rc < 0 && (errno == EINTR || errno == EAGAIN));
	if (rc == 0)
		return 0;
	return fln_fail(errno, "cannot populate %llu bytes at offset %llu: %s%s",
			(unsigned long long)len_bytes, (unsigned long long)offset_bytes,
			strerror(errno), errno == EINVAL ? "; it takes Linux 5.14 or newer" : "");
}

int fln_shmem_collapse(const struct fln_shmem *s, uint64_t *large_bytes)
{
	char *end = (char *)s->addr + fln_align_down(s->len_bytes, FLN_BLOCK_BYTES);
	int err = 0;

	*large_bytes = 0;
	for (char *addr = s->addr; addr < end; addr += FLN_BLOCK_BYTES) {
		if (madvise(addr, FLN_BLOCK_BYTES, MADV_COLLAPSE) == 0)
			*large_bytes += FLN_BLOCK_BYTES;
		else
			err = errno;
	}
	if (*large_bytes == 0 && err == EINVAL)
		return fln_fail(ENOTSUP, "this kernel makes no large pages of shared memory; "
					 "Linux 6.1 with CONFIG_TRANSPARENT_HUGEPAGE does");
	if (madvise(s->addr, s->len_bytes, MADV_DONTNEED))
		return fln_fail(errno, "cannot empty the page tables of %llu bytes: %s",
				(unsigned long long)s->len_bytes, strerror(errno));
	return 0;
}

void fln_shmem_deinit(struct fln_shmem *s)
{
	if (s->addr)
		(void)munmap(s->addr, s->len_bytes);
	if (s->fill)
		(void)munmap(s->fill, s->len_bytes);
	s->fill = NULL;
	if (s->memfd >= 0)
		(void)close(s->memfd);
	s->addr = NULL;
	s->memfd = -1;
}
