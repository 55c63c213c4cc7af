/* SPDX-License-Identifier: MIT */
/* Prints the results of a restore. */
#include "cli/report.h"

#include "cli/json.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t nr_touches(const struct cli_report *r)
{
	return r->plan->nr_pages * r->o->nr_guests;
}

static double pages_per_second(const struct cli_report *r)
{
	return r->touch.crowd.seconds > 0 ? (double)nr_touches(r) / r->touch.crowd.seconds : 0.0;
}

static double cpu_us_per_page(const struct cli_report *r)
{
	uint64_t ns = r->touch.crowd.to.own_cpu_ns - r->touch.crowd.from.own_cpu_ns;

	return (double)ns / 1e3 / (double)nr_touches(r);
}

static double quantile_us(const struct fln_histogram *h, double q)
{
	return (double)fln_histogram_quantile(h, q) / 1e3;
}

static uint64_t voluntary_switches(const struct cli_report *r)
{
	return r->touch.crowd.to.nr_voluntary_switches - r->touch.crowd.from.nr_voluntary_switches;
}

/* Write the keys <prefix>_p50_us … <prefix>_max_us. */
static void json_latency(struct cli_json *j, const char *prefix, const struct fln_histogram *h)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p999", 0.999 } };
	char key[64];

	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		(void)snprintf(key, sizeof(key), "%s_%s_us", prefix, quantiles[i].name);
		cli_json_real(j, key, quantile_us(h, quantiles[i].q));
	}
	(void)snprintf(key, sizeof(key), "%s_max_us", prefix);
	cli_json_real(j, key, (double)h->max_ns / 1e3);
}

static void json_what(struct cli_json *j, const struct cli_report *r)
{
	cli_json_string(j, "design", cli_design_names[r->o->design]);
	cli_json_uint(j, "threads", r->o->nr_threads);
	cli_json_string(j, "order", cli_order_names[r->o->order]);
	cli_json_string(j, "op", cli_op_names[r->o->op]);
	cli_json_uint(j, "density", r->o->density);
	cli_json_uint(j, "window_first", r->counters.window_first);
	cli_json_uint(j, "window_max", r->counters.window_max);
	cli_json_uint(j, "shards", r->counters.nr_shards);
	cli_json_uint(j, "workers", r->counters.nr_workers);
	cli_json_string(j, "delivery", cli_delivery_names[r->o->delivery]);
	cli_json_string(j, "source", cli_source_names[r->o->source]);
	cli_json_string(j, "page_size", cli_page_size_names[r->o->page_size]);
	cli_json_string(j, "folio", cli_folio_names[r->o->folio]);
	cli_json_string(j, "sharing", cli_sharing_names[r->o->sharing]);
	cli_json_uint(j, "guests", r->o->nr_guests);
	cli_json_uint(j, "delay_ms", r->o->delay_ms);
	cli_json_bool(j, "prefill", r->o->prefill);
	cli_json_bool(j, "user_mode_only", r->o->user_mode_only);
	cli_json_uint(j, "seed", r->o->seed);
	cli_json_string(j, "image", r->o->image);
	cli_json_uint(j, "image_bytes", r->plan->total_pages * 4096);
}

static void json_counters(struct cli_json *j, const struct cli_report *r)
{
	const struct fln_stats *s = &r->counters.stats;

	cli_json_uint(j, "faults", s->faults);
	cli_json_uint(j, "refaults", s->refaults);
	cli_json_uint(j, "in_context", s->in_context);
	cli_json_uint(j, "minor", s->minor);
	cli_json_uint(j, "major", s->major);
	cli_json_uint(j, "zero", s->zero);
	cli_json_uint(j, "invalid", s->invalid);
	cli_json_uint(j, "remote", s->remote);
	cli_json_uint(j, "resumed", s->resumed);
	cli_json_uint(j, "poisoned", s->poisoned);
	cli_json_uint(j, "failed", s->failed);
	cli_json_uint(j, "in_flight", s->in_flight);
	cli_json_uint(j, "pages_installed", s->pages_installed);
	cli_json_uint(j, "pages_raced", s->pages_raced);
	cli_json_uint(j, "installs", s->installs);
	cli_json_uint(j, "wakes", s->wakes);
	cli_json_uint(j, "reads", s->reads);
	cli_json_real(j, "service_p50_us", quantile_us(&s->service, 0.5));
	cli_json_real(j, "service_p99_us", quantile_us(&s->service, 0.99));
	cli_json_uint(j, "map_bytes", s->map_bytes);
}

void cli_report_json(const struct cli_report *r)
{
	struct cli_json j = { .to = stdout };

	cli_json_open(&j, NULL, '{');
	json_what(&j, r);
	cli_json_uint(&j, "pages_touched", r->touch.all.count);
	cli_json_real(&j, "seconds", r->touch.crowd.seconds);
	cli_json_real(&j, "fill_seconds", r->fill_seconds);
	cli_json_real(&j, "pages_per_second", pages_per_second(r));
	cli_json_real(&j, "cpu_us_per_page", cpu_us_per_page(r));
	cli_json_real(&j, "cpu_used_by_others",
		      measure_usage_others(&r->touch.crowd.from, &r->touch.crowd.to));
	json_latency(&j, "touch", &r->touch.all);
	cli_json_uint(&j, "faulted_touches", r->touch.faulted.count);
	json_latency(&j, "faulted", &r->touch.faulted);
	if (r->o->source == CLI_FILE) {
		cli_json_uint(&j, "prompt_touches", r->touch.prompt.count);
		json_latency(&j, "prompt", &r->touch.prompt);
	}
	cli_json_uint(&j, "waits_over_10ms", r->touch.waits_over_10ms);
	json_counters(&j, r);
	cli_json_uint(&j, "pages_verified", r->verify.nr_verified);
	cli_json_uint(&j, "pages_wrong", r->verify.nr_wrong);
	cli_json_uint(&j, "nr_voluntary_switches", voluntary_switches(r));
	cli_json_close(&j, '}');
	(void)fputc('\n', stdout);
}

static void row(const char *name, const struct fln_histogram *h)
{
	if (h->count == 0)
		return;
	(void)printf("  %-22s %12" PRIu64 " %11.1f %11.1f %11.1f %11.1f\n", name, h->count,
		     quantile_us(h, 0.5), quantile_us(h, 0.99), quantile_us(h, 0.999),
		     (double)h->max_ns / 1e3);
}

static void table_design(const struct cli_report *r)
{
	const struct cli_counters *c = &r->counters;

	(void)printf("%s: %u threads, %s order, %s, one page in %u\n",
		     cli_design_names[r->o->design], r->o->nr_threads, cli_order_names[r->o->order],
		     cli_op_names[r->o->op], r->o->density);
	if (r->o->design == CLI_KERNEL)
		return;
	if (r->o->nr_guests > 1 || r->o->sharing == CLI_PRIVATE)
		(void)printf("  %u guest%s of one image, writes %s\n", r->o->nr_guests,
			     r->o->nr_guests == 1 ? "" : "s",
			     r->o->sharing == CLI_PRIVATE ? "private" : "shared");
	(void)printf("  %u shard%s, %u worker%s, windows of %u", c->nr_shards,
		     c->nr_shards == 1 ? "" : "s", c->nr_workers, c->nr_workers == 1 ? "" : "s",
		     c->window_first);
	if (c->window_max != c->window_first)
		(void)printf(" to %u", c->window_max);
	(void)printf(" page%s%s%s\n", c->window_max == 1 ? "" : "s",
		     r->o->delivery == CLI_IN_CONTEXT ? ", in context" : "",
		     r->o->user_mode_only ? ", faults of user mode only" : "");
}

void cli_report_table(const struct cli_report *r)
{
	const struct fln_stats *s = &r->counters.stats;

	table_design(r);
	if (r->fill_seconds > 0)
		(void)printf("  filled beforehand in %.3f s\n", r->fill_seconds);
	(void)printf("  touched %" PRIu64 " pages in %.3f s\n\n", r->touch.all.count,
		     r->touch.crowd.seconds);
	(void)printf("  %-22s %12.0f\n", "pages/s", pages_per_second(r));
	(void)printf("  %-22s %12.3f us   (other processes used %.2f processors meanwhile)\n",
		     "CPU per page", cpu_us_per_page(r),
		     measure_usage_others(&r->touch.crowd.from, &r->touch.crowd.to));
	(void)printf("\n  %-22s %12s %11s %11s %11s %11s\n", "time in us", "count", "p50", "p99",
		     "p99.9", "longest");
	row("touches", &r->touch.all);
	row("touches that faulted", &r->touch.faulted);
	row("faults, read to wake", &s->service);
	(void)printf("\n  %" PRIu64 " faults (%" PRIu64 " minor, %" PRIu64 " major, %" PRIu64
		     " zero; %" PRIu64 " refaults)",
		     s->faults, s->minor, s->major, s->zero, s->refaults);
	if (s->installs)
		(void)printf(", %" PRIu64 " pages mapped by %" PRIu64 " calls", s->pages_installed,
			     s->installs);
	(void)printf("\n\n  %" PRIu64 " pages verified, %" PRIu64 " wrong\n", r->verify.nr_verified,
		     r->verify.nr_wrong);
}
