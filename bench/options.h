/* SPDX-License-Identifier: MIT */
/*
 * The options of faultlane-bench itself; those of Google Benchmark are its own.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

enum class pin {
	none,
	compact, /* neighbouring processors first */
	scatter, /* processors far from one another first */
};

struct options {
	uint64_t memory_bytes = UINT64_C(1) << 30;
	enum pin pin = pin::none;
	std::vector<uint32_t> threads; /* empty: 1, 2, 4 ... */
	std::vector<uint32_t> windows; /* fixed windows, in addition to the designs' own */
	uint32_t nr_workers = 0;       /* 0: the engine's default */
	uint32_t nr_shards = 0;        /* 0: the engine's default */
	uint64_t seed = 1;
	double max_others = 0.25; /* processors that others may use */
	uint32_t nr_retries = 2;  /* of a run in which they use more */
};

extern options opts;

/*
 * Read our options and take them out of the arguments; the rest is Google Benchmark's.
 * False: what is wrong has been said on stderr.
 */
bool parse_options(int *argc, char **argv);

/* Of our options, after those of Google Benchmark. */
void print_help();

/* Does the command line, or the environment, give this option of Google Benchmark's? */
bool has_flag(int argc, char **argv, const char *name, std::string *value);

} /* namespace bench */

#endif
