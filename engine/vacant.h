/* SPDX-License-Identifier: MIT */
/*
 * What the end of a region puts where nobody may read: mappings of a file without pages, which
 * raise SIGBUS as a file does beyond its end; and zeros where a private region's guest gave
 * pages up.
 *
 * Both lie at the file offset that the image's page has, so that /proc/self/maps tells whose
 * place it is, and a later region there finds it again (fln_mapping_check()).
 */
#ifndef FLN_ENGINE_VACANT_H
#define FLN_ENGINE_VACANT_H

#include <stdbool.h>
#include <stdint.h>

/* As /proc/self/maps has it; the same in all engines, because mappings outlive them. */
#define FLN_VACANT_PATH "/memfd:faultlane-unfilled (deleted)"

struct fln_vacant {
	int fd;      /* a memfd of no bytes, sealed; 0 or less: none */
	int zero_fd; /* /dev/zero; 0 or less: none, anonymous memory must do */
	uint64_t zero_device, zero_inode;
};

/* Never fails: what is not there is done without. */
void fln_vacant_open(struct fln_vacant *vacant);
void fln_vacant_close(struct fln_vacant *vacant);

/*
 * Map over a range: a thread that touches it gets SIGBUS.  What is registered there raises UNMAP, which
 * must be read before the call returns.  Return: 0 or -errno; -ENOSYS without the file.
 */
int fln_vacant_map(const struct fln_vacant *vacant, uint64_t addr, uint64_t len_bytes,
		   uint64_t offset_bytes, bool is_private);

/* The same with zeros, the process's own. */
int fln_vacant_map_zeros(const struct fln_vacant *vacant, uint64_t addr, uint64_t len_bytes,
			 uint64_t offset_bytes);

#endif
