/* SPDX-License-Identifier: MIT */
/* faultlane-bench: parses options, registers the benchmark families and runs them. */
#include "bench/bench.h"
#include "bench/context.h"
#include "bench/reporter.h"
#include "measure/clock.h"
#include "measure/error.h"
#include "measure/machine.h"

#include <algorithm>
#include <cstdlib>

namespace bench {

namespace {

constexpr uint32_t max_threads = 256;

struct registered {
	const char *name;
	void (*register_all)();
};

std::vector<registered> &families()
{
	static std::vector<registered> all;

	return all;
}

struct crowd {
	crowd() : all(measure_crowd_create())
	{
	}

	~crowd()
	{
		measure_crowd_destroy(all);
	}

	crowd(const crowd &) = delete;
	crowd &operator=(const crowd &) = delete;
	measure_crowd *all;
};

/*
 * Override defaults of Google Benchmark: one iteration (each page is touched once) instead of
 * iterating for half a second; and repetitions interleaved between designs.
 */
std::vector<std::string> default_flags(int argc, char **argv)
{
	std::vector<std::string> flags;
	std::string value;

	if (!has_flag(argc, argv, "min_time", &value))
		flags.push_back("--benchmark_min_time=0");
	if (!has_flag(argc, argv, "enable_random_interleaving", &value) &&
	    has_flag(argc, argv, "repetitions", &value) && std::atoi(value.c_str()) > 1)
		flags.push_back("--benchmark_enable_random_interleaving=true");
	return flags;
}

void initialize(int argc, char **argv)
{
	std::vector<std::string> flags = default_flags(argc, argv);
	std::vector<char *> args(argv, argv + argc);

	for (std::string &flag : flags)
		args.push_back(&flag[0]);
	args.push_back(nullptr);
	argc = static_cast<int>(args.size()) - 1;
	benchmark::Initialize(&argc, args.data(), print_help);
	if (benchmark::ReportUnrecognizedArguments(argc, args.data()))
		std::exit(2);
}

bool lists(int argc, char **argv)
{
	std::string value;

	return has_flag(argc, argv, "list_tests", &value) && value != "false" && value != "0";
}

int run_all(int argc, char **argv)
{
	std::string file, format;
	bool to_file = has_flag(argc, argv, "out", &file) && !file.empty();
	std::unique_ptr<reporter> display = make_display_reporter();
	std::unique_ptr<reporter> out;
	size_t nr;

	if (to_file) {
		(void)has_flag(argc, argv, "out_format", &format);
		out = make_file_reporter(format);
	}
	if (!lists(argc, argv)) {
		measure_clock_init();
		add_context();
	}
	nr = benchmark::RunSpecifiedBenchmarks(display.get(), out.get());
	benchmark::Shutdown();
	return nr == 0 || any_failed() ? 1 : 0;
}

} /* namespace */

family::family(const char *name, void (*register_all)())
{
	families().push_back({ name, register_all });
}

measure_crowd *the_crowd()
{
	static crowd c;

	return c.all;
}

std::vector<uint32_t> thread_counts()
{
	std::vector<uint32_t> all = opts.threads;
	uint32_t most = std::max(max_threads, measure_nr_cpus());

	for (uint32_t nr = 1; opts.threads.empty() && nr <= most; nr *= 2)
		all.push_back(nr);
	if (opts.threads.empty() && all.back() < most)
		all.push_back(most);
	return all;
}

bool spoils()
{
	return std::getenv("FAULTLANE_BENCH_SPOIL") != nullptr;
}

int run_main(int argc, char **argv)
{
	measure_guard_output();
	if (!parse_options(&argc, argv))
		return 2;
	initialize(argc, argv);
	/* Sort by name, so that the order of linking does not matter. */
	std::sort(families().begin(), families().end(),
		  [](const registered &a, const registered &b) {
			  return std::string(a.name) < b.name;
		  });
	for (const registered &f : families())
		f.register_all();
	return run_all(argc, argv);
}

} /* namespace bench */

int main(int argc, char **argv)
{
	return bench::run_main(argc, argv);
}
