/* SPDX-License-Identifier: MIT */
/*
 * kvm/<design>/<order>/<op>/density:<D>[/folio:<F>]/vcpus:<N>[/window:<W>]: like touch/, with
 * KVM vCPUs.
 *
 * Each vCPU runs on a thread of the crowd, touches its own part of the memory, and
 * measures its touches itself with the time-stamp counter.  Its work list and results lie in an
 * arena, which is mapped in the guest and faulted in before the measurement.
 */
#include "bench/bench.h"
#include "bench/c.h"
#include "bench/host.h"
#include "bench/kvm_guest.h"
#include "bench/plan.h"
#include "bench/use.h"
#include "measure/error.h"
#include "vcpu/vcpu.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <sys/mman.h>

namespace bench {

namespace {

const uint32_t densities[] = { 1, 8, 64, 512 };

struct test_case {
	const design *d;
	bool random;
	bool writes;
	uint32_t density;
	uint32_t nr_vcpus;
	uint32_t window;
	fln_folio folio;
};

/* A virtual machine with its arena. */
class machine {
      public:
	machine() = default;

	~machine()
	{
		vcpu_vm_destroy(vm_);
		if (arena_)
			(void)munmap(arena_, arena_bytes_);
	}

	machine(const machine &) = delete;
	machine &operator=(const machine &) = delete;

	bool start(served *s, uint64_t len_bytes, const measure_plan &p, bool writes,
		   std::string *why)
	{
		served_ = s;
		if (!make_arena(p, why))
			return false;
		fill_arena(p, s->addr(), writes);
		if (vcpu_vm_create(p.nr_threads, 0, &vm_) == 0 &&
		    vcpu_vm_map(vm_, arena_, arena_bytes_, true) == 0 &&
		    vcpu_vm_map(vm_, s->addr(), len_bytes, true) == 0)
			return true;
		*why = std::string("cannot create a virtual machine: ") + vcpu_last_error();
		return false;
	}

	bool touch(bool populates, measure_touch_result *out, std::string *why)
	{
		measure_work work = {};

		work.prepare = prepare;
		work.run = populates ? populate_and_touch : touch_only;
		work.ctx = this;
		if (!measure_crowd_run(the_crowd(), vcpu_vm_nr(vm_), pin_cpus(), &work,
				       &out->crowd)) {
			*why = measure_last_error();
			return false;
		}
		if (failed_) {
			*why = "a vCPU has stopped: " + std::string(measure_last_error());
			return false;
		}
		return gather(out, why);
	}

      private:
	/* Use one mapping for everything, because creating memory slots takes time. */
	bool make_arena(const measure_plan &p, std::string *why)
	{
		uint64_t touchers_bytes = p.nr_threads * sizeof(kvm_toucher);
		void *arena;

		arena_bytes_ = touchers_bytes + p.nr_pages * (sizeof(uint64_t) + sizeof(uint32_t));
		arena_bytes_ = (arena_bytes_ + page_bytes - 1) / page_bytes * page_bytes;
		arena = mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (arena == MAP_FAILED) {
			*why = "out of memory for the vCPUs' work lists";
			return false;
		}
		arena_ = arena;
		touchers_ = static_cast<kvm_toucher *>(arena);
		slots_ = reinterpret_cast<uint64_t *>(touchers_ + p.nr_threads);
		pages_ = reinterpret_cast<uint32_t *>(slots_ + p.nr_pages);
		nr_pages_ = p.nr_pages;
		return true;
	}

	void fill_arena(const measure_plan &p, char *addr, bool writes)
	{
		uint64_t contents[page_bytes / sizeof(uint64_t)];

		std::copy(p.pages, p.pages + p.nr_pages, pages_);
		for (uint32_t thread = 0; thread < p.nr_threads; thread++) {
			uint64_t lo, hi;

			measure_plan_slice(&p, thread, &lo, &hi);
			touchers_[thread] = { addr, pages_ + lo, slots_ + lo, hi - lo, writes, 0 };
			for (uint64_t i = lo; i < hi; i++) {
				if (!writes)
					memory::contents(pages_[i], contents);
				slots_[i] = writes ? measure_plan_token(&p, pages_[i], thread)
						   : contents[0];
			}
		}
		/* Reads are verified by the vCPU itself: make it expect a wrong word. */
		if (spoils() && !writes)
			slots_[0]++;
	}

	bool run(uint32_t thread, vcpu_fn fn)
	{
		int rc = vcpu_run(vcpu_vm_vcpu(vm_, thread), fn, &touchers_[thread], nullptr);

		if (rc == 0)
			return true;
		measure_error("vCPU %u: %s", thread, vcpu_last_error());
		return false;
	}

	static bool prepare(void *ctx, uint32_t thread)
	{
		return static_cast<machine *>(ctx)->run(thread, kvm_guest_prepare);
	}

	static void touch_only(void *ctx, uint32_t thread)
	{
		machine *m = static_cast<machine *>(ctx);

		if (!m->run(thread, kvm_guest_touch))
			m->failed_ = true;
	}

	static void populate_and_touch(void *ctx, uint32_t thread)
	{
		static_cast<machine *>(ctx)->served_->before_touching(thread);
		touch_only(ctx, thread);
	}

	bool gather(measure_touch_result *out, std::string *why) const
	{
		static const vcpu_clock clock = [] {
			vcpu_clock c;

			vcpu_clock_init(&c);
			return c;
		}();
		uint64_t nr_wrong = 0;

		for (uint32_t i = 0; i < vcpu_vm_nr(vm_); i++)
			nr_wrong += touchers_[i].nr_wrong;
		for (uint64_t i = 0; i < nr_pages_; i++) {
			vcpu_u128 ns = static_cast<vcpu_u128>(slots_[i]) * clock.ns_by_tsc >> 32;

			fln_histogram_record(&out->all, static_cast<uint64_t>(ns));
		}
		if (nr_wrong == 0)
			return true;
		*why = std::to_string(nr_wrong) +
		       " pages are wrong: a vCPU has read unexpected words";
		return false;
	}

	struct vcpu_vm *vm_ = nullptr;
	served *served_ = nullptr;
	void *arena_ = nullptr;
	uint64_t arena_bytes_ = 0;
	uint64_t nr_pages_ = 0;
	kvm_toucher *touchers_ = nullptr;
	uint64_t *slots_ = nullptr;
	uint32_t *pages_ = nullptr;
	std::atomic<bool> failed_{ false };
};

/* The reason to leave a case out; empty: none. */
std::string left_out(const test_case &c)
{
	const char *why = vcpu_unavailable();

	if (why)
		return std::string("left out: ") + why;
	if (user_mode_only() && !c.d->kernel)
		return "left out: vCPUs fault in kernel mode, and this user may handle user-mode "
		       "faults only; 'faultlane doctor' names the remedy";
	return "";
}

uint64_t len_bytes(const test_case &c)
{
	return memory_bytes_at(c.density);
}

measure_plan_opts plan_of(const test_case &c, uint64_t len)
{
	measure_plan_opts o = {};

	o.total_pages = len / page_bytes;
	o.density = c.density;
	o.nr_threads = c.nr_vcpus;
	o.shuffled = c.random;
	return o;
}

bool measure_once(const test_case &c, figures *f, std::string *why)
{
	memory *mem = memory_of(*c.d, c.folio);
	uint64_t len = len_bytes(c), tables_bytes;
	plan p(plan_of(c, len));
	setup s = { len, c.writes, &p.get(), c.window, c.folio, true, pin_cpus() };
	std::unique_ptr<served> under_test;
	measure_touch_result r = {};
	machine m;

	*why = left_out(c);
	if (!why->empty() || !p.usable(why) || (mem && !mem->need(len, why)))
		return false;
	tables_bytes = page_table_bytes();
	under_test = c.d->open(mem, s, why);
	if (!under_test)
		return false;
	/* Reads are verified by the vCPU, see fill_arena(). */
	if (spoils() && c.writes)
		memory::spoil(under_test->memfd(), p.get().pages[0]);
	if (!m.start(under_test.get(), len, p.get(), c.writes, why))
		return false;
	f->warm_seconds = warm_memory(len);
	if (!m.touch(c.d->populates, &r, why) ||
	    !take_figures(*c.d, s, under_test.get(), r, tables_bytes, f, why))
		return false;
	if (memory::verify(under_test->addr(), p.get(), c.writes, why))
		return true;
	if (mem)
		mem->refill();
	return false;
}

std::string name_of(const test_case &c)
{
	std::string name = std::string("kvm/") + c.d->name;

	name += c.random ? "/random" : "/sequential";
	name += c.writes ? "/write" : "/read";
	name += "/density:" + std::to_string(c.density) + folio_part(c.folio);
	name += "/vcpus:" + std::to_string(c.nr_vcpus);
	if (c.window)
		name += "/window:" + std::to_string(c.window);
	return name;
}

void add(const test_case &c)
{
	benchmark::RegisterBenchmark(name_of(c).c_str(), [c](benchmark::State &state) {
		run(state, [&c](figures *f, std::string *why) { return measure_once(c, f, why); });
	})->Unit(benchmark::kMillisecond);
}

void add_vcpus(test_case c)
{
	for (uint32_t nr_vcpus : thread_counts()) {
		c.nr_vcpus = nr_vcpus;
		c.window = 0;
		add(c);
		for (uint32_t window : opts.windows) {
			c.window = window;
			if (c.d->has_window)
				add(c);
		}
	}
}

void register_kvm()
{
	for (uint32_t d = 0; d < nr_designs; d++) {
		/* Where a thread would get SIGBUS, KVM_RUN fails with EFAULT and no address. */
		if (designs[d].in_context)
			continue;
		for (unsigned bits = 0; bits < 4; bits++) {
			for (uint32_t density : densities) {
				test_case c = {};

				c.d = &designs[d];
				c.random = !(bits & 2);
				c.writes = bits & 1;
				c.density = density;
				for (fln_folio folio : folios_of(c.d->has_folio)) {
					c.folio = folio;
					add_vcpus(c);
				}
			}
		}
	}
}

const family kvm_family("kvm", register_kvm);

} /* namespace */

} /* namespace bench */
