/* SPDX-License-Identifier: MIT */
/*
 * Files against RLIMIT_FSIZE, which the kernel enforces with a signal.
 *
 * A write or an ftruncate() beyond it raises SIGXFSZ in the calling thread, which ends
 * the process, or waits in a lent thread until that runs with its own mask again.  So the
 * limit is asked before each; the signal is only a race with a thread that lowers the limit.
 */
#ifndef FLN_BASE_FILE_SIZE_H
#define FLN_BASE_FILE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* May a file of this process end at @end_bytes? */
bool fln_file_size_permitted(uint64_t end_bytes);

/* The limit, for messages; UINT64_MAX: none. */
uint64_t fln_file_size_limit(void);

/* ftruncate() without a signal.  Return: 0; -EFBIG beyond RLIMIT_FSIZE; -errno. */
int fln_file_size_set(int fd, uint64_t len_bytes);

#endif
