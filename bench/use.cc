/* SPDX-License-Identifier: MIT */
/* Reads what memory a design takes, and warms memory. */
#include "bench/use.h"

#include "bench/c.h"
#include "measure/clock.h"
#include "measure/crew.h"
#include "measure/line.h"
#include "measure/machine.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#include <sys/stat.h>

namespace bench {

namespace {

/* Large enough that threads do not meet at mmap_lock for each page. */
constexpr uint64_t warm_piece_bytes = UINT64_C(32) << 20;

bool touch_piece(measure_crew *crew, uint64_t item)
{
	char *at = static_cast<char *>(crew->ctx) + item * warm_piece_bytes;

	/* Where it fails (before Linux 5.14, no memory), memory stays as it is. */
	(void)madvise(at, warm_piece_bytes, MADV_POPULATE_WRITE);
	return true;
}

} /* namespace */

mapped_use use_of(const std::vector<char *> &addrs, uint64_t len_bytes)
{
	std::unique_ptr<FILE, int (*)(FILE *)> smaps(std::fopen("/proc/self/smaps", "re"),
						     std::fclose);
	std::vector<uint64_t> begins;
	mapped_use sum;
	uint64_t kib;
	bool counts = false;
	char line[512], *end;

	for (const char *addr : addrs)
		begins.push_back(reinterpret_cast<uintptr_t>(addr));
	std::sort(begins.begin(), begins.end());
	while (smaps && std::fgets(line, sizeof(line), smaps.get())) {
		uint64_t at = std::strtoull(line, &end, 16);

		if (end > line && *end == '-') {
			auto after = std::upper_bound(begins.begin(), begins.end(), at);

			counts = after != begins.begin() && at - *(after - 1) < len_bytes;
		} else if (!counts) {
			continue;
		} else if (std::sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
			sum.pss_bytes += kib << 10;
		} else if (std::sscanf(line, "Anonymous: %" SCNu64, &kib) == 1) {
			sum.anonymous_bytes += kib << 10;
		} else if (std::sscanf(line, "ShmemPmdMapped: %" SCNu64, &kib) == 1) {
			sum.large_bytes += kib << 10;
		}
	}
	return sum;
}

uint64_t file_bytes(int fd)
{
	constexpr uint64_t sector_bytes = 512; /* of st_blocks */
	struct stat s;

	return fstat(fd, &s) == 0 ? static_cast<uint64_t>(s.st_blocks) * sector_bytes : 0;
}

uint64_t page_table_bytes()
{
	char line[128];
	uint64_t kib = 0;

	if (measure_read_line("/proc/self/status", "VmPTE:", line, sizeof(line)))
		(void)std::sscanf(line, "VmPTE: %" SCNu64, &kib);
	return kib << 10;
}

std::string shmem_enabled()
{
	char line[128];
	std::string text;
	size_t from, to;

	if (!measure_read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "", line,
			       sizeof(line)))
		return "";
	text = line;
	from = text.find('[');
	to = text.find(']');
	return from == std::string::npos || to == std::string::npos
		       ? ""
		       : text.substr(from + 1, to - from - 1);
}

bool large_folios_permitted()
{
	std::string word = shmem_enabled();

	return !word.empty() && word != "never" && word != "deny";
}

double warm_memory(uint64_t len_bytes)
{
	uint64_t start_ns = measure_now_ns(), have;
	measure_crew crew;
	void *at;

	if (measure_memory_available(&have))
		len_bytes = std::min(len_bytes, have / 2);
	len_bytes = (len_bytes + warm_piece_bytes - 1) / warm_piece_bytes * warm_piece_bytes;
	at = mmap(nullptr, len_bytes, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return 0;
	(void)madvise(at, len_bytes, MADV_HUGEPAGE);
	(void)measure_crew_run(&crew, nullptr, len_bytes / warm_piece_bytes, touch_piece, at);
	(void)munmap(at, len_bytes);
	return static_cast<double>(measure_now_ns() - start_ns) / 1e9;
}

} /* namespace bench */
