/* SPDX-License-Identifier: MIT */
/*
 * What tests of large folios share: a kernel that the test stands for, which gives or refuses them,
 * and folios without an image.
 */
#ifndef FLN_TESTS_FOLIO_KERNEL_H
#define FLN_TESTS_FOLIO_KERNEL_H

#include "base/log.h"
#include "base/map.h"
#include "base/page.h"
#include "sources/folio.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define BYTES(pages) ((uint64_t)(pages)*FLN_PAGE_BYTES)
#define NR_BLOCKS 256u /* of folios without an image */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The kernel of one case. */
static bool gives;             /* large folios */
static int populate_errno;     /* of allocations; 0: they succeed */
static uint32_t nr_interrupts; /* before one succeeds */
static uint32_t nr_populated;
static bool alias_fails;
static void (*on_populate)(void);

int __real_madvise(void *addr, size_t len, int advice);
int __wrap_madvise(void *addr, size_t len, int advice);
int __real_mincore(void *addr, size_t len, unsigned char *vec);
int __wrap_mincore(void *addr, size_t len, unsigned char *vec);
ssize_t __real_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
				 const struct iovec *remote, unsigned long nr_remote,
				 unsigned long flags);
ssize_t __wrap_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
				 const struct iovec *remote, unsigned long nr_remote,
				 unsigned long flags);

int __wrap_madvise(void *addr, size_t len, int advice)
{
	if (advice == MADV_HUGEPAGE)
		return 0;
	if (advice != MADV_POPULATE_WRITE)
		return __real_madvise(addr, len, advice);
	if (on_populate)
		on_populate();
	if (nr_interrupts > 0) {
		nr_interrupts--;
		errno = EINTR;
		return -1;
	}
	errno = populate_errno;
	if (populate_errno)
		return -1;
	nr_populated++;
	for (size_t i = 0; gives && i < FLN_BLOCK_BYTES; i += FLN_PAGE_BYTES)
		*(volatile char *)((char *)fln_align_down((uintptr_t)addr, FLN_BLOCK_BYTES) + i) =
			0;
	*(volatile char *)addr = 0;
	return 0;
}

int __wrap_mincore(void *addr, size_t len, unsigned char *vec)
{
	(void)addr;
	memset(vec, gives, len / FLN_PAGE_BYTES);
	return 0;
}

ssize_t __wrap_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nr_local,
				 const struct iovec *remote, unsigned long nr_remote,
				 unsigned long flags)
{
	if (alias_fails) {
		errno = EFAULT;
		return -1;
	}
	return __real_process_vm_writev(pid, local, nr_local, remote, nr_remote, flags);
}

static inline int reset(void **state)
{
	(void)state;
	gives = true;
	populate_errno = 0;
	nr_interrupts = nr_populated = 0;
	alias_fails = false;
	on_populate = NULL;
	return 0;
}

/* Folios without an image. */
struct bare {
	struct fln_folios f;
	struct fln_log log;
	uint32_t nr_lines;
	struct fln_source *source;
};

static inline void count_line(void *ctx, enum fln_log_level level, const char *msg)
{
	(void)level;
	assert_non_null(strstr(msg, "shmem_enabled"));
	++*(uint32_t *)ctx;
}

static inline void bare_init(struct bare *b, uint64_t spare_pages, struct fln_source *source)
{
	uint64_t len = NR_BLOCKS * FLN_BLOCK_BYTES + BYTES(7);
	struct fln_folio_opts o = { .len_bytes = len, .spare_pages = spare_pages, .name = "bare" };
	uint64_t place;

	memset(b, 0, sizeof(*b));
	b->log = (struct fln_log){ count_line, &b->nr_lines };
	o.log = &b->log;
	o.source = source;
	o.memfd = memfd_create("bare", MFD_CLOEXEC);
	assert_true(o.memfd >= 0);
	assert_int_equal(ftruncate(o.memfd, (off_t)len), 0);
	place = (uint64_t)(uintptr_t)mmap(NULL, len + FLN_BLOCK_BYTES, PROT_NONE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	o.alias = mmap((void *)(uintptr_t)fln_align_up(place, FLN_BLOCK_BYTES), len,
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, o.memfd, 0);
	assert_true(o.alias != MAP_FAILED);
	assert_int_equal(fln_folio_init(&b->f, &o), 0);
}

static inline void bare_deinit(struct bare *b)
{
	(void)munmap(b->f.opts.alias, b->f.opts.len_bytes);
	(void)close(b->f.opts.memfd);
	fln_folio_deinit(&b->f);
	assert_false(fln_folio_begin(&b->f, 0, 1));
}

static inline uint64_t count(const _Atomic uint64_t *counter)
{
	return atomic_load(counter);
}

/* As a fill does. */
static inline bool write_pages(struct bare *b, uint64_t page, uint32_t nr_pages)
{
	bool large = fln_folio_begin(&b->f, page, nr_pages);
	char *buf = calloc(nr_pages, FLN_PAGE_BYTES);

	assert_int_equal(pwrite(b->f.opts.memfd, buf, BYTES(nr_pages), (off_t)BYTES(page)),
			 (ssize_t)BYTES(nr_pages));
	free(buf);
	fln_folio_filled(&b->f, page, nr_pages);
	return large;
}

#endif
