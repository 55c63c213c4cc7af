/* SPDX-License-Identifier: MIT */
/* The command line. */
#include "stress/options.h"

#include <errno.h>
#include <faultlane/image.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEFAULT_MAX_WAIT_S 120.0
#else
#define DEFAULT_MAX_WAIT_S 30.0
#endif

const char *const chaos_names[CHAOS_NR] = {
	[CHAOS_DISCARD] = "discard",
	[CHAOS_FORK] = "fork",
	[CHAOS_REMAP] = "remap",
	[CHAOS_UNMAP] = "unmap",
	[CHAOS_REGIONS] = "regions",
	[CHAOS_RESTART] = "restart",
	[CHAOS_SIGNALS] = "signals",
	[CHAOS_SOURCE_ERRORS] = "source-errors",
	[CHAOS_SHORT_READS] = "short-reads",
	[CHAOS_SLOW_SOURCE] = "slow-source",
	[CHAOS_STALL] = "stall",
	[CHAOS_DESCRIPTORS] = "descriptors",
	[CHAOS_MAPPINGS] = "mappings",
	[CHAOS_MEMORY] = "memory",
	[CHAOS_CONVERGENCE] = "convergence",
	[CHAOS_STAMPEDE] = "stampede",
	[CHAOS_HUGE] = "huge",
	[CHAOS_PAUSE] = "pause",
	[CHAOS_EMULATED] = "emulated",
	[CHAOS_HOST] = "host",
	[CHAOS_NEIGHBOURS] = "neighbours",
	[CHAOS_OWED] = "owed",
	[CHAOS_ADDRESSES] = "addresses",
	[CHAOS_FOREIGN] = "foreign",
	[CHAOS_RELEASE] = "release",
};

static void usage(FILE *to)
{
	(void)fprintf(
		to,
		"usage: faultlane-stress [OPTIONS]\n"
		"\n"
		"Hundreds of threads touch lazily served memory under injected trouble; every page\n"
		"that is read is verified, every fault accounted for.\n"
		"\n"
		"  --threads N       touching threads (default 200)\n"
		"  --memory SIZE     such as 512M or 2G (default 1G)\n"
		"  --seconds S       length of the run (default 10)\n"
		"  --touches T       or the number of touches in all\n"
		"  --chaos LIST      the trouble: all, none (default), or some of\n"
		"                    ");
	for (uint32_t i = 0; i < CHAOS_NR; i++)
		(void)fprintf(to, "%s%s%s", chaos_names[i], i + 1 < CHAOS_NR ? "," : "\n",
			      i % 8 == 7 && i + 1 < CHAOS_NR ? "\n                    " : "");
	(void)fprintf(
		to,
		"  --seed X          seed of all random choices (default 1)\n"
		"  --guest threads|kvm   touch from threads or KVM vCPUs (default threads)\n"
		"  --sharing shared|private    the image's writes, or each guest's own (default shared)\n"
		"  --delivery queued|in-context  how faults are served (default queued)\n"
		"  --layout one|random   one region, or many of several images (default one)\n"
		"  --page-size 4K|2M (default 4K)\n"
		"  --folio auto|4K|2M    what images are allocated in (default auto; with a random\n"
		"                    layout some images of each)\n"
		"  --max-wait S      a touch that takes longer is lost (default %.0f, vCPUs %.0f)\n"
		"  --until-wrong     end at the first error\n"
		"  --workers N, --shards N, --window PAGES   engine options\n"
		"  --user-mode-only  userfaultfds that need no privilege\n"
		"  --json            the summary as JSON\n"
		"  --quiet           no status line\n"
		"\n"
		"Exits 0 when nothing was wrong, lost or left behind; 1 when something was; 2\n"
		"for a wrong command line; 77 when this machine cannot run it.\n",
		DEFAULT_MAX_WAIT_S, 2 * DEFAULT_MAX_WAIT_S);
}

static int wrong(const char *option, const char *value, const char *remedy)
{
	(void)fprintf(stderr, "faultlane-stress: --%s '%s': %s\n", option, value, remedy);
	return 2;
}

static int parse_u64(const char *s, uint64_t lo, uint64_t hi, uint64_t *out)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v < lo || v > hi)
		return -1;
	*out = v;
	return 0;
}

static int parse_size(const char *s, uint64_t *out)
{
	char *end;
	unsigned long long v;
	int shift = 0;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || end == s || *s == '-')
		return -1;
	if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	if (shift && end[1] != '\0')
		return -1;
	if (!shift && *end)
		return -1;
	v <<= shift;
	if (v < (UINT64_C(4) << 20) || v > (UINT64_C(1) << 40) || v % (UINT64_C(2) << 20))
		return -1;
	*out = v;
	return 0;
}

static int parse_seconds(const char *s, double *out)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(s, &end);
	if (errno || end == s || *end || !isfinite(v) || v <= 0 || v > 1e7)
		return -1;
	*out = v;
	return 0;
}

static int parse_chaos(const char *list, uint32_t *out)
{
	const char *at = list;
	uint32_t bits = 0;

	while (*at) {
		size_t len = strcspn(at, ",");
		uint32_t i;

		for (i = 0; i < CHAOS_NR; i++) {
			if (strlen(chaos_names[i]) == len && strncmp(at, chaos_names[i], len) == 0)
				break;
		}
		if (i < CHAOS_NR)
			bits |= 1u << i;
		else if (len == 3 && strncmp(at, "all", len) == 0)
			bits |= (1u << CHAOS_NR) - 1;
		else if (!(len == 4 && strncmp(at, "none", len) == 0))
			return -1;
		at += len + (at[len] == ',');
	}
	*out = bits;
	return 0;
}

/* One of two words. */
static int parse_either(const char *s, const char *no, const char *yes, bool *out)
{
	if (strcmp(s, no) == 0)
		*out = false;
	else if (strcmp(s, yes) == 0)
		*out = true;
	else
		return -1;
	return 0;
}

static int parse_folio(const char *value, uint32_t *out)
{
	static const char *const names[FLN_FOLIO_NR] = {
		[FLN_FOLIO_AUTO] = "auto",
		[FLN_FOLIO_SMALL] = "4K",
		[FLN_FOLIO_LARGE] = "2M",
	};

	for (*out = 0; *out < FLN_FOLIO_NR; ++*out) {
		if (strcmp(value, names[*out]) == 0)
			return 0;
	}
	return -1;
}

static const struct option long_options[] = {
	{ "threads", required_argument, NULL, 't' },  { "memory", required_argument, NULL, 'm' },
	{ "seconds", required_argument, NULL, 's' },  { "touches", required_argument, NULL, 'T' },
	{ "chaos", required_argument, NULL, 'c' },    { "seed", required_argument, NULL, 'x' },
	{ "guest", required_argument, NULL, 'g' },    { "sharing", required_argument, NULL, 'S' },
	{ "delivery", required_argument, NULL, 'd' }, { "page-size", required_argument, NULL, 'p' },
	{ "folio", required_argument, NULL, 'f' },    { "max-wait", required_argument, NULL, 'w' },
	{ "workers", required_argument, NULL, 'W' },  { "shards", required_argument, NULL, 'H' },
	{ "window", required_argument, NULL, 'i' },   { "layout", required_argument, NULL, 'l' },
	{ "until-wrong", no_argument, NULL, 'U' },    { "user-mode-only", no_argument, NULL, 'u' },
	{ "json", no_argument, NULL, 'j' },           { "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },           { NULL, 0, NULL, 0 },
};

static int take_number(struct options *o, int c, const char *value)
{
	uint64_t v;

	switch (c) {
	case 't':
		if (parse_u64(value, 1, 1000, &v))
			return wrong("threads", value, "use 1 to 1000");
		o->nr_threads = (uint32_t)v;
		return 0;
	case 'T':
		return parse_u64(value, 1, UINT64_MAX, &o->nr_touches)
			       ? wrong("touches", value, "use a number above 0")
			       : 0;
	case 'x':
		return parse_u64(value, 0, UINT64_MAX, &o->seed)
			       ? wrong("seed", value, "use a number")
			       : 0;
	case 'W':
		if (parse_u64(value, 1, 64, &v))
			return wrong("workers", value, "use 1 to 64");
		o->nr_workers = (uint32_t)v;
		return 0;
	case 'H':
		if (parse_u64(value, 1, 1024, &v))
			return wrong("shards", value, "use 1 to 1024");
		o->nr_shards = (uint32_t)v;
		return 0;
	case 'i':
	default:
		if (parse_u64(value, 1, 512, &v) || (v & (v - 1)))
			return wrong("window", value, "use a power of two, 1 to 512");
		o->window = (uint32_t)v;
		return 0;
	}
}

static int take(struct options *o, int c, const char *value)
{
	switch (c) {
	case 'm':
		return parse_size(value, &o->memory_bytes)
			       ? wrong("memory", value, "use a multiple of 2M, 4M to 1024G")
			       : 0;
	case 's':
		return parse_seconds(value, &o->seconds)
			       ? wrong("seconds", value, "use a number above 0")
			       : 0;
	case 'w':
		return parse_seconds(value, &o->max_wait_s)
			       ? wrong("max-wait", value, "use a number above 0")
			       : 0;
	case 'c':
		return parse_chaos(value, &o->chaos)
			       ? wrong("chaos", value, "see --help for the names")
			       : 0;
	case 'g':
		return parse_either(value, "threads", "kvm", &o->kvm)
			       ? wrong("guest", value, "use threads or kvm")
			       : 0;
	case 'S':
		return parse_either(value, "shared", "private", &o->is_private)
			       ? wrong("sharing", value, "use shared or private")
			       : 0;
	case 'd':
		return parse_either(value, "queued", "in-context", &o->in_context)
			       ? wrong("delivery", value, "use queued or in-context")
			       : 0;
	case 'p':
		return parse_either(value, "4K", "2M", &o->huge)
			       ? wrong("page-size", value, "use 4K or 2M")
			       : 0;
	case 'f':
		return parse_folio(value, &o->folio) ? wrong("folio", value, "use auto, 4K or 2M")
						     : 0;
	case 'l':
		return parse_either(value, "one", "random", &o->random_layout)
			       ? wrong("layout", value, "use one or random")
			       : 0;
	case 'U':
		o->until_wrong = true;
		return 0;
	case 'u':
		o->user_mode_only = true;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	default:
		return take_number(o, c, value);
	}
}

int options_parse(struct options *o, int argc, char **argv)
{
	int c, rc;

	*o = (struct options){
		.nr_threads = 200,
		.memory_bytes = UINT64_C(1) << 30,
		.seed = 1,
	};
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 1;
		}
		if (c == '?')
			return 2;
		rc = take(o, c, optarg);
		if (rc)
			return rc;
	}
	if (optind < argc)
		return wrong("", argv[optind], "unexpected argument; see --help");
	if (o->max_wait_s <= 0)
		o->max_wait_s = o->kvm ? 2 * DEFAULT_MAX_WAIT_S : DEFAULT_MAX_WAIT_S;
	/* "all" means all kinds that this kind of guest has. */
	if (!o->kvm)
		o->chaos &= ~(1u << CHAOS_EMULATED);
	if (o->kvm && o->in_context)
		return wrong("guest", "kvm",
			     "a vCPU cannot resolve its own faults: leave --delivery out");
	if (o->kvm && o->user_mode_only)
		return wrong("guest", "kvm",
			     "vCPU faults are taken in kernel mode: leave --user-mode-only out");
	if (o->huge && o->random_layout)
		return wrong("layout", "random",
			     "regions of any size have pages of 4 KiB: leave --page-size out");
	if (o->seconds <= 0 && o->nr_touches == 0)
		o->seconds = 10;
	return 0;
}
