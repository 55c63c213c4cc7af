/* SPDX-License-Identifier: MIT */
/* Replaces reported times by the counters "seconds" and "cpu_seconds". */
#include "bench/reporter.h"

#include <algorithm>
#include <cmath>
#include <sstream>

/* CSVReporter is deprecated, but --benchmark_out_format still offers it. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace bench {

namespace {

typedef benchmark::BenchmarkReporter::Run run;

/* Multiply by the iterations: Google Benchmark divides times, but not counters, by them. */
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

/* Replace NaN (the coefficient of variation of zeros), which JSON cannot represent. */
void replace_nan(run &r)
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
	std::ostringstream errors;
	std::string line;
	bool go_on;

	/*
	 * Debian's build of the library warns that timings may be affected.  That concerns
	 * its own clock, which we do not use: filter the warning.
	 */
	inner_->SetOutputStream(&GetOutputStream());
	inner_->SetErrorStream(&errors);
	go_on = inner_->ReportContext(context);
	inner_->SetErrorStream(&GetErrorStream());
	for (std::istringstream lines(errors.str()); std::getline(lines, line);) {
		if (line.find("Library was built as DEBUG") == std::string::npos)
			GetErrorStream() << line << '\n';
	}
	return go_on;
}

void reporter::ReportRuns(const std::vector<Run> &runs)
{
	std::vector<Run> all(runs);

	for (Run &r : all) {
		replace_nan(r);
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
