/* SPDX-License-Identifier: MIT */
/*
 * A failed page raises SIGBUS in the thread that touches it (SIGSEGV on kernels without
 * UFFDIO_POISON).  The guard turns that signal into a message and exit status 1.
 */
#ifndef CLI_GUARD_H
#define CLI_GUARD_H

#include <stdint.h>

/*
 * Guard @len_bytes at each of @nr addresses; @addrs must stay valid.  Faults elsewhere get the
 * default action.
 */
void cli_guard_install(char *const *addrs, uint32_t nr, uint64_t len_bytes);
void cli_guard_remove(void);

#endif
