/* SPDX-License-Identifier: MIT */
/* Converts results to counters of the report. */
#include "bench/figures.h"

#include "bench/options.h"
#include "measure/machine.h"

#include <algorithm>

namespace bench {

namespace {

bool failure_seen;

/* /proc/stat counts in steps of 10 ms on each processor. */
constexpr double step_seconds = 0.01;

double us(uint64_t ns)
{
	return static_cast<double>(ns) / 1e3;
}

double quantile_us(const fln_histogram &h, double q)
{
	return us(fln_histogram_quantile(&h, q));
}

void add_task(measure_task *to, const measure_task &from)
{
	to->cpu_ns += from.cpu_ns;
	to->wait_ns += from.wait_ns;
	to->nr_switches += from.nr_switches;
}

void keep_largest(memory_figures *to, const memory_figures &from)
{
	to->all_bytes = std::max(to->all_bytes, from.all_bytes);
	to->page_table_bytes = std::max(to->page_table_bytes, from.page_table_bytes);
	to->large_folio_bytes = std::max(to->large_folio_bytes, from.large_folio_bytes);
	to->large_mapped_bytes = std::max(to->large_mapped_bytes, from.large_mapped_bytes);
	to->released_bytes = std::max(to->released_bytes, from.released_bytes);
	to->nr_userfaultfds = std::max(to->nr_userfaultfds, from.nr_userfaultfds);
}

void report_memory(const memory_figures &from, benchmark::UserCounters *c)
{
	(*c)["memory_bytes"] = static_cast<double>(from.all_bytes);
	(*c)["page_table_bytes"] = static_cast<double>(from.page_table_bytes);
	(*c)["large_folio_bytes"] = static_cast<double>(from.large_folio_bytes);
	(*c)["large_mapped_bytes"] = static_cast<double>(from.large_mapped_bytes);
	(*c)["released_bytes"] = static_cast<double>(from.released_bytes);
	(*c)["userfaultfds_at_end"] = static_cast<double>(from.nr_userfaultfds);
}

} /* namespace */

void figures::take(const measure_touch_result &from, uint64_t pages)
{
	nr_pages = pages;
	seconds = from.crowd.seconds;
	touchers = from.crowd.touchers;
	workers = from.crowd.others;
	touch = from.all;
	faulted = from.faulted;
	judge(from.crowd);
}

void figures::take_settled(const measure_touch_result &from)
{
	measure_usage now;

	measure_usage_read(&now);
	settle_seconds = static_cast<double>(now.wall_ns - from.crowd.to.wall_ns) / 1e9;
	settled_cpu_ns = now.own_cpu_ns - from.crowd.from.own_cpu_ns;
}

void figures::take_stats(const fln_stats &from)
{
	fault = from.service;
	nr_faults = from.faults;
	memory.released_bytes = from.released_bytes;
	memory.nr_userfaultfds = from.userfaultfds;
	memory.all_bytes += from.map_bytes;
}

void figures::judge(const measure_crowd_result &from)
{
	double wall = static_cast<double>(from.to.wall_ns - from.from.wall_ns) / 1e9;
	double steps = wall > 0 ? step_seconds * measure_nr_cpus() / wall : 0;

	others = measure_usage_others(&from.from, &from.to);
	noisy = others > opts.max_others + steps;
}

void figures::add(const figures &from)
{
	double all = seconds + from.seconds;

	if (all > 0)
		others = (others * seconds + from.others * from.seconds) / all;
	nr_pages += from.nr_pages;
	seconds = all;
	add_task(&touchers, from.touchers);
	add_task(&workers, from.workers);
	noisy = noisy || from.noisy;
	nr_retries += from.nr_retries;
	nr_faults += from.nr_faults;
	fill_seconds = from.fill_seconds;
	warm_seconds += from.warm_seconds;
	settle_seconds += from.settle_seconds;
	settled_cpu_ns += from.settled_cpu_ns;
	keep_largest(&memory, from.memory);
	fln_histogram_merge(&touch, &from.touch);
	fln_histogram_merge(&faulted, &from.faulted);
	fln_histogram_merge(&fault, &from.fault);
}

void figures::report(benchmark::State &state) const
{
	double pages = static_cast<double>(std::max<uint64_t>(nr_pages, 1));
	uint64_t cpu_ns = touchers.cpu_ns + workers.cpu_ns;
	double iterations = static_cast<double>(std::max<int64_t>(state.iterations(), 1));
	benchmark::UserCounters &c = state.counters;

	c["seconds"] = seconds / iterations;
	c["cpu_seconds"] = static_cast<double>(cpu_ns) / 1e9 / iterations;
	c["fill_seconds"] = fill_seconds;
	c["warm_seconds"] = warm_seconds / iterations;
	c["settle_seconds"] = settle_seconds / iterations;
	c["pages"] = pages / iterations;
	c["pages_per_second"] = seconds > 0 ? pages / seconds : 0;
	c["cpu_us_per_page"] = us(cpu_ns) / pages;
	c["settled_cpu_us_per_page"] = us(settled_cpu_ns) / pages;
	c["worker_cpu_us_per_page"] = us(workers.cpu_ns) / pages;
	c["touch_p50_us"] = quantile_us(touch, 0.5);
	c["touch_p99_us"] = quantile_us(touch, 0.99);
	c["touch_p999_us"] = quantile_us(touch, 0.999);
	c["touch_max_us"] = us(touch.max_ns);
	c["faulted_p50_us"] = quantile_us(faulted, 0.5);
	c["faulted_p99_us"] = quantile_us(faulted, 0.99);
	c["faulted_p999_us"] = quantile_us(faulted, 0.999);
	c["faulted_max_us"] = us(faulted.max_ns);
	c["fault_p50_us"] = quantile_us(fault, 0.5);
	c["fault_p99_us"] = quantile_us(fault, 0.99);
	c["faults_per_page"] = static_cast<double>(nr_faults) / pages;
	c["switches_per_page"] =
		static_cast<double>(touchers.nr_switches + workers.nr_switches) / pages;
	c["runqueue_wait_us"] = us(touchers.wait_ns + workers.wait_ns) / pages;
	c["worker_runqueue_wait_us"] = us(workers.wait_ns) / pages;
	report_memory(memory, &c);
	c["cpu_used_by_others"] = others;
	c["remeasured"] = nr_retries;
	c["noisy"] = noisy ? 1 : 0;
	if (noisy)
		state.SetLabel("noisy: others used processors");
}

void fail(benchmark::State &state, const std::string &why)
{
	if (why.rfind("left out: ", 0) != 0)
		failure_seen = true;
	state.SkipWithError(why.c_str());
}

bool any_failed()
{
	return failure_seen;
}

bool is_last_try(const figures &f, uint32_t nr_tries)
{
	return !f.noisy || nr_tries > opts.nr_retries;
}

} /* namespace bench */
