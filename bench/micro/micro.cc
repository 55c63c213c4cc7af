/* SPDX-License-Identifier: MIT */
/* Micro benchmarks, micro/<subject>: the cost of each step of a fault. */
#include "bench/micro/subject.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

/* Report the median, which other load on the machine shifts less than the mean. */
void set_median(benchmark::State &state, const char *name, std::vector<double> *samples)
{
	if (samples->empty())
		return;
	auto middle = samples->begin() + static_cast<ptrdiff_t>(samples->size() / 2);

	std::nth_element(samples->begin(), middle, samples->end());
	state.counters[name] = *middle;
}

/* Run the benchmark with manual timing: `once` returns the nanoseconds of an iteration. */
template <typename function> void timed(benchmark::State &state, function once)
{
	std::vector<double> samples;

	for (auto _ : state) {
		double ns = once();

		if (std::isnan(ns)) {
			state.SkipWithError(micro_error());
			break;
		}
		state.SetIterationTime(ns * 1e-9);
		samples.push_back(ns);
	}
	set_median(state, "median_ns", &samples);
}

/* Owns an object with a C constructor and destructor; a failed constructor skips the benchmark. */
template <typename subject> struct owned {
	subject *it;
	void (*free)(subject *);

	owned(benchmark::State &state, subject *made, void (*release)(subject *))
	    : it(made), free(release)
	{
		if (!it)
			state.SkipWithError(micro_error());
	}
	~owned()
	{
		if (it)
			free(it);
	}
	owned(const owned &) = delete;
	owned &operator=(const owned &) = delete;
};

void map_lookup(benchmark::State &state)
{
	owned map(state, micro_map_new(), micro_map_free);
	uint64_t page = 0;

	for (auto _ : state)
		benchmark::DoNotOptimize(micro_map_lookup(map.it, page += 4099));
}
BENCHMARK(map_lookup)->Name("micro/map/lookup");

void map_window(benchmark::State &state)
{
	owned map(state, micro_map_new(), micro_map_free);

	for (auto _ : state)
		benchmark::DoNotOptimize(
			micro_map_window(map.it, static_cast<uint32_t>(state.range(0))));
}
BENCHMARK(map_window)
	->Name("micro/map/claim_settle_forget")
	->ArgName("pages")
	->Arg(1)
	->Arg(16)
	->Arg(512);

void map_whole(benchmark::State &state)
{
	owned map(state, micro_map_new(), micro_map_free);
	uint64_t nth = 0;

	for (auto _ : state) {
		if (!micro_map_whole(map.it, ++nth)) {
			state.SkipWithError("a block did not become uniform");
			break;
		}
	}
}
BENCHMARK(map_whole)->Name("micro/map/whole_block");

void shard_of(benchmark::State &state)
{
	owned plan(state, micro_plan_new(static_cast<uint32_t>(state.range(0))), micro_plan_free);
	uint64_t nth = 0;

	for (auto _ : state)
		benchmark::DoNotOptimize(micro_plan_shard(plan.it, ++nth));
}
BENCHMARK(shard_of)->Name("micro/shard/of_address")->ArgName("shards")->Arg(32);

void sort_batch(benchmark::State &state)
{
	auto nr = static_cast<uint32_t>(state.range(0));
	owned batch(state, micro_batch_new(nr, state.range(1) != 0), micro_batch_free);

	for (auto _ : state)
		micro_batch_sort(batch.it);
	state.SetItemsProcessed(state.iterations() * nr);
}
BENCHMARK(sort_batch)
	->Name("micro/batch/sort")
	->ArgNames({ "faults", "sorted" })
	->ArgsProduct({ { 8, 64 }, { 0, 1 } });

template <typename function> void histogram_op(benchmark::State &state, function op)
{
	owned h(state, micro_histogram_new(), micro_histogram_free);
	uint64_t ns = 1;

	for (auto _ : state)
		op(h.it, ns = ns * 5 % 1000003);
}
BENCHMARK_CAPTURE(histogram_op, record, micro_histogram_record)->Name("micro/histogram/record");
BENCHMARK_CAPTURE(histogram_op, shared, micro_histogram_record_shared)
	->Name("micro/histogram/record_shared");
BENCHMARK_CAPTURE(histogram_op, merge, [](micro_histogram *h, uint64_t) {
	micro_histogram_merge(h);
})->Name("micro/histogram/merge");

template <void (*op)()> void plain(benchmark::State &state)
{
	for (auto _ : state)
		op();
}
BENCHMARK(plain<micro_atomic>)->Name("micro/hold/atomic");
BENCHMARK(plain<micro_syscall>)->Name("micro/hold/syscall");

void wall_clock(benchmark::State &state)
{
	for (auto _ : state)
		benchmark::DoNotOptimize(micro_clock());
}
BENCHMARK(wall_clock)->Name("micro/hold/clock");

void trap(benchmark::State &state)
{
	if (!micro_trap_prepare())
		state.SkipWithError("cannot install a SIGTRAP handler");
	for (auto _ : state)
		micro_trap();
}
BENCHMARK(trap)->Name("micro/signal/delivery_and_return");

void continue_pages(benchmark::State &state)
{
	owned u(state, micro_uffd_new(static_cast<uint32_t>(state.range(1))), micro_uffd_free);
	auto pages = static_cast<uint32_t>(state.range(0));

	if (u.it)
		timed(state,
		      [&] { return micro_uffd_continue_ns(u.it, pages, state.range(2) != 0); });
	state.SetItemsProcessed(state.iterations() * pages);
}
BENCHMARK(continue_pages)
	->Name("micro/uffd/continue")
	->ArgNames({ "pages", "blocked", "wake" })
	->Iterations(4000)
	->UseManualTime()
	->Args({ 1, 0, 0 })
	->Args({ 16, 0, 0 })
	->Args({ 64, 0, 0 })
	->Args({ 512, 0, 0 })
	->Args({ 1, 0, 1 })
	->Args({ 1, 16, 1 })
	->Args({ 1, 64, 1 })
	->Args({ 1, 256, 1 })
	->Args({ 1, 256, 0 });

template <double (*op)(micro_uffd *)> void uffd_op(benchmark::State &state)
{
	owned u(state, micro_uffd_new(static_cast<uint32_t>(state.range(0))), micro_uffd_free);

	if (u.it)
		timed(state, [&] { return op(u.it); });
}
BENCHMARK(uffd_op<micro_uffd_wake_ns>)
	->Name("micro/uffd/wake")
	->Iterations(20000)
	->ArgName("blocked")
	->UseManualTime()
	->Arg(0)
	->Arg(16)
	->Arg(64)
	->Arg(256);
BENCHMARK(uffd_op<micro_uffd_read_ns>)
	->Name("micro/uffd/read_per_message")
	->ArgName("blocked")
	->UseManualTime()
	->Iterations(50)
	->Arg(1)
	->Arg(64)
	->Arg(256);
BENCHMARK(uffd_op<micro_uffd_kernel_fault_ns>)
	->Name("micro/fault/kernel_write")
	->Iterations(2000)
	->ArgName("blocked")
	->UseManualTime()
	->Arg(0);
BENCHMARK(uffd_op<micro_uffd_touch_ns>)
	->Name("micro/fault/touch_of_mapped")
	->Iterations(2000)
	->ArgName("blocked")
	->UseManualTime()
	->Arg(0);

/* The server runs on the toucher's processor (other_cpu 0) or on another. */
void queued(benchmark::State &state)
{
	int other = static_cast<int>(state.range(0));

	if (other >= micro_nr_cpus()) {
		state.SkipWithError("needs another processor");
		return;
	}
	owned q(state, micro_queued_new(0, other), micro_queued_free);
	std::vector<double> to_read, serve, resume;
	micro_steps step = {};
	double cpu = micro_cpu_ns();

	if (!q.it)
		return;
	timed(state, [&] {
		if (!micro_queued_fault(q.it, &step))
			return std::nan("");
		to_read.push_back(step.to_read_ns);
		serve.push_back(step.serve_ns);
		resume.push_back(step.resume_ns);
		return step.touch_ns;
	});
	state.counters["cpu_ns"] =
		benchmark::Counter(micro_cpu_ns() - cpu, benchmark::Counter::kAvgIterations);
	set_median(state, "to_read_ns", &to_read);
	set_median(state, "serve_ns", &serve);
	set_median(state, "resume_ns", &resume);
}
BENCHMARK(queued)
	->Name("micro/fault/queued")
	->Iterations(3000)
	->ArgName("other_cpu")
	->UseManualTime()
	->Arg(0)
	->Arg(1);

void engine_touch(benchmark::State &state, bool in_context)
{
	owned c(state, micro_context_new(static_cast<uint32_t>(state.range(0)), in_context),
		micro_context_free);
	double cpu = micro_cpu_ns();

	if (!c.it)
		return;
	timed(state, [&] { return micro_context_touch_ns(c.it); });
	state.counters["cpu_ns"] =
		benchmark::Counter(micro_cpu_ns() - cpu, benchmark::Counter::kAvgIterations);
}
BENCHMARK_CAPTURE(engine_touch, in_context, true)
	->Name("micro/fault/engine_in_context")
	->Iterations(3000)
	->ArgName("window")
	->UseManualTime()
	->Arg(1)
	->Arg(16)
	->Arg(512);
BENCHMARK_CAPTURE(engine_touch, queued, false)
	->Name("micro/fault/engine_queued")
	->Iterations(3000)
	->ArgName("window")
	->UseManualTime()
	->Arg(1)
	->Arg(16)
	->Arg(512);

/* Two threads take turns, sleeping on one or two processors, or spinning. */
void wake_round(benchmark::State &state)
{
	int other = static_cast<int>(state.range(0));

	if (other >= micro_nr_cpus()) {
		state.SkipWithError("needs another processor");
		return;
	}
	owned p(state, micro_pair_new(0, other, state.range(1) != 0), micro_pair_free);

	for (auto _ : state)
		micro_pair_round(p.it);
}
BENCHMARK(wake_round)
	->Name("micro/wake/round_trip")
	->ArgNames({ "other_cpu", "spin" })
	->UseRealTime()
	->Args({ 0, 0 })
	->Args({ 1, 0 })
	->Args({ 1, 1 });

void wake_one(benchmark::State &state)
{
	int other = static_cast<int>(state.range(0));

	if (other >= micro_nr_cpus()) {
		state.SkipWithError("needs another processor");
		return;
	}
	owned p(state, micro_pair_new(0, other, false), micro_pair_free);

	timed(state, [&] { return micro_pair_wake_ns(p.it); });
}
BENCHMARK(wake_one)
	->Name("micro/wake/waker")
	->ArgName("other_cpu")
	->UseManualTime()
	->Iterations(2000)
	->Arg(0)
	->Arg(1);

} /* namespace */

BENCHMARK_MAIN();
