/* SPDX-License-Identifier: MIT */
/*
 * Respects RLIMIT_FSIZE without raising SIGXFSZ, by which the kernel enforces it.
 *
 * A write or an ftruncate() beyond the limit raises SIGXFSZ in the calling thread.  That kills
 * the process; on a thread lent by the embedder it stays pending until the thread gets its own
 * signal mask back, and kills then.  So the limit is checked before each such call; SIGXFSZ can
 * still occur if another thread lowers the limit in between.
 */
#ifndef FLN_BASE_FILE_SIZE_H
#define FLN_BASE_FILE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* Does RLIMIT_FSIZE permit this process to write a file up to @end_bytes? */
bool fln_file_size_permitted(uint64_t end_bytes);

/* RLIMIT_FSIZE, for messages; UINT64_MAX: unlimited. */
uint64_t fln_file_size_limit(void);

/* ftruncate() that never leaves a SIGXFSZ.  Return: 0; -EFBIG beyond RLIMIT_FSIZE; -errno. */
int fln_file_size_set(int fd, uint64_t len_bytes);

#endif
