/* SPDX-License-Identifier: MIT */
/* Reports the machine and the settings, on which results depend. */
#include "bench/context.h"
#include "bench/host.h"

#include "bench/bench.h"
#include "bench/use.h"
#include "measure/clock.h"
#include "measure/line.h"
#include "measure/machine.h"
#include "measure/tasks.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <dirent.h>
#include <faultlane/faultlane.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr timespec sample_time = { 0, 100000000 };

void add(const char *key, const std::string &value)
{
	benchmark::AddCustomContext(key, value);
}

std::string decimal(double value)
{
	char text[32];

	(void)std::snprintf(text, sizeof(text), "%.3g", value);
	return text;
}

std::string first_line(const std::string &path, const char *begins = "")
{
	char line[512];
	std::string text;

	if (!measure_read_line(path.c_str(), begins, line, sizeof(line)))
		return "unknown";
	text = line;
	text.erase(text.find_last_not_of(" \n\t") + 1);
	return text;
}

uint32_t count_nodes()
{
	DIR *dir = opendir("/sys/devices/system/node");
	uint32_t nr = 0;

	while (const dirent *entry = dir ? readdir(dir) : nullptr) {
		unsigned n;

		nr += std::sscanf(entry->d_name, "node%u", &n) == 1;
	}
	if (dir)
		(void)closedir(dir);
	return nr;
}

/* The vulnerabilities of this processor, as "meltdown: Mitigation: PTI | ...". */
std::string mitigations()
{
	const std::string folder = "/sys/devices/system/cpu/vulnerabilities";
	DIR *dir = opendir(folder.c_str());
	std::vector<std::string> all;
	std::string text;

	while (const dirent *entry = dir ? readdir(dir) : nullptr) {
		std::string name = entry->d_name;

		if (name[0] == '.')
			continue;
		std::string state = first_line(folder + "/" + name);
		if (state != "Not affected")
			all.push_back(name + ": " + state);
	}
	if (!dir)
		return "unknown";
	(void)closedir(dir);
	std::sort(all.begin(), all.end());
	for (const std::string &one : all)
		text += (text.empty() ? "" : " | ") + one;
	return text.empty() ? "none" : text;
}

/*
 * The measured time of a touch without a fault: the lower bound of any touch,
 * including clock and histogram.
 */
uint64_t touch_overhead_ns()
{
	auto h = std::make_unique<fln_histogram>();
	volatile uint64_t word = 0;
	uint64_t from = measure_ticks();

	for (unsigned i = 0; i < 10000; i++) {
		word = i;
		uint64_t to = measure_ticks();
		fln_histogram_record(h.get(), measure_ticks_between_ns(from, to));
		from = to;
	}
	return word ? fln_histogram_quantile(h.get(), 0.5) : 0;
}

double others_now()
{
	measure_usage from, to;

	measure_usage_read(&from);
	(void)nanosleep(&sample_time, nullptr);
	measure_usage_read(&to);
	return measure_usage_others(&from, &to);
}

std::string processor_name()
{
	std::string line = first_line("/proc/cpuinfo", "model name");
	size_t colon = line.find(": ");

	return colon == std::string::npos ? line : line.substr(colon + 2);
}

void add_machine()
{
	utsname u = {};
	uint64_t available = 0;

	(void)uname(&u);
	(void)measure_memory_available(&available);
	add("faultlane", fln_version());
	add("kernel", std::string(u.release) + " " + u.version + " " + u.machine);
	add("processor", processor_name());
	add("processors_allowed", std::to_string(measure_nr_cpus()));
	add("nodes", std::to_string(count_nodes()));
	add("memory_available_mib", std::to_string(available >> 20));
	add("mitigations", mitigations());
	add("thp", first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
	add("thp_shmem", first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"));
	add("large_folios",
	    large_folios_permitted()
		    ? "permitted"
		    : "not permitted: no kernel_huge, and the engine's images are in "
		      "folios of 4 KiB");
	add("governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
	add("kvm", access("/dev/kvm", R_OK | W_OK) == 0 ? "usable" : "not usable");
	add("hypervisor",
	    first_line("/proc/cpuinfo", "flags").find(" hypervisor") == std::string::npos
		    ? "no, or not known"
		    : "yes: this machine is virtual");
}

void add_settings()
{
	static const char *const pins[] = { "none", "compact", "scatter" };

	add("memory_under_test_bytes", std::to_string(opts.memory_bytes));
	add("pin", pins[static_cast<int>(opts.pin)]);
	add("workers", opts.nr_workers ? std::to_string(opts.nr_workers) : "default");
	add("shards", opts.nr_shards ? std::to_string(opts.nr_shards) : "default");
	add("seed", std::to_string(opts.seed));
	add("max_others", decimal(opts.max_others));
	add("retries", std::to_string(opts.nr_retries));
	add("memory_warmed", "before each run, as much as it touches, at most half of what is "
			     "available: allocated in pages of 2 MiB, and freed again");
	add("user_mode_only", user_mode_only() ? "yes" : "no");
}

} /* namespace */

void add_context()
{
	add_machine();
	add_settings();
	add("clock", measure_clock_is_counter ? "time-stamp counter" : "clock_gettime");
	add("touch_overhead_ns", std::to_string(touch_overhead_ns()));
	add("runqueue_wait", measure_tasks_have_wait()
				     ? "counted"
				     : "not counted: no /proc/<pid>/schedstat (CONFIG_SCHED_INFO)");
	add("cpu_used_by_others_at_start", decimal(others_now()));
}

} /* namespace bench */
