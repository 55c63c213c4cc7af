/* SPDX-License-Identifier: MIT */
/*
 * faultlane-bench's own options, besides those of Google Benchmark.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <cstdint>
#include <faultlane/image.h>
#include <string>
#include <vector>

namespace bench {

enum class pin {
	none,
	compact, /* fill cores and packages one after another */
	scatter, /* spread over cores and packages */
};

struct options {
	uint64_t memory_bytes = UINT64_C(1) << 30;
	enum pin pin = pin::none;
	std::vector<uint32_t> threads; /* empty: 1, 2, 4 ... */
	std::vector<uint32_t> windows; /* fixed windows, in addition to the designs' own */
	std::vector<fln_folio> folios; /* of images, in addition to the designs' own */
	uint32_t nr_workers = 0;       /* 0: the engine's default */
	uint32_t nr_shards = 0;        /* 0: the engine's default */
	uint64_t seed = 1;
	double max_others = 0.25; /* average number of processors that other load may use */
	uint32_t nr_retries = 2;  /* of a run in which other load exceeds that */
};

extern options opts;

/*
 * Parse our options and remove them from the arguments, which leaves those of Google
 * Benchmark.  False: invalid, and an error was printed.
 */
bool parse_options(int *argc, char **argv);

/* "4K", "2M": what --folio and names call it. */
const char *folio_name(fln_folio folio);

/* Print the help for our options, then that of Google Benchmark. */
void print_help();

/* Is this option of Google Benchmark set, on the command line or in the environment? */
bool has_flag(int argc, char **argv, const char *name, std::string *value);

} /* namespace bench */

#endif
