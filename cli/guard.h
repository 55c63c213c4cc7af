/* SPDX-License-Identifier: MIT */
/*
 * A page that cannot be served raises SIGBUS in the thread that touches it (SIGSEGV on kernels
 * that cannot poison).  The guard turns that into a message and exit status 1.
 */
#ifndef CLI_GUARD_H
#define CLI_GUARD_H

#include <stdint.h>

/*
 * Guard @len_bytes at each of @nr addresses, which stay the caller's; signals from
 * elsewhere take their usual course.
 */
void cli_guard_install(char *const *addrs, uint32_t nr, uint64_t len_bytes);
void cli_guard_remove(void);

#endif
