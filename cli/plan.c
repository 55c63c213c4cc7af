/* SPDX-License-Identifier: MIT */
/* `faultlane doctor --plan`: passes its options to fln_plan_print(). */
#include "cli/plan.h"

#include "cli/cli.h"
#include "cli/number.h"
#include "measure/error.h"

#include <errno.h>
#include <faultlane/faultlane.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum opt {
	OPT_PLAN = 256,
	OPT_TOPOLOGY,
	OPT_VCPUS,
	OPT_MEMORY,
	OPT_WORKERS,
	OPT_SHARDS,
	OPT_WORKER_CPUS,
	OPT_VCPU_CPUS,
	OPT_JSON,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "plan", no_argument, NULL, OPT_PLAN },
	{ "topology", required_argument, NULL, OPT_TOPOLOGY },
	{ "vcpus", required_argument, NULL, OPT_VCPUS },
	{ "memory", required_argument, NULL, OPT_MEMORY },
	{ "workers", required_argument, NULL, OPT_WORKERS },
	{ "shards", required_argument, NULL, OPT_SHARDS },
	{ "worker-cpus", required_argument, NULL, OPT_WORKER_CPUS },
	{ "vcpu-cpus", required_argument, NULL, OPT_VCPU_CPUS },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static const char help[] =
	"usage: faultlane doctor --plan [OPTIONS]\n"
	"\n"
	"Shows where the engine's workers would run, which processors are left to vCPUs,\n"
	"and which node serves which part of a guest's memory.  Nothing is started.\n"
	"\n"
	"  --topology WHAT     a file of 'lstopo file.xml', or hwloc's description, such as\n"
	"                      'pack:2 [numa(memory=512GB)] l3:4 core:16 pu:2' (this machine)\n"
	"  --vcpus N           vCPUs of the guest\n"
	"  --memory SIZE       its memory, such as 64G\n"
	"  --workers N         threads that answer faults, 1 to 64\n"
	"  --shards N          userfaultfds of the guest, 1 to 1024\n"
	"  --worker-cpus LIST  processors that workers may have, such as 0-3,8\n"
	"  --vcpu-cpus LIST    processors that vCPUs run on\n"
	"  --json              one JSON object\n"
	"\n"
	"Exit status: 0; 1 when the plan cannot be made; 2 for a wrong command line.\n";

bool cli_plan_wanted(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--plan") == 0)
			return true;
	}
	return false;
}

/* Parse a number of bytes, with an optional suffix K, M, G or T. */
static int parse_size(const char *value, uint64_t *out)
{
	static const char units[] = "KMGT";
	char *end = NULL;
	unsigned long long n = 0;
	const char *unit;
	unsigned int shift = 0;

	errno = 0;
	if (value[0] >= '0' && value[0] <= '9')
		n = strtoull(value, &end, 10);
	unit = end && *end ? strchr(units, *end) : NULL;
	if (unit) {
		shift = 10u * (unsigned int)(unit - units + 1);
		end++;
	}
	if (!end || *end || errno || n == 0 || n > UINT64_MAX >> shift) {
		measure_error("--memory '%s': give a size such as 64G", value);
		return CLI_USAGE;
	}
	*out = (uint64_t)n << shift;
	return CLI_OK;
}

/* @value is an XML file if it exists or ends in .xml; else a synthetic description. */
static void set_topology(struct fln_plan_opts *o, const char *value)
{
	size_t len = strlen(value);

	o->xml = o->synthetic = NULL;
	if (access(value, F_OK) == 0 || (len > 4 && strcmp(value + len - 4, ".xml") == 0))
		o->xml = value;
	else
		o->synthetic = value;
}

static int parse_one(struct fln_plan_opts *o, enum fln_plan_format *format, int opt,
		     const char *value)
{
	switch (opt) {
	case OPT_PLAN:
		return CLI_OK;
	case OPT_TOPOLOGY:
		set_topology(o, value);
		return CLI_OK;
	case OPT_VCPUS:
		return cli_parse_u32("vcpus", value, 1, 1u << 20, &o->nr_vcpus);
	case OPT_MEMORY:
		return parse_size(value, &o->memory_bytes);
	case OPT_WORKERS:
		return cli_parse_u32("workers", value, 1, 64, &o->nr_workers);
	case OPT_SHARDS:
		return cli_parse_u32("shards", value, 1, 1024, &o->nr_shards);
	case OPT_WORKER_CPUS:
		o->worker_cpus = value;
		return CLI_OK;
	case OPT_VCPU_CPUS:
		o->vcpu_cpus = value;
		return CLI_OK;
	default:
		*format = FLN_PLAN_JSON;
		return CLI_OK;
	}
}

static int print_plan(const struct fln_plan_opts *o, enum fln_plan_format format)
{
	int64_t len = fln_plan_print(o, format, NULL, 0);
	char *buf = len < 0 ? NULL : malloc((size_t)len + 1);
	int status = CLI_OK;

	if (len >= 0 && !buf) {
		measure_error("out of memory for a plan of %lld bytes", (long long)len);
		return CLI_FAILED;
	}
	if (len >= 0)
		len = fln_plan_print(o, format, buf, (size_t)len + 1);
	if (len < 0) {
		measure_error("%s", fln_last_error());
		status = len == -EINVAL ? CLI_USAGE : CLI_FAILED;
	} else if (fputs(buf, stdout) < 0 || fflush(stdout) != 0) {
		measure_error("cannot write the plan to standard output");
		status = CLI_FAILED;
	}
	free(buf);
	return status;
}

int cli_plan(int argc, char **argv)
{
	struct fln_plan_opts o = FLN_PLAN_OPTS_INIT;
	enum fln_plan_format format = FLN_PLAN_TEXT;

	opterr = 0;
	for (;;) {
		int at = optind;
		int opt = getopt_long(argc, argv, "+:", long_options, NULL);
		int rc;

		if (opt == -1)
			break;
		if (opt == OPT_HELP) {
			(void)fputs(help, stdout);
			return CLI_OK;
		}
		if (opt == '?' || opt == ':') {
			measure_error(opt == ':'
					      ? "option '%s' needs a value; see 'faultlane doctor "
						"--plan --help'"
					      : "unknown option '%s'; see 'faultlane doctor "
						"--plan --help'",
				      argv[at]);
			return CLI_USAGE;
		}
		rc = parse_one(&o, &format, opt, optarg);
		if (rc)
			return rc;
	}
	if (optind < argc) {
		measure_error("unexpected argument '%s'; describe a machine with --topology",
			      argv[optind]);
		return CLI_USAGE;
	}
	return print_plan(&o, format);
}
