/* SPDX-License-Identifier: MIT */
/*
 * clone/<design>/<op>/density:<D>[/folio:<F>]/guests:<N>: N guests of one image with private writes,
 * each with one thread, until each has touched its working set.
 *
 * The working set is one page in D: the same pages in the same random order in every
 * guest, because clones of one snapshot behave alike.  The image is filled before the clock
 * starts.  The baselines are the kernel without userfaultfd: each clone is a private mapping
 * of the filled memfd, in small folios (kernel) or large ones (kernel_huge).
 *
 * Clones are released only if what they discard reads the image's contents again; so it does
 * in the designs that release.
 */
#include "bench/bench.h"
#include "bench/c.h"
#include "bench/host.h"
#include "bench/plan.h"
#include "bench/use.h"
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
const uint32_t densities[] = { 1, 8, 64, 512 };
const uint32_t default_guests[] = { 1, 4, 16, 64, 256 };

struct clone_design {
	const char *name;
	const engine_setup *engine; /* nullptr: the kernel alone */
	bool own_memory;            /* else the_memory() */
};

const clone_design clone_designs[] = {
	{ "engine", &engine_both, true },
	{ "engine_small", &engine_neither, false },
	{ "engine_released", &engine_released_before, true },
	{ "kernel", nullptr, false },
	{ "kernel_huge", nullptr, true },
};

struct clone_case {
	const clone_design *d;
	fln_folio folio;
	bool writes;
	uint32_t density;
	uint32_t nr_guests;
};

/* Results of one try besides the touches. */
struct clone_figures {
	double set_up_seconds = 0;
	uint64_t pss_bytes = 0;
};

/* The memory that a design's runs share; nullptr: the image is its own. */
memory *memory_of(const clone_case &c)
{
	return c.d->own_memory && c.folio != FLN_FOLIO_SMALL ? nullptr : &the_memory();
}

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
		if (c_.d->engine)
			return; /* host_ unmaps them */
		for (char *addr : addrs_)
			(void)munmap(addr, len_bytes_);
	}

	clones(const clones &) = delete;
	clones &operator=(const clones &) = delete;

	/* Make the image, unless all runs share it. */
	bool make_image(const memory *mem, std::string *why)
	{
		fln_folio folio;

		mem_ = mem;
		if (!c_.d->engine)
			return mem || own_.fill(len_bytes_, why);
		folio = c_.folio == FLN_FOLIO_AUTO ? c_.d->engine->folio : c_.folio;
		return host_.start(nullptr, why) &&
		       (mem ? host_.adopt(mem->memfd(), len_bytes_, why)
			    : host_.make_filled(len_bytes_, folio, why));
	}

	/* Make the guests. */
	bool open(std::string *why)
	{
		for (uint32_t i = 0; i < c_.nr_guests; i++) {
			char *addr;

			if (!(c_.d->engine ? add_guest(&addr, why) : map(&addr, why)))
				return false;
			addrs_.push_back(addr);
		}
		return !c_.d->engine || !c_.d->engine->released || host_.release(why);
	}

	int memfd() const
	{
		if (c_.d->engine)
			return fln_image_memfd(host_.image());
		return mem_ ? mem_->memfd() : own_.fd();
	}

	double fill_seconds() const
	{
		if (mem_)
			return mem_->fill_seconds();
		return c_.d->engine ? host_.fill_seconds() : own_.fill_seconds();
	}

	uint64_t large_bytes() const
	{
		if (c_.d->engine)
			return host_.large_bytes();
		return mem_ ? 0 : len_bytes_;
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
	bool add_guest(char **addr, std::string *why)
	{
		guest_setup g;

		g.sharing = FLN_SHARING_PRIVATE;
		g.release = c_.d->engine->release;
		if (g.release != FLN_RELEASE_NEVER)
			g.discard = FLN_DISCARD_IMAGE;
		return host_.add_guest(g, addr, why);
	}

	bool map(char **addr, std::string *why) const
	{
		/* Aligned, so that large folios can be mapped by large entries. */
		*addr = memory::map_fd(memfd(), len_bytes_, MAP_PRIVATE, why);
		return *addr != nullptr;
	}

	clone_case c_;
	uint64_t len_bytes_;
	const memory *mem_ = nullptr;
	std::vector<char *> addrs_;
	large_memfd own_; /* of kernel_huge */
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
bool verify(const clone_case &c, const clones &all, const measure_plan &p, std::string *why)
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
	v.fd = all.memfd();
	v.written = false;
	v.whole = true;
	if (verify_one(&v, why))
		return true;
	*why = "the image, which must not change: " + *why;
	return false;
}

bool touch(const clone_case &c, const clones &all, const measure_plan &p, measure_touch_result *r,
	   std::string *why)
{
	measure_touch_opts o = {};

	o.plan = &p;
	o.addrs = all.addrs().data();
	o.nr_guests = c.nr_guests;
	o.cpus = pin_cpus();
	o.kernel = !c.d->engine || c.d->engine->released;
	o.writes = c.writes;
	o.mark = !o.kernel ? MEASURE_SLEPT : c.writes ? MEASURE_SLOW : MEASURE_COUNTED;
	if (measure_touch(the_crowd(), &o, r))
		return true;
	*why = measure_last_error();
	return false;
}

bool take(const clone_case &c, const clones &all, const measure_touch_result &r, uint64_t nr_pages,
	  uint64_t tables_bytes, figures *f, std::string *why)
{
	mapped_use use;
	fln_stats stats = FLN_STATS_INIT;
	uint64_t now_bytes;

	settle();
	if (c.d->engine)
		all.engine_host().settle();
	f->take(r, nr_pages);
	f->take_settled(r);
	if (c.d->engine && !all.engine_host().stats(&stats, why))
		return false;
	f->take_stats(stats);
	if (!c.d->engine || c.d->engine->released)
		f->nr_faults = r.crowd.to.nr_minor_faults - r.crowd.from.nr_minor_faults;
	now_bytes = page_table_bytes();
	use = use_of(all.addrs(), image_bytes());
	f->memory.page_table_bytes = now_bytes - std::min(now_bytes, tables_bytes);
	f->memory.all_bytes += f->memory.page_table_bytes + use.anonymous_bytes +
			       std::min(file_bytes(all.memfd()), image_bytes());
	f->memory.large_folio_bytes = all.large_bytes();
	f->memory.large_mapped_bytes = use.large_bytes;
	f->fill_seconds = all.fill_seconds();
	return true;
}

/* Each guest takes memory for copies of written pages and for page tables. */
uint64_t clone_bytes(const clone_case &c, uint64_t len_bytes)
{
	return ((c.writes ? len_bytes / c.density : 0) + len_bytes / 512) * c.nr_guests;
}

bool fits(const clone_case &c, uint64_t len_bytes, std::string *why)
{
	uint64_t need = clone_bytes(c, len_bytes), have;

	if (!measure_memory_available(&have) || need < have / 10 * 8)
		return true;
	*why = "left out: it takes " + std::to_string(need >> 20) + " MiB of memory, but only " +
	       std::to_string(have >> 20) + " MiB are available";
	return false;
}

bool measure_once(const clone_case &c, figures *f, quietest<clone_figures> *quiet, std::string *why)
{
	clone_figures more;
	uint64_t len_bytes = image_bytes(), tables_bytes, start_ns;
	memory *mem = memory_of(c);
	plan p(plan_opts(c, len_bytes));
	clones all(c, len_bytes);
	measure_touch_result r;

	if (!p.usable(why) || (mem && !mem->need(len_bytes, why)) || !fits(c, len_bytes, why) ||
	    !all.make_image(mem, why))
		return false;
	if (spoils())
		memory::spoil(all.memfd(), p.get().pages[0]);
	tables_bytes = page_table_bytes();
	start_ns = measure_now_ns();
	if (!all.open(why))
		return false;
	more.set_up_seconds = static_cast<double>(measure_now_ns() - start_ns) / 1e9;
	f->warm_seconds = warm_memory(clone_bytes(c, len_bytes));
	if (!touch(c, all, p.get(), &r, why) ||
	    !take(c, all, r, p.get().nr_pages * c.nr_guests, tables_bytes, f, why))
		return false;
	more.pss_bytes = use_of(all.addrs(), len_bytes).pss_bytes;
	quiet->offer(more, f->others);
	if (verify(c, all, p.get(), why))
		return true;
	if (mem)
		mem->refill();
	return false;
}

void add(const clone_case &c)
{
	std::string name = std::string("clone/") + c.d->name + (c.writes ? "/write" : "/read") +
			   "/density:" + std::to_string(c.density) + folio_part(c.folio) +
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

void add_guests(const clone_design &d, fln_folio folio, const std::vector<uint32_t> &guests)
{
	for (bool writes : { true, false }) {
		for (uint32_t density : densities) {
			for (uint32_t nr_guests : guests)
				add({ &d, folio, writes, density, nr_guests });
		}
	}
}

void register_clone()
{
	std::vector<uint32_t> guests(std::begin(default_guests), std::end(default_guests));

	if (!opts.threads.empty())
		guests = opts.threads;
	for (const clone_design &d : clone_designs) {
		for (fln_folio folio : folios_of(d.engine && d.own_memory))
			add_guests(d, folio, guests);
	}
}

const family clone_family("clone", register_clone);

} /* namespace */

} /* namespace bench */
