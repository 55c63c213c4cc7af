/* SPDX-License-Identifier: MIT */
/*
 * Mappings that take the place of a region's pages when it is closed: of an empty file over
 * unfilled pages, where a touch raises SIGBUS, as it does beyond the end of any file; of zeros
 * over pages that the guest of a private region has discarded.
 *
 * Both are mapped at the file offset that the image's page had, so that /proc/self/maps tells
 * what they replace, and a later region at that address recognises them (fln_mapping_check()).
 * Used by the thread that closes a region, in the guest's turn.
 */
#ifndef FLN_ENGINE_VACANT_H
#define FLN_ENGINE_VACANT_H

#include <stdbool.h>
#include <stdint.h>

/* As in /proc/self/maps.  The same for all engines, because mappings outlive them. */
#define FLN_VACANT_PATH "/memfd:faultlane-unfilled (deleted)"

struct fln_vacant {
	int fd;      /* a sealed memfd of size 0; 0 or less: none */
	int zero_fd; /* /dev/zero; 0 or less: none, anonymous memory is mapped instead */
	uint64_t zero_device, zero_inode;
};

/* Never fails: a descriptor that cannot be opened is left unset. */
void fln_vacant_open(struct fln_vacant *vacant);
void fln_vacant_close(struct fln_vacant *vacant);

/*
 * Map the empty file over a range: touching it raises SIGBUS.  If the range is registered the
 * kernel queues an UNMAP event, and the call sleeps until another thread has read it.
 * Return: 0 or -errno; -ENOSYS without the memfd.
 */
int fln_vacant_map(const struct fln_vacant *vacant, uint64_t addr, uint64_t len_bytes,
		   uint64_t offset_bytes, bool is_private);

/* The same with private zeros. */
int fln_vacant_map_zeros(const struct fln_vacant *vacant, uint64_t addr, uint64_t len_bytes,
			 uint64_t offset_bytes);

#endif
