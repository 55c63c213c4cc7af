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
	return r->phases.touch.crowd.seconds > 0
		       ? (double)nr_touches(r) / r->phases.touch.crowd.seconds
		       : 0.0;
}

/* Its verification is that of all pages. */
static const struct cli_phase *last_phase(const struct cli_report *r)
{
	return &r->phases.phase[r->phases.nr - 1];
}

static double cpu_us_per_page(const struct measure_touch_result *t, uint64_t nr_pages)
{
	uint64_t ns = t->crowd.to.own_cpu_ns - t->crowd.from.own_cpu_ns;

	return (double)ns / 1e3 / (double)nr_pages;
}

static double quantile_us(const struct fln_histogram *h, double q)
{
	return (double)fln_histogram_quantile(h, q) / 1e3;
}

static uint64_t voluntary_switches(const struct cli_report *r)
{
	return r->phases.touch.crowd.to.nr_voluntary_switches -
	       r->phases.touch.crowd.from.nr_voluntary_switches;
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
	cli_json_uint(j, "window_first", r->phases.counters.window_first);
	cli_json_uint(j, "window_max", r->phases.counters.window_max);
	cli_json_uint(j, "shards", r->phases.counters.nr_shards);
	cli_json_uint(j, "workers", r->phases.counters.nr_workers);
	cli_json_string(j, "delivery", cli_delivery_names[r->o->delivery]);
	cli_json_string(j, "source", cli_source_names[r->o->source]);
	cli_json_string(j, "page_size", cli_page_size_names[r->o->page_size]);
	cli_json_string(j, "folio", cli_folio_names[r->o->folio]);
	cli_json_string(j, "release", cli_release_names[r->o->release]);
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
	const struct fln_stats *s = &r->phases.counters.stats;

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
	cli_json_uint(j, "released_faults", s->released_faults);
	cli_json_uint(j, "released_bytes", s->released_bytes);
	cli_json_uint(j, "userfaultfds_at_end", s->userfaultfds);
	cli_json_uint(j, "filled_bytes", r->phases.counters.filled_bytes);
	cli_json_uint(j, "memory_bytes", r->phases.counters.memory_bytes);
	cli_json_uint(j, "copied_bytes", last_phase(r)->copied_bytes);
	cli_json_uint(j, "large_blocks", r->phases.counters.large_blocks);
}

static void json_phase(struct cli_json *j, const struct cli_phase *p)
{
	cli_json_open(j, NULL, '{');
	cli_json_uint(j, "pages", p->nr_pages);
	cli_json_real(j, "seconds", p->touch.crowd.seconds);
	cli_json_real(j, "cpu_us_per_page", cpu_us_per_page(&p->touch, p->nr_pages));
	cli_json_real(j, "touch_p50_us", quantile_us(&p->touch.all, 0.5));
	cli_json_real(j, "touch_p99_us", quantile_us(&p->touch.all, 0.99));
	cli_json_uint(j, "faults", p->faults);
	cli_json_bool(j, "settled", p->settled.complete);
	cli_json_real(j, "settle_seconds", p->settled.seconds);
	cli_json_real(j, "settle_cpu_seconds", (double)p->settled.cpu_ns / 1e9);
	cli_json_uint(j, "filled_bytes", p->filled_bytes);
	cli_json_uint(j, "released_bytes", p->released_bytes);
	cli_json_uint(j, "userfaultfds", p->userfaultfds);
	cli_json_uint(j, "memory_bytes", p->memory_bytes);
	cli_json_uint(j, "copied_bytes", p->copied_bytes);
	cli_json_uint(j, "pages_verified", p->verify.nr_verified);
	cli_json_uint(j, "pages_wrong", p->verify.nr_wrong);
	cli_json_close(j, '}');
}

static void json_phases(struct cli_json *j, const struct cli_report *r)
{
	cli_json_open(j, "phases", '[');
	for (uint32_t i = 0; i < r->phases.nr; i++)
		json_phase(j, &r->phases.phase[i]);
	cli_json_close(j, ']');
}

void cli_report_json(const struct cli_report *r)
{
	struct cli_json j = { .to = stdout };

	cli_json_open(&j, NULL, '{');
	json_what(&j, r);
	/* Before the totals: scripts without a JSON parser take the last value of a name. */
	json_phases(&j, r);
	cli_json_uint(&j, "pages_touched", r->phases.touch.all.count);
	cli_json_real(&j, "seconds", r->phases.touch.crowd.seconds);
	cli_json_real(&j, "fill_seconds", r->fill_seconds);
	cli_json_real(&j, "pages_per_second", pages_per_second(r));
	cli_json_real(&j, "cpu_us_per_page", cpu_us_per_page(&r->phases.touch, nr_touches(r)));
	cli_json_real(&j, "cpu_used_by_others",
		      measure_usage_others(&r->phases.touch.crowd.from, &r->phases.touch.crowd.to));
	json_latency(&j, "touch", &r->phases.touch.all);
	cli_json_uint(&j, "faulted_touches", r->phases.touch.faulted.count);
	json_latency(&j, "faulted", &r->phases.touch.faulted);
	if (r->o->source == CLI_FILE) {
		cli_json_uint(&j, "prompt_touches", r->phases.touch.prompt.count);
		json_latency(&j, "prompt", &r->phases.touch.prompt);
	}
	cli_json_uint(&j, "waits_over_10ms", r->phases.touch.waits_over_10ms);
	json_counters(&j, r);
	cli_json_uint(&j, "pages_verified", last_phase(r)->verify.nr_verified);
	cli_json_uint(&j, "pages_wrong", last_phase(r)->verify.nr_wrong);
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

static const char *plural(uint64_t nr)
{
	return nr == 1 ? "" : "s";
}

static void table_design(const struct cli_report *r)
{
	const struct cli_counters *c = &r->phases.counters;

	(void)printf("%s: %u threads, %s order, %s, one page in %u\n",
		     cli_design_names[r->o->design], r->o->nr_threads, cli_order_names[r->o->order],
		     cli_op_names[r->o->op], r->o->density);
	if (r->o->design == CLI_KERNEL)
		return;
	if (r->o->nr_guests > 1 || r->o->sharing == CLI_PRIVATE)
		(void)printf("  %u guest%s of one image, writes %s\n", r->o->nr_guests,
			     plural(r->o->nr_guests),
			     r->o->sharing == CLI_PRIVATE ? "private" : "shared");
	(void)printf("  %u shard%s, %u worker%s, windows of %u", c->nr_shards, plural(c->nr_shards),
		     c->nr_workers, plural(c->nr_workers), c->window_first);
	if (c->window_max != c->window_first)
		(void)printf(" to %u", c->window_max);
	(void)printf(" page%s%s%s\n", plural(c->window_max),
		     r->o->delivery == CLI_IN_CONTEXT ? ", in context" : "",
		     r->o->user_mode_only ? ", faults of user mode only" : "");
}

static void table_memory(const struct cli_report *r)
{
	const struct cli_counters *c = &r->phases.counters;
	uint64_t mib = r->plan->total_pages >> 8;

	(void)printf("\n  memory: %" PRIu64 " MiB allocated", c->memory_bytes >> 20);
	if (c->large_blocks)
		(void)printf(", %" PRIu64 " MiB of it in large folios", c->large_blocks * 2);
	if (r->o->sharing == CLI_PRIVATE)
		(void)printf("; %" PRIu64 " MiB copied by the guest%s",
			     last_phase(r)->copied_bytes >> 20, plural(r->o->nr_guests));
	if (r->o->design == CLI_ENGINE)
		(void)printf("\n  %" PRIu64 " of %" PRIu64 " MiB filled, %" PRIu64 " of %" PRIu64
			     " MiB released, %" PRIu64 " userfaultfd%s open at the end",
			     c->filled_bytes >> 20, mib, c->stats.released_bytes >> 20,
			     mib * r->o->nr_guests, c->stats.userfaultfds,
			     plural(c->stats.userfaultfds));
	(void)fputc('\n', stdout);
}

static void table_phases(const struct cli_report *r)
{
	if (r->phases.nr == 1)
		return;
	(void)printf("\n  %-6s %10s %9s %12s %9s %12s %13s %12s\n", "phase", "pages", "s",
		     "CPU us/page", "faults", "released", "userfaultfds", "settled in");
	for (uint32_t i = 0; i < r->phases.nr; i++) {
		const struct cli_phase *p = &r->phases.phase[i];

		(void)printf("  %-6u %10" PRIu64 " %9.3f %12.3f %9" PRIu64 " %8" PRIu64
			     " MiB %13" PRIu64 " %s%9.3f s\n",
			     i + 1, p->nr_pages, p->touch.crowd.seconds,
			     cpu_us_per_page(&p->touch, p->nr_pages), p->faults,
			     p->released_bytes >> 20, p->userfaultfds,
			     p->settled.complete ? " " : ">", p->settled.seconds);
	}
}

void cli_report_table(const struct cli_report *r)
{
	const struct fln_stats *s = &r->phases.counters.stats;

	table_design(r);
	if (r->fill_seconds > 0)
		(void)printf("  filled beforehand in %.3f s\n", r->fill_seconds);
	(void)printf("  touched %" PRIu64 " pages in %.3f s\n\n", r->phases.touch.all.count,
		     r->phases.touch.crowd.seconds);
	(void)printf("  %-22s %12.0f\n", "pages/s", pages_per_second(r));
	(void)printf("  %-22s %12.3f us   (other processes used %.2f processors meanwhile)\n",
		     "CPU per page", cpu_us_per_page(&r->phases.touch, nr_touches(r)),
		     measure_usage_others(&r->phases.touch.crowd.from, &r->phases.touch.crowd.to));
	(void)printf("\n  %-22s %12s %11s %11s %11s %11s\n", "time in us", "count", "p50", "p99",
		     "p99.9", "longest");
	row("touches", &r->phases.touch.all);
	row("touches that faulted", &r->phases.touch.faulted);
	row("faults, read to wake", &s->service);
	(void)printf("\n  %" PRIu64 " faults (%" PRIu64 " minor, %" PRIu64 " major, %" PRIu64
		     " zero; %" PRIu64 " refaults)",
		     s->faults, s->minor, s->major, s->zero, s->refaults);
	if (s->installs)
		(void)printf(", %" PRIu64 " pages mapped by %" PRIu64 " calls", s->pages_installed,
			     s->installs);
	(void)fputc('\n', stdout);
	table_memory(r);
	table_phases(r);
	(void)printf("\n  %" PRIu64 " pages verified, %" PRIu64 " wrong\n",
		     last_phase(r)->verify.nr_verified, last_phase(r)->verify.nr_wrong);
}
