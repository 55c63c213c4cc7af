/* SPDX-License-Identifier: MIT */
/*
 * Huge pages: what hugetlbfs does otherwise than shmem.
 */
#ifndef FLN_SOURCES_HUGE_H
#define FLN_SOURCES_HUGE_H

#include <stdbool.h>
#include <stdint.h>

struct fln_image;

/*
 * See to it that the huge page at @page is in the page cache, made of zeros where it was
 * not: nothing is changed where it was.  Return: 0; -ENOSPC or -ENOMEM when none is left.
 */
int fln_image_allocate(struct fln_image *image, uint64_t page);

/* As fln_image_write() and fln_image_punch(), for hugetlb. */
int fln_huge_write(struct fln_image *image, uint64_t page, const void *buf, uint32_t nr_pages);
int fln_huge_punch(struct fln_image *image, uint64_t page, uint64_t nr_pages);

/*
 * Copy into the alias, which no later seal forbids.  Return: 0; -EFAULT where memcpy()
 * would fault, or @buf cannot be read; -errno.
 */
int fln_alias_write(const struct fln_image *image, uint64_t at, const char *buf, uint64_t len);
/* The same, with zeros: pages [page, end). */
int fln_alias_zero(const struct fln_image *image, uint64_t page, uint64_t end);

/*
 * A call for @nr_pages huge pages has failed with @err for want of them.
 * Return: -err, with a sentence that counts them.
 */
int fln_huge_fail(const struct fln_image *image, int err, uint64_t nr_pages);

/* Can images of huge pages be written here?  Return: 0; -EOPNOTSUPP, with the remedy. */
int fln_huge_check(const struct fln_image *image);

#endif
