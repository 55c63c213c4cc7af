/* SPDX-License-Identifier: MIT */
/* Which options of `faultlane restore` go together. */
#include "cli/options_check.h"

#include "cli/cli.h"
#include "measure/error.h"

/* Refuse an option that would have no effect: the results would be misread. */
static int needs(bool given, bool allowed, const char *option, const char *what)
{
	if (!given || allowed)
		return CLI_OK;
	measure_error("%s has an effect only with %s; add that, or drop %s", option, what, option);
	return CLI_USAGE;
}

/* Numbers that do not go together. */
static int check_numbers(const struct cli_options *o)
{
	if (o->window_first && o->window_max && o->window_first > o->window_max) {
		measure_error("--window-first %u is more than --window-max %u; swap them",
			      o->window_first, o->window_max);
		return CLI_USAGE;
	}
	if (o->nr_threads % o->nr_guests) {
		measure_error("--threads %u is not a multiple of --guests %u; give a "
			      "multiple",
			      o->nr_threads, o->nr_guests);
		return CLI_USAGE;
	}
	return CLI_OK;
}

int cli_options_check(const struct cli_options *o)
{
	bool engine = o->design == CLI_ENGINE;
	bool windows = engine || o->design == CLI_SINGLE_WINDOW;
	int rc = CLI_OK;

	if (!o->image) {
		measure_error("--image FILE is missing; see 'faultlane restore --help'");
		return CLI_USAGE;
	}
	rc |= needs(o->window_first || o->window_max, windows, "--window",
		    "--design engine or single_window");
	rc |= needs(o->nr_shards, engine, "--shards", "--design engine");
	rc |= needs(o->nr_workers, engine, "--workers", "--design engine");
	rc |= needs(o->worker_cpus, engine, "--worker-cpus", "--design engine");
	rc |= needs(o->node >= 0, engine, "--node", "--design engine");
	rc |= needs(o->spin_us != UINT64_MAX, engine, "--spin-us", "--design engine");
	rc |= needs(!o->pin, engine, "--no-pin", "--design engine");
	rc |= needs(o->keep_nice, engine, "--keep-nice", "--design engine");
	rc |= needs(o->advice != CLI_NORMAL, engine, "--advice", "--design engine");
	rc |= needs(o->populate || o->lock, engine, "--populate or --lock", "--design engine");
	rc |= needs(o->delivery != CLI_QUEUED, engine, "--delivery in-context", "--design engine");
	rc |= needs(o->source == CLI_FILE, engine, "--source file", "--design engine");
	rc |= needs(o->sharing == CLI_PRIVATE, engine, "--sharing private", "--design engine");
	rc |= needs(o->page_size == CLI_PAGE_2M, engine || o->design == CLI_KERNEL,
		    "--page-size 2M", "--design engine or kernel");
	rc |= needs(o->page_size == CLI_PAGE_2M, o->sharing == CLI_SHARED, "--page-size 2M",
		    "--sharing shared");
	rc |= needs(o->folio != CLI_FOLIO_AUTO, engine && o->page_size == CLI_PAGE_4K, "--folio",
		    "--design engine and --page-size 4K");
	rc |= needs(o->release != CLI_RELEASE_AUTO, engine, "--release never", "--design engine");
	rc |= needs(o->nr_guests > 1, engine, "--guests", "--design engine");
	rc |= needs(o->nr_guests > 1 && o->op == CLI_WRITE, o->sharing == CLI_PRIVATE,
		    "--guests with --op write", "--sharing private");
	rc |= needs(o->delay_ms, o->source == CLI_FILE, "--delay-ms", "--source file");
	rc |= needs(o->prefill, o->source == CLI_FILE, "--prefill", "--source file");
	if (rc)
		return rc;
	return check_numbers(o);
}
