/* SPDX-License-Identifier: MIT */
/* Times: of figures that have "seconds" and "cpu_seconds". */
#include "bench/reporter.h"

#include <algorithm>

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

} /* namespace */

reporter::reporter(std::unique_ptr<benchmark::BenchmarkReporter> inner) : inner_(std::move(inner))
{
}

bool reporter::ReportContext(const Context &context)
{
	inner_->SetOutputStream(&GetOutputStream());
	inner_->SetErrorStream(&GetErrorStream());
	return inner_->ReportContext(context);
}

void reporter::ReportRuns(const std::vector<Run> &runs)
{
	std::vector<Run> all(runs);

	for (Run &r : all) {
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
