/* SPDX-License-Identifier: MIT */
/* Mappings without populated pages, even under mlockall() (see map.h). */
#include "base/map.h"

#include "base/plant.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

/*
 * Call munlock() only if the mapping is locked, because seccomp filters may forbid it.
 * MADV_DONTNEED fails on locked mappings only, and so tells.
 */
static int unlock(void *addr, uint64_t len_bytes)
{
	if (madvise(addr, len_bytes, MADV_DONTNEED) == 0)
		return 0;
	return munlock(addr, len_bytes) == 0 ? 0 : -errno;
}

void *fln_map_closed(void *addr, uint64_t len_bytes, int flags, int fd, off_t offset_bytes)
{
	bool early = fln_planted(FLN_BUG_TOUCHED_EARLY);
	void *p = mmap(addr, len_bytes, early ? PROT_READ | PROT_WRITE : PROT_NONE, flags, fd,
		       offset_bytes);
	int rc;

	if (p == MAP_FAILED || early)
		return p;
	/* Until here mlockall() could not populate it: the mapping has no access. */
	rc = unlock(p, len_bytes);
	if (rc == 0)
		return p;
	(void)munmap(p, len_bytes);
	errno = -rc;
	return MAP_FAILED;
}

int fln_map_open(void *addr, uint64_t len_bytes, bool writable)
{
	int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;

	return mprotect(addr, len_bytes, prot) == 0 ? 0 : -errno;
}

const char *fln_map_remedy(int err)
{
	return err == EAGAIN ? "; this process locks its mappings (mlockall(MCL_FUTURE)): raise "
			       "RLIMIT_MEMLOCK or grant CAP_IPC_LOCK"
			     : "";
}
