/* SPDX-License-Identifier: MIT */
/* The CPU list for the touching threads: compact, scatter or none. */
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

struct cpu {
	uint64_t id;
	uint64_t package;
	uint64_t core;
	uint64_t smt_index;  /* index among the CPUs of its core */
	uint64_t core_index; /* index of its core in its package */
};

uint64_t read_topology(uint64_t id, const char *attribute)
{
	std::string path = "/sys/devices/system/cpu/cpu" + std::to_string(id) + "/topology/";
	uint64_t n;

	return measure_read_number((path + attribute).c_str(), &n) ? n : 0;
}

/* The CPUs in this process's affinity mask, with their SMT and core indices. */
std::vector<cpu> read_cpus()
{
	std::vector<cpu> all;
	cpu_set_t *set = CPU_ALLOC(MEASURE_MAX_CPUS);
	size_t bytes = CPU_ALLOC_SIZE(MEASURE_MAX_CPUS);

	if (set)
		CPU_ZERO_S(bytes, set);
	if (!set || sched_getaffinity(0, bytes, set) != 0) {
		measure_error("--pin: cannot read this process's CPU affinity: %s; leave --pin out",
			      std::strerror(errno));
		std::exit(1);
	}
	for (uint64_t id = 0; id < MEASURE_MAX_CPUS; id++) {
		if (CPU_ISSET_S(id, bytes, set))
			all.push_back({ id, read_topology(id, "physical_package_id"),
					read_topology(id, "core_id"), 0, 0 });
	}
	CPU_FREE(set);
	std::sort(all.begin(), all.end(), [](const cpu &a, const cpu &b) {
		return std::tie(a.package, a.core, a.id) < std::tie(b.package, b.core, b.id);
	});
	for (size_t i = 1; i < all.size(); i++) {
		const cpu &before = all[i - 1];
		cpu &c = all[i];

		if (c.package != before.package)
			continue;
		c.smt_index = c.core == before.core ? before.smt_index + 1 : 0;
		c.core_index = c.core == before.core ? before.core_index : before.core_index + 1;
	}
	return all;
}

std::string make_list()
{
	std::vector<cpu> all = read_cpus();
	std::string list;

	/* Fill one SMT thread per core first, round-robin over packages. */
	if (opts.pin == pin::scatter)
		std::sort(all.begin(), all.end(), [](const cpu &a, const cpu &b) {
			return std::tie(a.smt_index, a.core_index, a.package, a.id) <
			       std::tie(b.smt_index, b.core_index, b.package, b.id);
		});
	for (const cpu &c : all)
		list += (list.empty() ? "" : ",") + std::to_string(c.id);
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
