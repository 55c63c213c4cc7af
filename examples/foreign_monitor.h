/* SPDX-License-Identifier: MIT */
/* A monitor that restores a microVM: only the part that its page fault handler sees. */
#ifndef FLN_EXAMPLES_FOREIGN_MONITOR_H
#define FLN_EXAMPLES_FOREIGN_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#define MONITOR_PAGE_BYTES 4096u
#define MONITOR_NR_PAGES 8192u

/* The first word of a page of the snapshot. */
static inline uint64_t monitor_word(uint64_t page)
{
	return page + 1;
}

/* Whether a userfaultfd can be created; if not, errno says why. */
bool monitor_can_run(void);

/*
 * Restore from the handler at @socket_path, and read all memory.  Return: an exit status.
 */
int monitor_main(const char *socket_path);

#endif
