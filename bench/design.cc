/* SPDX-License-Identifier: MIT */
/* The designs, but those of the engine: the kernel alone, baseline handlers. */
#include "bench/design.h"

#include "bench/c.h"
#include "bench/host.h"
#include "bench/options.h"
#include "bench/plan.h"
#include "bench/use.h"
#include "measure/cpus.h"

#include <algorithm>
#include <sys/mman.h>
#include <vector>

namespace bench {

namespace {

/* No userfaultfd. */
class by_kernel : public served {
      public:
	by_kernel(memory *mem, const setup &s, std::string *why)
	    : s_(s), mem_(mem), addr_(mem->map(s.len_bytes, why))
	{
	}

	~by_kernel() override
	{
		memory::unmap(addr_, s_.len_bytes);
	}

	char *addr() const override
	{
		return addr_;
	}

	int memfd() const override
	{
		return mem_->memfd();
	}

	double fill_seconds() const override
	{
		return mem_->fill_seconds();
	}

      protected:
	setup s_;
	memory *mem_;
	char *addr_;
};

/*
 * No userfaultfd; threads populate the pages that are touched before they touch any: all of
 * them are known to be needed.  Each thread populates one part of them, in ascending order: its own,
 * where threads are disjoint.
 */
class by_populate : public by_kernel {
      public:
	by_populate(memory *mem, const setup &s, std::string *why) : by_kernel(mem, s, why)
	{
		const measure_plan &p = *s.plan;
		uint64_t nr = 0, lo, hi;
		uint32_t thread = 0;

		runs_.resize(p.nr_threads);
		for (uint64_t page = 0; page < p.total_pages; page++) {
			if (!p.owners[page])
				continue;
			do {
				measure_plan_slice(&p, thread, &lo, &hi);
			} while (nr >= hi && ++thread);
			add(&runs_[thread], page);
			nr++;
		}
	}

	void before_touching(uint32_t thread) override
	{
		for (const run &r : runs_[thread])
			(void)madvise(addr_ + r.first * page_bytes, r.nr * page_bytes,
				      s_.writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	}

      private:
	struct run {
		uint64_t first, nr; /* pages */
	};

	static void add(std::vector<run> *runs, uint64_t page)
	{
		if (!runs->empty() && runs->back().first + runs->back().nr == page)
			runs->back().nr++;
		else
			runs->push_back({ page, 1 });
	}

	std::vector<std::vector<run>> runs_; /* by thread */
};

/*
 * No userfaultfd, and page cache in folios of 2 MiB: a fault maps one of them.  It is filled in the
 * way and at the time that the engine's images are: what the host of a virtual machine
 * has done about memory in the meantime would be a difference, too.
 */
class by_huge : public served {
      public:
	explicit by_huge(const setup &s) : s_(s)
	{
	}

	~by_huge() override
	{
		memory::unmap(addr_, s_.len_bytes);
	}

	bool start(std::string *why)
	{
		if (!own_.fill(s_.len_bytes, why))
			return false;
		addr_ = memory::map_fd(own_.fd(), s_.len_bytes, MAP_SHARED, why);
		return addr_ != nullptr;
	}

	char *addr() const override
	{
		return addr_;
	}

	int memfd() const override
	{
		return own_.fd();
	}

	uint64_t large_bytes() const override
	{
		return s_.len_bytes;
	}

	double fill_seconds() const override
	{
		return own_.fill_seconds();
	}

      private:
	setup s_;
	large_memfd own_;
	char *addr_ = nullptr;
};

/* One userfaultfd and one handler thread; or one of each per touching thread. */
class by_handler : public by_kernel {
      public:
	using by_kernel::by_kernel;

	~by_handler() override
	{
		fln_handler_stop(handler_);
	}

	bool start(fln_handler_design design, std::string *why)
	{
		fln_handler_opts o = {};
		int rc;

		o.addr = addr_;
		o.len_bytes = s_.len_bytes;
		o.design = design;
		o.window_first = s_.window;
		o.window_max = s_.window;
		o.kvm = s_.kvm;
		o.user_mode_only = user_mode_only();
		if (design == FLN_HANDLER_PER_VCPU)
			give_readers(&o);
		nr_userfaultfds_ = o.nr_readers ? o.nr_readers : 1;
		rc = fln_handler_start(&o, &handler_);
		return rc == 0 || library_failed("cannot start the fault handler", rc, why);
	}

	bool stats(fln_stats *out, std::string *) override
	{
		struct fln_handler_stats from;

		fln_handler_stats(handler_, &from);
		out->userfaultfds = nr_userfaultfds_;
		out->faults = from.faults;
		out->refaults = from.refaults;
		out->pages_installed = from.pages_installed;
		out->installs = from.installs;
		out->wakes = from.wakes;
		out->reads = from.reads;
		out->service = from.service;
		return true;
	}

      private:
	/*
	 * One reader for each touching thread.  If threads are pinned, reader i is pinned to the
	 * processor of thread i; with disjoint threads it handles the faults of that thread.
	 */
	void give_readers(fln_handler_opts *o)
	{
		o->nr_readers = s_.plan->nr_threads;
		for (uint32_t i = 0; s_.cpus && i < s_.plan->nr_threads; i++)
			reader_cpus_.push_back(measure_cpus_nth(s_.cpus, i));
		o->reader_cpus = s_.cpus ? reader_cpus_.data() : nullptr;
	}

	std::vector<uint32_t> reader_cpus_;
	uint32_t nr_userfaultfds_ = 0;
	struct fln_handler *handler_ = nullptr;
};

template <class mapped>
std::unique_ptr<served> open_mapped(memory *mem, const setup &s, std::string *why)
{
	auto p = std::make_unique<mapped>(mem, s, why);

	if (!p->addr())
		return nullptr;
	return p;
}

template <fln_handler_design design>
std::unique_ptr<served> open_handler(memory *mem, const setup &s, std::string *why)
{
	auto p = std::make_unique<by_handler>(mem, s, why);

	if (!p->addr() || !p->start(design, why))
		return nullptr;
	return p;
}

std::unique_ptr<served> open_huge(memory *, const setup &s, std::string *why)
{
	auto p = std::make_unique<by_huge>(s);

	if (!p->start(why))
		return nullptr;
	return p;
}

} /* namespace */

/*
 * Columns: name, open, own_memory, kernel, in_context, has_window, has_folio, populates (see struct
 * design).  Of engine_released the kernel alone resolves faults, too.
 */
const design designs[] = {
	{ "kernel", open_mapped<by_kernel>, false, true, false, false, false, false },
	{ "kernel_populate", open_mapped<by_populate>, false, true, false, false, false, true },
	{ "kernel_huge", open_huge, true, true, false, false, false, false },
	{ "single", open_handler<FLN_HANDLER_SINGLE>, false, false, false, false, false, false },
	{ "single_window", open_handler<FLN_HANDLER_SINGLE_WINDOW>, false, false, false, true,
	  false, false },
	{ "per_vcpu", open_handler<FLN_HANDLER_PER_VCPU>, false, false, false, false, false,
	  false },
	{ "engine", open_engine, true, false, false, true, true, false },
	{ "engine_small", open_engine_small, false, false, false, true, false, false },
	{ "engine_released", open_engine_released, true, true, false, false, true, false },
	{ "engine_page", open_engine_page, false, false, false, false, false, false },
	{ "engine_in_context", open_engine_in_context, false, false, true, true, false, false },
};

const uint32_t nr_designs = static_cast<uint32_t>(std::size(designs));

memory *memory_of(const design &d, fln_folio folio)
{
	return d.own_memory && folio != FLN_FOLIO_SMALL ? nullptr : &the_memory();
}

bool take_figures(const design &d, const setup &s, served *under_test,
		  const measure_touch_result &r, uint64_t tables_bytes, figures *f,
		  std::string *why)
{
	fln_stats stats = FLN_STATS_INIT;
	uint64_t now_bytes;

	settle();
	under_test->settle();
	f->take(r, s.plan->nr_pages);
	f->take_settled(r);
	if (!under_test->stats(&stats, why))
		return false;
	f->take_stats(stats);
	if (d.kernel)
		f->nr_faults = r.crowd.to.nr_minor_faults - r.crowd.from.nr_minor_faults;
	now_bytes = page_table_bytes();
	f->memory.page_table_bytes = now_bytes - std::min(now_bytes, tables_bytes);
	/* A memory that other runs share may be larger. */
	f->memory.all_bytes +=
		f->memory.page_table_bytes + std::min(file_bytes(under_test->memfd()), s.len_bytes);
	f->memory.large_folio_bytes = under_test->large_bytes();
	f->memory.large_mapped_bytes = use_of({ under_test->addr() }, s.len_bytes).large_bytes;
	f->fill_seconds = under_test->fill_seconds();
	return true;
}

} /* namespace bench */
