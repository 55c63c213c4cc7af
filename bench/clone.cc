/* SPDX-License-Identifier: MIT */
/*
 * clone/<design>/<op>/density:<D>/guests:<N>: N guests of one image with private writes, each
 * with one thread, until each has touched its working set.
 *
 * The working set is one page in D: the same pages in the same random order in every
 * guest, because clones of one snapshot behave alike.  The image is filled before the clock
 * starts.  The baseline is the kernel without userfaultfd: each clone is a private mapping
 * of the filled memfd.
 */
#include "bench/bench.h"
#include "bench/c.h"
#include "bench/host.h"
#include "bench/plan.h"
#include "measure/clock.h"
#include "measure/error.h"
#include "measure/machine.h"
#include "measure/verify.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace bench {

namespace {

constexpr uint64_t max_image_bytes = UINT64_C(256) << 20;
const uint32_t densities[] = { 1, 8, 64 };
const uint32_t default_guests[] = { 1, 4, 16, 64, 256 };

struct clone_case {
	bool engine;
	bool writes;
	uint32_t density;
	uint32_t nr_guests;
};

/* Results of one try besides the touches. */
struct clone_figures {
	double set_up_seconds = 0;
	uint64_t pss_bytes = 0;
};

uint64_t image_bytes()
{
	return std::min(opts.memory_bytes, max_image_bytes);
}

/* The clones, of an engine or as plain private mappings. */
class clones {
      public:
	clones(const clone_case &c, uint64_t len_bytes) : c_(c), len_bytes_(len_bytes)
	{
	}

	~clones()
	{
		if (c_.engine)
			return; /* host_ unmaps them */
		for (char *addr : addrs_)
			(void)munmap(addr, len_bytes_);
	}

	clones(const clones &) = delete;
	clones &operator=(const clones &) = delete;

	bool open(const memory &mem, std::string *why)
	{
		if (c_.engine && !(host_.start(why) && host_.adopt(mem.memfd(), len_bytes_, why)))
			return false;
		for (uint32_t i = 0; i < c_.nr_guests; i++) {
			char *addr;

			if (!(c_.engine ? host_.add_guest(FLN_SHARING_PRIVATE, 1, &addr, why)
					: map(mem, &addr, why)))
				return false;
			addrs_.push_back(addr);
		}
		return true;
	}

	const std::vector<char *> &addrs() const
	{
		return addrs_;
	}

	const host &engine_host() const
	{
		return host_;
	}

      private:
	bool map(const memory &mem, char **addr, std::string *why) const
	{
		void *at = mmap(nullptr, len_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				mem.memfd(), 0);

		if (at == MAP_FAILED) {
			*why = std::string("cannot map memory: ") + std::strerror(errno);
			return false;
		}
		*addr = static_cast<char *>(at);
		return true;
	}

	clone_case c_;
	uint64_t len_bytes_;
	std::vector<char *> addrs_;
	host host_;
};

measure_plan_opts plan_opts(const clone_case &c, uint64_t len_bytes)
{
	measure_plan_opts o = {};

	o.total_pages = len_bytes / page_bytes;
	o.density = c.density;
	o.nr_threads = 1;
	o.shuffled = true;
	return o;
}

bool verify_one(measure_verify_opts *v, std::string *why)
{
	measure_verify_result r = {};

	v->contents = memory::contents_at;
	if (!measure_verify(v, &r))
		*why = measure_last_error();
	else if (r.nr_wrong)
		*why = std::to_string(r.nr_wrong) + " of " + std::to_string(r.nr_verified) +
		       " pages are wrong, the first is page " + std::to_string(r.first_wrong_page);
	else
		return true;
	return false;
}

/* Verify the touched pages of each guest, and that all of the image is unchanged. */
bool verify(const clone_case &c, const clones &all, const memory &mem, const measure_plan &p,
	    std::string *why)
{
	measure_verify_opts v = {};

	v.plan = &p;
	v.written = c.writes;
	for (uint32_t i = 0; i < c.nr_guests; i++) {
		v.addr = all.addrs()[i];
		v.first_thread = i;
		if (!verify_one(&v, why)) {
			*why = "guest " + std::to_string(i) + ": " + *why;
			return false;
		}
	}
	v.addr = nullptr;
	v.fd = mem.memfd();
	v.written = false;
	v.whole = true;
	if (verify_one(&v, why))
		return true;
	*why = "the image, which must not change: " + *why;
	return false;
}

bool touch(const clone_case &c, const clones &all, const measure_plan &p, figures *f,
	   std::string *why)
{
	measure_touch_opts o = {};
	measure_touch_result r;
	fln_stats stats;

	o.plan = &p;
	o.addrs = all.addrs().data();
	o.nr_guests = c.nr_guests;
	o.cpus = pin_cpus();
	o.kernel = !c.engine;
	o.writes = c.writes;
	o.mark = c.engine ? MEASURE_SLEPT : c.writes ? MEASURE_SLOW : MEASURE_COUNTED;
	if (!measure_touch(the_crowd(), &o, &r)) {
		*why = measure_last_error();
		return false;
	}
	settle();
	f->take(r, p.nr_pages * c.nr_guests);
	f->nr_faults = r.crowd.to.nr_minor_faults - r.crowd.from.nr_minor_faults;
	if (!c.engine)
		return true;
	if (!all.engine_host().stats(&stats, why))
		return false;
	f->fault = stats.service;
	f->nr_faults = stats.faults;
	return true;
}

/* Each guest needs memory for copies of written pages and for page tables. */
bool fits(const clone_case &c, uint64_t len_bytes, std::string *why)
{
	uint64_t need = (c.writes ? len_bytes / c.density : 0) + len_bytes / 512;
	uint64_t have;

	if (!measure_memory_available(&have) || need * c.nr_guests < have / 10 * 8)
		return true;
	*why = "left out: it takes " + std::to_string(need * c.nr_guests >> 20) +
	       " MiB of memory, but only " + std::to_string(have >> 20) + " MiB are available";
	return false;
}

bool measure_once(const clone_case &c, figures *f, quietest<clone_figures> *quiet, std::string *why)
{
	clone_figures more;
	uint64_t len_bytes = image_bytes(), start_ns;
	memory &mem = the_memory();
	plan p(plan_opts(c, len_bytes));
	clones all(c, len_bytes);

	if (!p.usable(why) || !mem.need(len_bytes, why) || !fits(c, len_bytes, why))
		return false;
	if (spoils())
		mem.spoil(p.get().pages[0]);
	start_ns = measure_now_ns();
	if (!all.open(mem, why))
		return false;
	more.set_up_seconds = static_cast<double>(measure_now_ns() - start_ns) / 1e9;
	if (!touch(c, all, p.get(), f, why))
		return false;
	more.pss_bytes = memory_in_use(all.addrs(), len_bytes);
	quiet->offer(more, f->others);
	return verify(c, all, mem, p.get(), why);
}

void add(const clone_case &c)
{
	std::string name = std::string("clone/") + (c.engine ? "engine" : "kernel") +
			   (c.writes ? "/write" : "/read") +
			   "/density:" + std::to_string(c.density) +
			   "/guests:" + std::to_string(c.nr_guests);

	benchmark::RegisterBenchmark(name.c_str(), [c](benchmark::State &state) {
		quietest<clone_figures> quiet;

		run(state,
		    [&](figures *f, std::string *why) { return measure_once(c, f, &quiet, why); });
		state.counters["set_up_seconds"] = quiet.kept.set_up_seconds;
		state.counters["pss_mib_per_guest"] =
			static_cast<double>(quiet.kept.pss_bytes) / c.nr_guests / (1 << 20);
	})->Unit(benchmark::kMillisecond);
}

void register_clone()
{
	std::vector<uint32_t> guests(std::begin(default_guests), std::end(default_guests));

	if (!opts.threads.empty())
		guests = opts.threads;
	for (unsigned bits = 0; bits < 4; bits++) {
		for (uint32_t density : densities) {
			for (uint32_t nr_guests : guests)
				add({ (bits & 2) == 0, (bits & 1) != 0, density, nr_guests });
		}
	}
}

const family clone_family("clone", register_clone);

} /* namespace */

} /* namespace bench */
