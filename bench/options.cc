/* SPDX-License-Identifier: MIT */
/* Parses faultlane-bench's own options: "--name=value" or "--name value". */
#include "bench/options.h"

#include "measure/error.h"

#include <benchmark/benchmark.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

options opts;

namespace {

bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out, const char **end)
{
	char *at;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = std::strtoull(text, &at, 10);
	*end = at;
	return errno == 0 && *out >= min && *out <= max;
}

bool refuse(const char *name, const char *value, const char *remedy)
{
	measure_error("%s '%s': %s", name, value, remedy);
	return false;
}

bool parse_u32(const char *name, const char *value, uint32_t min, uint32_t max, uint32_t *out)
{
	const char *end;
	uint64_t n;

	if (!parse_number(value, min, max, &n, &end) || *end != '\0') {
		measure_error("%s '%s': give a whole number from %u to %u", name, value, min, max);
		return false;
	}
	*out = static_cast<uint32_t>(n);
	return true;
}

/* Parse a list such as "1,16,256"; @powers: powers of two only. */
bool parse_list(const char *name, const char *value, uint32_t max, bool powers,
		std::vector<uint32_t> *out)
{
	const char *at = value;

	out->clear();
	for (;;) {
		uint64_t n;

		if (!parse_number(at, 1, max, &n, &at) || (powers && (n & (n - 1))))
			break;
		out->push_back(static_cast<uint32_t>(n));
		if (*at == '\0')
			return true;
		if (*at++ != ',')
			break;
	}
	measure_error("%s '%s': give %s from 1 to %u, with commas between them", name, value,
		      powers ? "powers of two" : "whole numbers", max);
	return false;
}

/* Parse a size such as "1G", "64M", "65536K" or bytes; rounded up to 2 MiB. */
bool parse_size(const char *name, const char *value, uint64_t *out)
{
	constexpr uint64_t min = UINT64_C(2) << 20, max = UINT64_C(16) << 40;
	const char *remedy = "give a size from 2M to 16T, such as 512M or 4G";
	const char *end;
	uint64_t n;
	unsigned shift = 0;

	if (!parse_number(value, 1, max, &n, &end))
		return refuse(name, value, remedy);
	switch (*end) {
	case 'K':
		shift = 10;
		break;
	case 'M':
		shift = 20;
		break;
	case 'G':
		shift = 30;
		break;
	case 'T':
		shift = 40;
		break;
	default:
		break;
	}
	if (end[shift ? 1 : 0] != '\0' || n > max >> shift || n << shift < min)
		return refuse(name, value, remedy);
	*out = ((n << shift) + min - 1) / min * min;
	return true;
}

bool set_memory(const char *name, const char *value)
{
	return parse_size(name, value, &opts.memory_bytes);
}

bool set_pin(const char *name, const char *value)
{
	if (std::strcmp(value, "none") == 0)
		opts.pin = pin::none;
	else if (std::strcmp(value, "compact") == 0)
		opts.pin = pin::compact;
	else if (std::strcmp(value, "scatter") == 0)
		opts.pin = pin::scatter;
	else
		return refuse(name, value, "use compact, scatter or none");
	return true;
}

bool set_threads(const char *name, const char *value)
{
	return parse_list(name, value, 16384, false, &opts.threads);
}

bool set_window(const char *name, const char *value)
{
	return parse_list(name, value, 512, true, &opts.windows);
}

/* Parse a list of folio sizes, "4K", "2M" or both. */
bool set_folio(const char *name, const char *value)
{
	const char *at = value;

	opts.folios.clear();
	for (;;) {
		size_t len = std::strcspn(at, ",");
		std::string word(at, len);

		if (word == folio_name(FLN_FOLIO_SMALL))
			opts.folios.push_back(FLN_FOLIO_SMALL);
		else if (word == folio_name(FLN_FOLIO_LARGE))
			opts.folios.push_back(FLN_FOLIO_LARGE);
		else
			return refuse(name, value, "give 4K, 2M or 4K,2M");
		if (at[len] == '\0')
			return true;
		at += len + 1;
	}
}

bool set_workers(const char *name, const char *value)
{
	return parse_u32(name, value, 0, 64, &opts.nr_workers);
}

bool set_shards(const char *name, const char *value)
{
	return parse_u32(name, value, 0, 1024, &opts.nr_shards);
}

bool set_seed(const char *name, const char *value)
{
	const char *end;

	if (parse_number(value, 0, UINT64_MAX, &opts.seed, &end) && *end == '\0')
		return true;
	return refuse(name, value, "give a whole number");
}

bool set_max_others(const char *name, const char *value)
{
	char *end;

	opts.max_others = std::strtod(value, &end);
	if (end != value && *end == '\0' && opts.max_others >= 0)
		return true;
	return refuse(name, value, "give a number of processors, such as 0.25");
}

bool set_retries(const char *name, const char *value)
{
	return parse_u32(name, value, 0, 100, &opts.nr_retries);
}

struct option {
	const char *name;
	bool (*set)(const char *name, const char *value);
	const char *help;
};

const option table[] = {
	{ "--memory", set_memory,
	  "SIZE  memory that is touched, such as 512M or 4G (1G, or FAULTLANE_BENCH_MEMORY)" },
	{ "--threads", set_threads, "N,...  touching threads (1,2,4 ... 256)" },
	{ "--pin", set_pin, "compact|scatter|none  one processor for each touching thread (none)" },
	{ "--window", set_window,
	  "N,...  also benchmarks with fixed windows of N pages, named .../window:N" },
	{ "--folio", set_folio,
	  "4K,2M  also the engine's benchmarks with images in folios of that size, named "
	  ".../folio:4K/..." },
	{ "--workers", set_workers, "N  workers of the engine (0: its default)" },
	{ "--shards", set_shards, "N  shards of the engine (0: its default)" },
	{ "--seed", set_seed, "N  of the choice and the order of pages (1)" },
	{ "--max-others", set_max_others,
	  "N  a run in which others use more processors is noisy (0.25)" },
	{ "--retries", set_retries, "N  how often a noisy run is measured again (2)" },
};

/* Find the option that @arg names; *value: what follows "=", or nullptr. */
const option *find(const char *arg, const char **value)
{
	for (const option &o : table) {
		size_t len = std::strlen(o.name);

		if (std::strncmp(arg, o.name, len) != 0)
			continue;
		*value = arg[len] == '=' ? arg + len + 1 : nullptr;
		if (arg[len] == '=' || arg[len] == '\0')
			return &o;
	}
	return nullptr;
}

} /* namespace */

bool parse_options(int *argc, char **argv)
{
	const char *memory = std::getenv("FAULTLANE_BENCH_MEMORY");
	int kept = 1;

	if (memory && !set_memory("FAULTLANE_BENCH_MEMORY", memory))
		return false;
	for (int i = 1; i < *argc; i++) {
		const char *value;
		const option *o = find(argv[i], &value);

		if (!o) {
			argv[kept++] = argv[i];
			continue;
		}
		if (!value && i + 1 < *argc)
			value = argv[++i];
		if (!value) {
			measure_error("%s needs a value", o->name);
			return false;
		}
		if (!o->set(o->name, value))
			return false;
	}
	*argc = kept;
	argv[kept] = nullptr;
	return true;
}

const char *folio_name(fln_folio folio)
{
	return folio == FLN_FOLIO_SMALL ? "4K" : folio == FLN_FOLIO_LARGE ? "2M" : "auto";
}

void print_help()
{
	(void)std::printf(
		"faultlane-bench measures how page faults are served, by several designs\n"
		"\n"
		"usage: faultlane-bench [OPTIONS] [--benchmark_OPTIONS]\n"
		"\n");
	for (const option &o : table)
		(void)std::printf("  %s %s\n", o.name, o.help);
	(void)std::printf("\nand of Google Benchmark:\n\n");
	benchmark::PrintDefaultHelp();
}

bool has_flag(int argc, char **argv, const char *name, std::string *value)
{
	std::string flag = std::string("--benchmark_") + name;
	std::string variable = std::string("BENCHMARK_") + name;
	const char *env;

	for (char &c : variable)
		c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
	for (int i = 1; i < argc; i++) {
		if (flag == argv[i]) {
			*value = "true";
			return true;
		}
		if ((flag + "=").compare(0, flag.size() + 1, argv[i], flag.size() + 1) == 0) {
			*value = argv[i] + flag.size() + 1;
			return true;
		}
	}
	env = std::getenv(variable.c_str());
	if (env)
		*value = env;
	return env != nullptr;
}

} /* namespace bench */
