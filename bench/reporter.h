/* SPDX-License-Identifier: MIT */
/*
 * Google Benchmark's reports with our measured times instead of those of its own clock, which
 * includes the creation and verification of memory.
 *
 * Its own feature for that (manual time) would append "/manual_time" to every name.
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

/* The reporter for --benchmark_format. */
std::unique_ptr<reporter> make_display_reporter();

/* The reporter for --benchmark_out_format. */
std::unique_ptr<reporter> make_file_reporter(const std::string &format);

} /* namespace bench */

#endif
