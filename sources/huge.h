/* SPDX-License-Identifier: MIT */
/*
 * The page cache of images of huge pages: where hugetlbfs differs from shmem.
 */
#ifndef FLN_SOURCES_HUGE_H
#define FLN_SOURCES_HUGE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/*
 * Ensure that the huge page holding @page is allocated, zero-filled if it was absent.
 * Blocks while the kernel clears it.  Return: 0; -ENOSPC or -ENOMEM when the pool is empty.
 */
int fln_huge_allocate(struct fln_image *image, uint64_t page);

/* fln_image_write() and fln_image_punch() for hugetlbfs. */
int fln_huge_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages);
int fln_huge_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages);

/*
 * Copy through the alias.  It was mapped writable at creation, so a later F_SEAL_FUTURE_WRITE
 * does not block it.  Return: 0; -EFAULT when the copy would fault or @buf is unreadable; -errno.
 */
int fln_alias_write(const struct fln_image *image, uint64_t at, const char *buf, uint64_t len);
/* Write zeros through the alias to pages [page, end).  Return: 0; -errno. */
int fln_alias_zero(const struct fln_image *image, uint64_t page, uint64_t end);

/*
 * An allocation of @nr_huge huge pages has failed with @err.
 * Return: -err, and sets fln_last_error() with the counts of the pool.
 */
int fln_huge_fail(const struct fln_image *image, int err, uint64_t nr_huge);

/* Is process_vm_writev() to this process permitted (seccomp)?  Return: 0; -EOPNOTSUPP. */
int fln_huge_check_writev(const struct fln_image *image);

#endif
