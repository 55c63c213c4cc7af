/* SPDX-License-Identifier: MIT */
/*
 * Memory as the baselines map it: a memfd, filled through the descriptor, then
 * mapped shared.
 */
#ifndef FLN_BASELINES_SHMEM_H
#define FLN_BASELINES_SHMEM_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shmem {
	int memfd;
	void *addr; /* NULL until it is mapped */
	char *fill; /* of huge pages, which have no write(): where they are filled; else NULL */
	uint64_t len_bytes;
};

/* Make the memfd.  Return: 0 or -errno, with a sentence. */
int fln_shmem_init(struct fln_shmem *s, uint64_t len_bytes);

/* The same of huge pages of 2 MiB, which are reserved by it. */
int fln_shmem_init_huge(struct fln_shmem *s, uint64_t len_bytes);

/* Write whole pages into it; any thread.  Return: 0 or -errno, with a sentence. */
int fln_shmem_put(const struct fln_shmem *s, uint64_t offset_bytes, const void *buf,
		  uint64_t len_bytes);

/* Map it at a multiple of 2 MiB, and not into children.  Return: as above. */
int fln_shmem_map(struct fln_shmem *s);

/*
 * Have the kernel map part of it, without a fault for each page: MADV_POPULATE_READ, or
 * MADV_POPULATE_WRITE with @write.  Any thread.  Return: as above; -EINVAL before Linux 5.14.
 */
int fln_shmem_populate(const struct fln_shmem *s, uint64_t offset_bytes, uint64_t len_bytes,
		       bool write);

/*
 * Turn memory that is filled and mapped into shmem's own large pages, of 2 MiB, which nobody
 * need have reserved, and empty the page tables again.  *@large_bytes: how much of it is so;
 * where the kernel had no large page to give the small ones stay.  Contents stay.
 * Return: as above; -ENOTSUP where the kernel cannot at all (before 6.1, or no large pages
 * of shared memory).
 */
int fln_shmem_collapse(const struct fln_shmem *s, uint64_t *large_bytes);

/* Unmap and close; also after a failed init. */
void fln_shmem_deinit(struct fln_shmem *s);

#endif
