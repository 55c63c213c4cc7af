/* SPDX-License-Identifier: MIT */
/* Times: of figures that have "seconds" and "cpu_seconds". */
#include "bench/reporter.h"

#include <algorithm>
#include <cmath>
#include <sstream>

/* Its CSV is marked as deprecated, and still is what --benchmark_out_format offers. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace bench {

namespace {

typedef benchmark::BenchmarkReporter::Run run;

/* Times are divided by the iterations when they are printed; counters are not. */
void put_time(const run &r, const char *counter, double *time)
{
	auto found = r.counters.find(counter);
	bool is_share =
		r.run_type == run::RT_Aggregate && r.aggregate_unit == benchmark::kPercentage;

	if (found == r.counters.end())
		return;
	*time = found->second.value;
	if (!is_share)
		*time *= static_cast<double>(std::max<int64_t>(r.iterations, 1));
}

/* How much nothing varies is not a number, and no JSON either. */
void put_numbers(run &r)
{
	for (auto &counter : r.counters) {
		if (!std::isfinite(counter.second.value))
			counter.second.value = 0;
	}
}

} /* namespace */

reporter::reporter(std::unique_ptr<benchmark::BenchmarkReporter> inner) : inner_(std::move(inner))
{
}

bool reporter::ReportContext(const Context &context)
{
	std::ostringstream said;
	std::string line;
	bool go_on;

	/*
	 * Debian builds its library in a way that makes it say that timings may be
	 * affected: those of its own clock, which is not used.
	 */
	inner_->SetOutputStream(&GetOutputStream());
	inner_->SetErrorStream(&said);
	go_on = inner_->ReportContext(context);
	inner_->SetErrorStream(&GetErrorStream());
	for (std::istringstream lines(said.str()); std::getline(lines, line);) {
		if (line.find("Library was built as DEBUG") == std::string::npos)
			GetErrorStream() << line << '\n';
	}
	return go_on;
}

void reporter::ReportRuns(const std::vector<Run> &runs)
{
	std::vector<Run> all(runs);

	for (Run &r : all) {
		put_numbers(r);
		put_time(r, "seconds", &r.real_accumulated_time);
		put_time(r, "cpu_seconds", &r.cpu_accumulated_time);
	}
	inner_->ReportRuns(all);
}

void reporter::Finalize()
{
	inner_->Finalize();
}

std::unique_ptr<reporter> make_display_reporter()
{
	return std::make_unique<reporter>(std::unique_ptr<benchmark::BenchmarkReporter>(
		benchmark::CreateDefaultDisplayReporter()));
}

std::unique_ptr<reporter> make_file_reporter(const std::string &format)
{
	std::unique_ptr<benchmark::BenchmarkReporter> inner;

	if (format == "csv")
		inner = std::make_unique<benchmark::CSVReporter>();
	else if (format == "console")
		inner = std::make_unique<benchmark::ConsoleReporter>(
			benchmark::ConsoleReporter::OO_None);
	else
		inner = std::make_unique<benchmark::JSONReporter>();
	return std::make_unique<reporter>(std::move(inner));
}

} /* namespace bench */
