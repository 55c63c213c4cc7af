/* SPDX-License-Identifier: MIT */
/* Which processor each touching thread runs on. */
#include "bench/bench.h"
#include "measure/cpus.h"
#include "measure/error.h"
#include "measure/line.h"
#include "measure/machine.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sched.h>
#include <tuple>

namespace bench {

namespace {

struct processor {
	uint64_t number;
	uint64_t package;
	uint64_t core;
	uint64_t sibling; /* among those of its core */
	uint64_t rank;    /* of its core among those of its package */
};

uint64_t topology(uint64_t number, const char *what)
{
	std::string path = "/sys/devices/system/cpu/cpu" + std::to_string(number) + "/topology/";
	uint64_t n;

	return measure_read_number((path + what).c_str(), &n) ? n : 0;
}

/* Those that this process may run on. */
std::vector<processor> processors()
{
	std::vector<processor> all;
	cpu_set_t *set = CPU_ALLOC(MEASURE_MAX_CPUS);
	size_t bytes = CPU_ALLOC_SIZE(MEASURE_MAX_CPUS);

	if (set)
		CPU_ZERO_S(bytes, set);
	if (!set || sched_getaffinity(0, bytes, set) != 0) {
		measure_error("--pin: cannot read this process's CPU affinity: %s; leave --pin out",
			      std::strerror(errno));
		std::exit(1);
	}
	for (uint64_t n = 0; n < MEASURE_MAX_CPUS; n++) {
		if (CPU_ISSET_S(n, bytes, set))
			all.push_back({ n, topology(n, "physical_package_id"),
					topology(n, "core_id"), 0, 0 });
	}
	CPU_FREE(set);
	std::sort(all.begin(), all.end(), [](const processor &a, const processor &b) {
		return std::tie(a.package, a.core, a.number) <
		       std::tie(b.package, b.core, b.number);
	});
	for (size_t i = 1; i < all.size(); i++) {
		const processor &before = all[i - 1];
		processor &p = all[i];

		if (p.package != before.package)
			continue;
		p.sibling = p.core == before.core ? before.sibling + 1 : 0;
		p.rank = p.core == before.core ? before.rank : before.rank + 1;
	}
	return all;
}

std::string make_list()
{
	std::vector<processor> all = processors();
	std::string list;

	/* One thread for each core before cores get a second one; packages take turns. */
	if (opts.pin == pin::scatter)
		std::sort(all.begin(), all.end(), [](const processor &a, const processor &b) {
			return std::tie(a.sibling, a.rank, a.package, a.number) <
			       std::tie(b.sibling, b.rank, b.package, b.number);
		});
	for (const processor &p : all)
		list += (list.empty() ? "" : ",") + std::to_string(p.number);
	return list;
}

} /* namespace */

const char *pin_cpus()
{
	static std::string list;

	if (opts.pin == pin::none)
		return nullptr;
	if (list.empty())
		list = make_list();
	return list.c_str();
}

} /* namespace bench */
