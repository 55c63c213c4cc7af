/* SPDX-License-Identifier: MIT */
/* Reads the counters of each design. */
#include "cli/counters.h"

#include "cli/memory_state.h"
#include "measure/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Entries of /proc/self/pagemap: one of 8 bytes for each page. */
#define PAGEMAP_ENTRIES 512u
#define PAGEMAP_FILE (UINT64_C(1) << 61) /* of the page cache */
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)

static void handler_counters(struct cli_memory *m, struct cli_counters *out)
{
	struct fln_handler_stats from;

	fln_handler_stats(m->handler, &from);
	out->stats.faults = from.faults;
	out->stats.refaults = from.refaults;
	out->stats.zero = from.zero;
	out->stats.minor = from.faults - from.zero;
	out->stats.resumed = from.faults - from.failed;
	out->stats.failed = from.failed;
	out->stats.pages_installed = from.pages_installed;
	out->stats.pages_raced = from.pages_raced;
	out->stats.installs = from.installs;
	out->stats.wakes = from.wakes;
	out->stats.reads = from.reads;
	out->stats.service = from.service;
	out->stats.userfaultfds = 1;
}

/* Add one guest's counters to @to. */
static bool add_guest_counters(struct fln_guest *guest, struct fln_stats *to)
{
	struct fln_stats s = FLN_STATS_INIT;
	int rc = fln_guest_stats(guest, &s);

	if (rc)
		return cli_memory_failed("fln_guest_stats() failed", rc);
	to->faults += s.faults;
	to->minor += s.minor;
	to->major += s.major;
	to->zero += s.zero;
	to->invalid += s.invalid;
	to->refaults += s.refaults;
	to->resumed += s.resumed;
	to->poisoned += s.poisoned;
	to->failed += s.failed;
	to->in_flight += s.in_flight;
	to->pages_installed += s.pages_installed;
	to->pages_raced += s.pages_raced;
	to->installs += s.installs;
	to->wakes += s.wakes;
	to->reads += s.reads;
	to->map_bytes += s.map_bytes;
	to->released_bytes += s.released_bytes;
	to->released_faults += s.released_faults;
	to->userfaultfds += s.userfaultfds;
	fln_histogram_merge(&to->service, &s.service);
	return true;
}

/* What the page cache behind the memory takes, and how much of it is filled. */
static bool add_memory(struct cli_memory *m, struct cli_counters *out)
{
	struct fln_memory_stats memory = FLN_MEMORY_STATS_INIT;
	struct stat st;
	int rc;

	if (m->o.design == CLI_ENGINE) {
		rc = fln_image_memory_stats(m->image, &memory);
		if (rc)
			return cli_memory_failed("fln_image_memory_stats() failed", rc);
		out->filled_bytes = memory.filled_bytes;
		out->memory_bytes = memory.memory_bytes;
		out->large_blocks = memory.large_blocks;
		return true;
	}
	if (fstat(m->shmem.memfd, &st) != 0) {
		measure_error("cannot tell how much memory is allocated: %s", strerror(errno));
		return false;
	}
	out->filled_bytes = m->in->len_bytes;
	out->memory_bytes = (uint64_t)st.st_blocks * 512;
	return true;
}

bool cli_counters_read(struct cli_memory *m, struct cli_counters *out)
{
	memset(out, 0, sizeof(*out));
	out->stats.size = sizeof(out->stats);
	if (!add_memory(m, out))
		return false;
	if (m->o.design == CLI_KERNEL)
		return true;
	out->window_first = 1;
	out->window_max = 1;
	out->nr_shards = 1;
	out->nr_workers = 1;
	if (m->o.design != CLI_SINGLE) {
		out->window_first = m->o.window_first;
		out->window_max = m->o.window_max;
		(void)fln_handler_window_defaults(&out->window_first, &out->window_max);
	}
	if (m->o.design != CLI_ENGINE) {
		handler_counters(m, out);
		return true;
	}
	out->nr_shards = 0;
	out->nr_workers = fln_engine_nr_workers(m->engine);
	for (uint32_t i = 0; i < m->o.nr_guests; i++) {
		out->nr_shards += fln_guest_nr_shards(m->guests[i]);
		if (!add_guest_counters(m->guests[i], &out->stats))
			return false;
	}
	return true;
}

/* A page of a private mapping that is not the page cache's is the guest's own. */
static bool is_copy(uint64_t entry)
{
	return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && !(entry & PAGEMAP_FILE);
}

static bool add_copied(int fd, const char *addr, uint64_t nr_pages, uint64_t *bytes)
{
	uint64_t entries[PAGEMAP_ENTRIES];
	uint64_t first = (uint64_t)(uintptr_t)addr / 4096;

	for (uint64_t page = 0; page < nr_pages;) {
		uint64_t nr = nr_pages - page < PAGEMAP_ENTRIES ? nr_pages - page : PAGEMAP_ENTRIES;
		ssize_t got = pread(fd, entries, nr * sizeof(entries[0]),
				    (off_t)((first + page) * sizeof(entries[0])));

		if (got < (ssize_t)sizeof(entries[0])) {
			measure_error("cannot read /proc/self/pagemap: %s",
				      got < 0 ? strerror(errno) : "it ends early");
			return false;
		}
		nr = (uint64_t)got / sizeof(entries[0]);
		for (uint64_t i = 0; i < nr; i++)
			*bytes += is_copy(entries[i]) ? 4096 : 0;
		page += nr;
	}
	return true;
}

bool cli_counters_copied(const struct cli_memory *m, uint64_t *bytes)
{
	bool ok = true;
	int fd;

	*bytes = 0;
	if (m->o.sharing != CLI_PRIVATE)
		return true;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		measure_error("cannot open /proc/self/pagemap: %s; is /proc mounted?",
			      strerror(errno));
		return false;
	}
	for (uint32_t i = 0; ok && i < m->o.nr_guests; i++)
		ok = add_copied(fd, m->addrs[i], m->in->len_bytes / 4096, bytes);
	(void)close(fd);
	return ok;
}
