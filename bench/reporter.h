/* SPDX-License-Identifier: MIT */
/*
 * Google Benchmark's reports, with the times that were measured in place of those of
 * its own clock, which runs also while memory is made and verified.
 *
 * Its own way to do that (manual time) would add "/manual_time" to every name.
 */
#ifndef BENCH_REPORTER_H
#define BENCH_REPORTER_H

#include <benchmark/benchmark.h>
#include <memory>

namespace bench {

class reporter : public benchmark::BenchmarkReporter {
      public:
	explicit reporter(std::unique_ptr<benchmark::BenchmarkReporter> inner);

	bool ReportContext(const Context &context) override;
	void ReportRuns(const std::vector<Run> &runs) override;
	void Finalize() override;

      private:
	std::unique_ptr<benchmark::BenchmarkReporter> inner_;
};

/* What --benchmark_format asks for. */
std::unique_ptr<reporter> make_display_reporter();

/* What --benchmark_out_format asks for. */
std::unique_ptr<reporter> make_file_reporter(const std::string &format);

} /* namespace bench */

#endif
