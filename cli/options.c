/* SPDX-License-Identifier: MIT */
/* Parses the command line of `faultlane restore`. */
#include "cli/options.h"

#include "cli/cli.h"
#include "cli/number.h"
#include "measure/cpus.h"
#include "measure/error.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const cli_design_names[CLI_NR_DESIGNS] = {
	[CLI_ENGINE] = "engine",
	[CLI_SINGLE] = "single",
	[CLI_SINGLE_WINDOW] = "single_window",
	[CLI_KERNEL] = "kernel",
};
const char *const cli_order_names[CLI_NR_ORDERS] = { "random", "sequential" };
const char *const cli_op_names[CLI_NR_OPS] = { "read", "write" };
const char *const cli_advice_names[CLI_NR_ADVICES] = { "normal", "sequential", "random" };
const char *const cli_delivery_names[CLI_NR_DELIVERIES] = { "queued", "in-context" };
const char *const cli_source_names[CLI_NR_SOURCES] = { "memory", "file" };
const char *const cli_page_size_names[CLI_NR_PAGE_SIZES] = { "4K", "2M" };
const char *const cli_folio_names[CLI_NR_FOLIOS] = { "auto", "4K", "2M" };
const char *const cli_release_names[CLI_NR_RELEASES] = { "auto", "never" };
const char *const cli_sharing_names[CLI_NR_SHARINGS] = { "shared", "private" };

#define MAX_THREADS 4096u
#define MAX_WINDOW 512u
#define MAX_SHARDS 1024u
#define MAX_WORKERS 64u
#define MAX_GUESTS 1024u
#define MAX_NODE 1023u

enum opt {
	OPT_IMAGE = 256,
	OPT_THREADS,
	OPT_ORDER,
	OPT_OP,
	OPT_DESIGN,
	OPT_WINDOW,
	OPT_WINDOW_FIRST,
	OPT_WINDOW_MAX,
	OPT_SHARDS,
	OPT_WORKERS,
	OPT_WORKER_CPUS,
	OPT_VCPU_CPUS,
	OPT_NODE,
	OPT_SOURCE,
	OPT_SHARING,
	OPT_PAGE_SIZE,
	OPT_FOLIO,
	OPT_RELEASE,
	OPT_PHASES,
	OPT_GUESTS,
	OPT_DELIVERY,
	OPT_ADVICE,
	OPT_POPULATE,
	OPT_LOCK,
	OPT_DENSITY,
	OPT_DELAY_MS,
	OPT_PREFILL,
	OPT_SPIN_US,
	OPT_NO_PIN,
	OPT_KEEP_NICE,
	OPT_SEED,
	OPT_USER_MODE_ONLY,
	OPT_JSON,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "image", required_argument, NULL, OPT_IMAGE },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "order", required_argument, NULL, OPT_ORDER },
	{ "op", required_argument, NULL, OPT_OP },
	{ "design", required_argument, NULL, OPT_DESIGN },
	{ "window", required_argument, NULL, OPT_WINDOW },
	{ "window-first", required_argument, NULL, OPT_WINDOW_FIRST },
	{ "window-max", required_argument, NULL, OPT_WINDOW_MAX },
	{ "shards", required_argument, NULL, OPT_SHARDS },
	{ "workers", required_argument, NULL, OPT_WORKERS },
	{ "worker-cpus", required_argument, NULL, OPT_WORKER_CPUS },
	{ "vcpu-cpus", required_argument, NULL, OPT_VCPU_CPUS },
	{ "node", required_argument, NULL, OPT_NODE },
	{ "source", required_argument, NULL, OPT_SOURCE },
	{ "sharing", required_argument, NULL, OPT_SHARING },
	{ "page-size", required_argument, NULL, OPT_PAGE_SIZE },
	{ "folio", required_argument, NULL, OPT_FOLIO },
	{ "release", required_argument, NULL, OPT_RELEASE },
	{ "phases", required_argument, NULL, OPT_PHASES },
	{ "guests", required_argument, NULL, OPT_GUESTS },
	{ "delivery", required_argument, NULL, OPT_DELIVERY },
	{ "advice", required_argument, NULL, OPT_ADVICE },
	{ "populate", no_argument, NULL, OPT_POPULATE },
	{ "lock", no_argument, NULL, OPT_LOCK },
	{ "density", required_argument, NULL, OPT_DENSITY },
	{ "delay-ms", required_argument, NULL, OPT_DELAY_MS },
	{ "prefill", no_argument, NULL, OPT_PREFILL },
	{ "spin-us", required_argument, NULL, OPT_SPIN_US },
	{ "no-pin", no_argument, NULL, OPT_NO_PIN },
	{ "keep-nice", no_argument, NULL, OPT_KEEP_NICE },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "user-mode-only", no_argument, NULL, OPT_USER_MODE_ONLY },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static const char help[] =
	"usage: faultlane restore --image FILE [OPTIONS]\n"
	"\n"
	"Restores a memory image lazily: threads touch its pages, once each, while the\n"
	"design under test maps them; then every touched page is compared with FILE.\n"
	"\n"
	"  --image FILE        raw memory; its size is a multiple of 4096\n"
	"  --threads N         touching threads, 1 to 4096 (16)\n"
	"  --order ORDER       random (every thread all over the memory) or sequential\n"
	"                      (every thread through its own part) (random)\n"
	"  --op OP             read or write (read)\n"
	"  --density D         touch one page in D, chosen at random (1)\n"
	"  --phases N          2: touch half of the pages, let the guest settle (what is being\n"
	"                      filled or released ends), then touch the rest; figures for each,\n"
	"                      and the pages of each are verified (1)\n"
	"  --seed S            of all random choices (1)\n"
	"  --design DESIGN     engine         faultlane\n"
	"                      single         one userfaultfd, one thread, one page a fault\n"
	"                      single_window  the same with the engine's windows\n"
	"                      kernel         the same mapping with no userfaultfd\n"
	"                      (engine)\n"
	"  --page-size SIZE    4K; or 2M, of engine and kernel: huge pages, of which enough must\n"
	"                      be free (sysctl vm.nr_hugepages), and FILE is a multiple of it (4K)\n"
	"  --vcpu-cpus LIST    processors of the touching threads, which get one each in turn;\n"
	"                      the engine's workers keep off them\n"
	"  --json              one JSON object on standard output\n"
	"\n"
	"of engine and single_window:\n"
	"  --window N          a fixed window of N pages, a power of two, 1 to 512\n"
	"  --window-first N    what the first fault in 2 MiB maps\n"
	"  --window-max N      what a fault maps at most\n"
	"\n"
	"of engine:\n"
	"  --shards N          userfaultfds, 1 to 1024\n"
	"  --workers N         threads that answer faults, 1 to 64\n"
	"  --worker-cpus LIST  processors that workers may have, such as 0-3,8\n"
	"  --node N            have the memory and what serves it on this NUMA node\n"
	"  --spin-us N         how long a worker polls before it sleeps; 0: not at all\n"
	"  --no-pin            leave workers to the scheduler\n"
	"  --keep-nice         do not let workers go before the touching threads\n"
	"  --advice ADVICE     normal, sequential or random: what is said of the memory (normal)\n"
	"  --populate          fill and map all of it before the clock starts\n"
	"  --lock              the same, and lock it in memory\n"
	"  --delivery HOW      queued: workers answer faults; in-context: every thread its\n"
	"                      own, in a signal handler (queued)\n"
	"  --folio SIZE        what the image's memory is allocated in: auto, 4K, or 2M with no\n"
	"                      bound on what that takes beyond what is filled (auto)\n"
	"  --release WHEN      auto: memory whose contents are there leaves its userfaultfd, block by\n"
	"                      block, and the kernel serves it; never: the engine keeps it (auto)\n"
	"  --source SOURCE     memory: FILE is read before the clock starts; file: it is\n"
	"                      read while its pages are touched (memory)\n"
	"  --delay-ms MS       with --source file: reads of every second 256 KiB take MS longer\n"
	"  --guests N          guests of one image, 1 to 1024, each with its part of the threads;\n"
	"                      each touches the same pages (1)\n"
	"  --sharing SHARING   shared: writes are the image's; private: a guest's own, and all\n"
	"                      of every guest and of the image is verified (shared)\n"
	"  --prefill           with --source file: fill the other 256 KiB parts beforehand\n"
	"\n"
	"  --user-mode-only    ask for userfaultfds that need no privilege (chosen by itself\n"
	"                      where nothing else is permitted)\n";

static int parse_window(const char *option, const char *value, uint32_t *out)
{
	uint32_t n;
	int rc = cli_parse_u32(option, value, 1, MAX_WINDOW, &n);

	if (rc)
		return rc;
	if (n & (n - 1)) {
		measure_error("--%s '%s': give a power of two from 1 to %u pages", option, value,
			      MAX_WINDOW);
		return CLI_USAGE;
	}
	*out = n;
	return CLI_OK;
}

/* The index of @value in @names; -1, after an error message. */
static int parse_name(const char *option, const char *value, const char *const *names, int nr)
{
	char list[128] = "";
	size_t len = 0;

	for (int i = 0; i < nr; i++) {
		int n;

		if (strcmp(value, names[i]) == 0)
			return i;
		n = snprintf(list + len, sizeof(list) - len, "%s%s",
			     i == 0 ? "" : (i == nr - 1 ? " or " : ", "), names[i]);
		len += n > 0 && (size_t)n < sizeof(list) - len ? (size_t)n : 0;
	}
	measure_error("--%s: unknown value '%s'; use %s", option, value, list);
	return -1;
}

/* Options whose value is one of several words, stored as an enum. */
static const struct choice {
	int opt;
	int nr;
	const char *const *names;
	size_t offset; /* in struct cli_options */
} choices[] = {
	{ OPT_ORDER, CLI_NR_ORDERS, cli_order_names, offsetof(struct cli_options, order) },
	{ OPT_OP, CLI_NR_OPS, cli_op_names, offsetof(struct cli_options, op) },
	{ OPT_DESIGN, CLI_NR_DESIGNS, cli_design_names, offsetof(struct cli_options, design) },
	{ OPT_SHARING, CLI_NR_SHARINGS, cli_sharing_names, offsetof(struct cli_options, sharing) },
	{ OPT_ADVICE, CLI_NR_ADVICES, cli_advice_names, offsetof(struct cli_options, advice) },
	{ OPT_DELIVERY, CLI_NR_DELIVERIES, cli_delivery_names,
	  offsetof(struct cli_options, delivery) },
	{ OPT_PAGE_SIZE, CLI_NR_PAGE_SIZES, cli_page_size_names,
	  offsetof(struct cli_options, page_size) },
	{ OPT_FOLIO, CLI_NR_FOLIOS, cli_folio_names, offsetof(struct cli_options, folio) },
	{ OPT_RELEASE, CLI_NR_RELEASES, cli_release_names, offsetof(struct cli_options, release) },
	{ OPT_SOURCE, CLI_NR_SOURCES, cli_source_names, offsetof(struct cli_options, source) },
};

_Static_assert(sizeof(enum cli_order) == sizeof(int), "parse_choice() stores an int");

static int parse_choice(struct cli_options *o, int opt, const char *option, const char *value)
{
	const struct choice *c = choices;
	int n;

	while (c->opt != opt)
		c++;
	n = parse_name(option, value, c->names, c->nr);
	if (n < 0)
		return CLI_USAGE;
	memcpy((char *)o + c->offset, &n, sizeof(n));
	return CLI_OK;
}

static int parse_cpus(const char *option, const char *value, const char **out)
{
	if (measure_cpus_count(value) == 0) {
		measure_error("--%s '%s': give a list of processors such as 0-3,8", option, value);
		return CLI_USAGE;
	}
	*out = value;
	return CLI_OK;
}

static int parse_node(const char *option, const char *value, int64_t *out)
{
	uint32_t n;
	int rc = cli_parse_u32(option, value, 0, MAX_NODE, &n);

	if (rc == CLI_OK)
		*out = n;
	return rc;
}

static int parse_numeric(struct cli_options *o, int opt, const char *option, const char *value)
{
	int rc;

	switch (opt) {
	case OPT_THREADS:
		return cli_parse_u32(option, value, 1, MAX_THREADS, &o->nr_threads);
	case OPT_WINDOW:
		rc = parse_window(option, value, &o->window_first);
		o->window_max = o->window_first;
		return rc;
	case OPT_WINDOW_FIRST:
		return parse_window(option, value, &o->window_first);
	case OPT_WINDOW_MAX:
		return parse_window(option, value, &o->window_max);
	case OPT_SHARDS:
		return cli_parse_u32(option, value, 1, MAX_SHARDS, &o->nr_shards);
	case OPT_GUESTS:
		return cli_parse_u32(option, value, 1, MAX_GUESTS, &o->nr_guests);
	case OPT_WORKERS:
		return cli_parse_u32(option, value, 1, MAX_WORKERS, &o->nr_workers);
	case OPT_NODE:
		return parse_node(option, value, &o->node);
	case OPT_DENSITY:
		return cli_parse_u32(option, value, 1, UINT32_MAX, &o->density);
	case OPT_PHASES:
		return cli_parse_u32(option, value, 1, CLI_MAX_PHASES, &o->nr_phases);
	case OPT_DELAY_MS:
		return cli_parse_u64(option, value, 0, 60000, &o->delay_ms);
	case OPT_SPIN_US:
		return cli_parse_u64(option, value, 0, 1000000, &o->spin_us);
	default:
		return cli_parse_u64(option, value, 0, UINT64_MAX, &o->seed);
	}
}

static int parse_one(struct cli_options *o, int opt, const char *option, const char *value)
{
	switch (opt) {
	case OPT_IMAGE:
		o->image = value;
		return CLI_OK;
	case OPT_ORDER:
	case OPT_OP:
	case OPT_DESIGN:
	case OPT_ADVICE:
	case OPT_DELIVERY:
	case OPT_SOURCE:
	case OPT_SHARING:
	case OPT_PAGE_SIZE:
	case OPT_FOLIO:
	case OPT_RELEASE:
		return parse_choice(o, opt, option, value);
	case OPT_WORKER_CPUS:
		return parse_cpus(option, value, &o->worker_cpus);
	case OPT_VCPU_CPUS:
		return parse_cpus(option, value, &o->vcpu_cpus);
	case OPT_POPULATE:
		o->populate = true;
		return CLI_OK;
	case OPT_LOCK:
		o->lock = true;
		return CLI_OK;
	case OPT_PREFILL:
		o->prefill = true;
		return CLI_OK;
	case OPT_NO_PIN:
		o->pin = false;
		return CLI_OK;
	case OPT_KEEP_NICE:
		o->keep_nice = true;
		return CLI_OK;
	case OPT_USER_MODE_ONLY:
		o->user_mode_only = true;
		return CLI_OK;
	case OPT_JSON:
		o->json = true;
		return CLI_OK;
	default:
		return parse_numeric(o, opt, option, value);
	}
}

int cli_options_parse(struct cli_options *o, int argc, char **argv, bool *done)
{
	*o = (struct cli_options){ .nr_threads = 16,
				   .nr_guests = 1,
				   .node = -1,
				   .density = 1,
				   .nr_phases = 1,
				   .spin_us = UINT64_MAX,
				   .seed = 1,
				   .pin = true };
	*done = false;
	opterr = 0;
	for (;;) {
		int index = 0;
		int at = optind;
		int opt = getopt_long(argc, argv, "+:", long_options, &index);
		int rc;

		if (opt == -1)
			break;
		if (opt == OPT_HELP) {
			(void)fputs(help, stdout);
			*done = true;
			return CLI_OK;
		}
		if (opt == '?' || opt == ':') {
			measure_error(
				opt == ':'
					? "option '%s' needs a value; see 'faultlane restore --help'"
					: "unknown option '%s'; see 'faultlane restore --help'",
				argv[at]);
			return CLI_USAGE;
		}
		rc = parse_one(o, opt, long_options[index].name, optarg);
		if (rc)
			return rc;
	}
	if (optind < argc) {
		measure_error("unexpected argument '%s'; name an image with --image", argv[optind]);
		return CLI_USAGE;
	}
	return CLI_OK;
}
