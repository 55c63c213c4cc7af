/* SPDX-License-Identifier: MIT */
/*
 * touch/<design>/<order>/<op>/density:<D>/share:<S>/threads:<N>: threads touch memory.  weak/ is
 * the same with memory that grows with the number of threads (weak scaling).  With --folio there are
 * designs whose images are in folios of a given size: share:<S>/folio:<F>/threads:<N>.
 */
#include "bench/bench.h"
#include "bench/c.h"
#include "bench/plan.h"
#include "bench/use.h"
#include "measure/error.h"

namespace bench {

namespace {

constexpr uint64_t weak_bytes = UINT64_C(64) << 20; /* per thread */

const uint32_t densities[] = { 1, 8, 64, 512 };

struct test_case {
	const design *d;
	bool weak;
	bool random;
	bool writes;
	bool mixed;
	uint32_t density;
	uint32_t nr_threads;
	uint32_t window;
	fln_folio folio;
};

uint64_t len_bytes(const test_case &c)
{
	return c.weak ? weak_bytes * c.nr_threads : memory_bytes_at(c.density);
}

measure_plan_opts plan_of(const test_case &c, uint64_t len)
{
	measure_plan_opts o = {};

	o.total_pages = len / page_bytes;
	o.density = c.density;
	o.nr_threads = c.nr_threads;
	o.shuffled = c.random;
	o.mixed = c.mixed;
	return o;
}

measure_fault_mark fault_mark(const test_case &c)
{
	if (c.d->in_context || (c.d->kernel && c.writes && !c.d->populates))
		return MEASURE_SLOW;
	return c.d->kernel ? MEASURE_COUNTED : MEASURE_SLEPT;
}

void before_touching(void *ctx, uint32_t thread)
{
	static_cast<served *>(ctx)->before_touching(thread);
}

bool touch(const test_case &c, const setup &st, served *s, measure_touch_result *r,
	   std::string *why)
{
	char *addr = s->addr();
	measure_touch_opts o = {};

	o.plan = st.plan;
	o.addrs = &addr;
	o.nr_guests = 1;
	o.cpus = pin_cpus();
	o.mark = fault_mark(c);
	o.kernel = c.d->kernel;
	o.writes = c.writes;
	o.in_context = c.d->in_context;
	if (c.d->populates) {
		o.before = before_touching;
		o.before_ctx = s;
	}
	if (measure_touch(the_crowd(), &o, r))
		return true;
	*why = measure_last_error();
	return false;
}

bool measure_once(const test_case &c, figures *f, std::string *why)
{
	memory *mem = memory_of(*c.d, c.folio);
	uint64_t len = len_bytes(c), tables_bytes;
	std::unique_ptr<served> under_test;
	measure_touch_result r;

	/* Before the plan, which needs memory too. */
	if (mem && !mem->need(len, why))
		return false;
	plan p(plan_of(c, len));
	if (!p.usable(why))
		return false;
	setup s = { len, c.writes, &p.get(), c.window, c.folio, false, pin_cpus() };
	tables_bytes = page_table_bytes();
	under_test = c.d->open(mem, s, why);
	if (!under_test)
		return false;
	if (spoils())
		memory::spoil(under_test->memfd(), p.get().pages[0]);
	f->warm_seconds = warm_memory(len);
	if (!touch(c, s, under_test.get(), &r, why) ||
	    !take_figures(*c.d, s, under_test.get(), r, tables_bytes, f, why))
		return false;
	if (memory::verify(under_test->addr(), p.get(), c.writes, why))
		return true;
	if (mem)
		mem->refill();
	return false;
}

/* Without threads and window, which are arguments of the Google Benchmark family. */
std::string name_of(const test_case &c)
{
	std::string name = c.weak ? "weak/" : "touch/";

	name += c.d->name;
	name += c.random ? "/random" : "/sequential";
	name += c.writes ? "/write" : "/read";
	name += "/density:" + std::to_string(c.density);
	name += c.mixed ? "/share:mixed" : "/share:disjoint";
	name += folio_part(c.folio);
	return name;
}

/*
 * Use arguments rather than single benchmarks: Google Benchmark copies its list for each family,
 * which takes half a minute for thousands of families.
 */
benchmark::internal::Benchmark *add(const test_case &of, bool windows)
{
	auto *all =
		benchmark::RegisterBenchmark(name_of(of).c_str(), [of, windows](
									  benchmark::State &state) {
			test_case c = of;

			c.nr_threads = static_cast<uint32_t>(state.range(0));
			if (windows)
				c.window = static_cast<uint32_t>(state.range(1));
			run(state,
			    [&c](figures *f, std::string *why) { return measure_once(c, f, why); });
		});

	return all->Unit(benchmark::kMillisecond);
}

void add_threads(const test_case &c)
{
	benchmark::internal::Benchmark *plain = add(c, false)->ArgName("threads");
	benchmark::internal::Benchmark *windows = nullptr;

	if (c.d->has_window && !opts.windows.empty())
		windows = add(c, true)->ArgNames({ "threads", "window" });
	for (uint32_t nr_threads : thread_counts()) {
		plain->Arg(nr_threads);
		for (uint32_t window : opts.windows) {
			if (windows)
				windows->Args({ nr_threads, window });
		}
	}
}

void register_touch()
{
	for (uint32_t d = 0; d < nr_designs; d++) {
		for (unsigned bits = 0; bits < 16; bits++) {
			for (uint32_t density : densities) {
				test_case c = {};

				c.d = &designs[d];
				c.weak = bits & 8;
				c.random = !(bits & 4);
				c.writes = bits & 2;
				c.mixed = bits & 1;
				c.density = density;
				for (fln_folio folio : folios_of(c.d->has_folio)) {
					c.folio = folio;
					add_threads(c);
				}
			}
		}
	}
}

const family touch_family("touch", register_touch);

} /* namespace */

} /* namespace bench */
