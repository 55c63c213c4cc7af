/* SPDX-License-Identifier: MIT */
/*
 * The memory that a design takes, and memory that is warm before the clock starts.
 */
#ifndef BENCH_USE_H
#define BENCH_USE_H

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

/* What mappings hold, as /proc/self/smaps counts it. */
struct mapped_use {
	uint64_t pss_bytes = 0;       /* a page shared by n mappings, of any process, is 1/n */
	uint64_t anonymous_bytes = 0; /* private copies */
	uint64_t large_bytes = 0;     /* mapped by page-table entries of 2 MiB */
};

/* Of the mappings that begin in [@addrs[i], @addrs[i] + @len_bytes). */
mapped_use use_of(const std::vector<char *> &addrs, uint64_t len_bytes);

/* The page cache that the file of @fd has allocated. */
uint64_t file_bytes(int fd);

/* The page tables of this process. */
uint64_t page_table_bytes();

/* "advise", "never" ...: whether shmem may have folios of 2 MiB; "" if the kernel has none. */
std::string shmem_enabled();

/* Memory that asks for folios of 2 MiB gets them, as far as permission goes. */
bool large_folios_permitted();

/*
 * Allocate @len_bytes by pages of 2 MiB, at most half of what is available, and free them again.
 *
 * A virtual machine may report free pages of 2 MiB to its host, which takes them back: the next
 * touch of one then costs the host's fault as well, many times the kernel's own work.
 * Memory that was in use a moment ago is not affected, so a run that begins
 * right after this measures the design and not the host.  Returns the time that it took, in seconds.
 */
double warm_memory(uint64_t len_bytes);

} /* namespace bench */

#endif
