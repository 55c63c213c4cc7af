/* SPDX-License-Identifier: MIT */
/*
 * restore/<design>/<source>/<how>/<op>/density:<D>[/folio:<F>][/cache:<C>]/threads:<N>: restore
 * memory from a source until threads have touched one page in D of it.  The source is one of
 *
 *   file      a raw file, read by the engine
 *   memory    contents in this process's memory
 *   put       none: contents are pushed, as by a migration stream
 *   slow_1ms, slow_10ms  contents in memory, each read of which takes as long
 *
 * The baseline, design kernel, is a private mapping of the file, without userfaultfd.
 *
 * How: "ahead" fills everything before the first touch (reported as fill_seconds, separate from
 * the touches' seconds); "late" fills pages when they are touched; "behind" fills everything in
 * the background meanwhile.  Cache: whether the file is in this kernel's page cache when
 * the clock starts; layers below the kernel (a disk's cache, a virtual machine's host) may still
 * cache it.
 */
#include "bench/bench.h"
#include "bench/c.h"
#include "bench/file.h"
#include "bench/host.h"
#include "bench/plan.h"
#include "bench/use.h"
#include "measure/crew.h"
#include "measure/error.h"
#include "measure/machine.h"
#include "measure/tasks.h"
#include "measure/verify.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace bench {

namespace {

constexpr uint64_t piece_bytes = UINT64_C(2) << 20;
const uint32_t densities[] = { 1, 8, 64, 512 };

enum class source {
	file,
	memory,
	put,
	slow_1ms,
	slow_10ms
};

enum class how {
	ahead,
	late,
	behind
};

const char *const how_names[] = { "ahead", "late", "behind" };

struct restore_design {
	const char *name;
	const engine_setup *engine; /* nullptr: the kernel alone */
};

const restore_design restore_designs[] = {
	{ "engine", &engine_both },
	{ "engine_small", &engine_neither },
	{ "kernel", nullptr },
};

struct kind {
	enum source source;
	const char *name;
	enum how how;
	bool cold;
	bool kernel; /* the design kernel can do it */
};

const kind kinds[] = {
	{ source::file, "file", how::ahead, false, false },
	{ source::file, "file", how::ahead, true, false },
	{ source::file, "file", how::late, false, true },
	{ source::file, "file", how::late, true, true },
	{ source::file, "file", how::behind, false, false },
	{ source::memory, "memory", how::ahead, false, false },
	{ source::memory, "memory", how::late, false, false },
	{ source::memory, "memory", how::behind, false, false },
	{ source::put, "put", how::ahead, false, false },
	{ source::slow_1ms, "slow_1ms", how::late, false, false },
	{ source::slow_10ms, "slow_10ms", how::late, false, false },
};

struct restore_case {
	const restore_design *d;
	fln_folio folio;
	kind k;
	bool writes;
	uint32_t density;
	uint32_t nr_threads;
};

/* The cost of filling ahead; 0 with "late". */
struct filling {
	double seconds = 0;
	double cpu_seconds = 0;
};

bool needs_file(const kind &k)
{
	return k.source == source::file;
}

measure_plan_opts plan_opts(const restore_case &c, uint64_t len_bytes)
{
	measure_plan_opts o = {};

	o.total_pages = len_bytes / page_bytes;
	o.density = c.density;
	o.nr_threads = c.nr_threads;
	o.shuffled = true;
	o.mixed = true;
	return o;
}

/* The contents in this process's memory, for all sources but the file. */
const char *contents_in_memory(uint64_t len_bytes, std::string *why)
{
	static char *addr;
	memory &mem = the_memory();

	if (!mem.need(len_bytes, why))
		return nullptr;
	if (!addr) {
		addr = mem.map(len_bytes, why);
		/* Otherwise the first run would pay for the faults of reading it. */
		if (addr)
			(void)madvise(addr, len_bytes, MADV_POPULATE_READ);
	}
	return addr;
}

struct putting {
	fln_image *image;
	const char *from;
};

bool put_piece(measure_crew *crew, uint64_t item)
{
	const putting *p = static_cast<const putting *>(crew->ctx);
	int rc = fln_image_put(p->image, item * piece_bytes, p->from + item * piece_bytes,
			       piece_bytes);

	return rc == 0 || measure_crew_fail(crew, "fln_image_put() failed: %s", fln_last_error());
}

bool fill_piece(measure_crew *crew, uint64_t item)
{
	int rc = fln_image_fill(static_cast<fln_image *>(crew->ctx), item * piece_bytes,
				piece_bytes);

	return rc == 0 || measure_crew_fail(crew, "fln_image_fill() failed: %s", fln_last_error());
}

/* The memory under test: of a guest of its own engine, or the baseline's mapping of the file. */
class restored {
      public:
	restored(const restore_case &c, uint64_t len_bytes) : c_(c), len_bytes_(len_bytes)
	{
	}

	~restored()
	{
		if (addr_ && !c_.d->engine)
			(void)munmap(addr_, len_bytes_);
	}

	restored(const restored &) = delete;
	restored &operator=(const restored &) = delete;

	bool open(std::string *why)
	{
		guest_setup g;

		if (!c_.d->engine)
			return map_file(why);
		g.release = c_.d->engine->release;
		g.nr_threads = c_.nr_threads;
		return host_.start(nullptr, why) && make_image(why) &&
		       host_.add_guest(g, &addr_, why);
	}

	bool fill(filling *f, std::string *why)
	{
		uint64_t nr = len_bytes_ / piece_bytes;
		measure_usage from, to;
		measure_crew crew;
		putting p = { host_.image(), from_ };
		bool ok;

		if (c_.k.how != how::ahead)
			return true;
		measure_usage_read(&from);
		ok = c_.k.source == source::put
			     ? measure_crew_run(&crew, nullptr, nr, put_piece, &p)
			     : measure_crew_run(&crew, nullptr, nr, fill_piece, host_.image());
		measure_usage_read(&to);
		if (!ok)
			*why = measure_last_error();
		f->seconds = static_cast<double>(to.wall_ns - from.wall_ns) / 1e9;
		f->cpu_seconds = static_cast<double>(to.own_cpu_ns - from.own_cpu_ns) / 1e9;
		return ok;
	}

	/* Have the engine fill everything in the background from now on. */
	bool fill_behind(std::string *why) const
	{
		int rc;

		if (c_.k.how != how::behind)
			return true;
		rc = fln_guest_advise(host_.guest(), reinterpret_cast<uintptr_t>(addr_), len_bytes_,
				      FLN_ADVICE_WILLNEED);
		return rc == 0 || library_failed("cannot fill in the background", rc, why);
	}

	char *addr() const
	{
		return addr_;
	}

	uint64_t len_bytes() const
	{
		return len_bytes_;
	}

	const host &engine_host() const
	{
		return host_;
	}

      private:
	bool map_file(std::string *why)
	{
		void *at = mmap(nullptr, len_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				the_file().fd(), 0);

		if (at == MAP_FAILED) {
			*why = std::string("cannot map the file: ") + std::strerror(errno);
			return false;
		}
		addr_ = static_cast<char *>(at);
		return true;
	}

	bool make_image(std::string *why)
	{
		fln_source *s = nullptr;
		int rc = 0;

		if (c_.k.source == source::file) {
			rc = fln_source_open_file(the_file().path().c_str(), 0, &s);
		} else {
			from_ = contents_in_memory(len_bytes_, why);
			if (!from_)
				return false;
			if (c_.k.source != source::put)
				rc = fln_source_from_memory(from_, len_bytes_, &s);
		}
		if (rc == 0 && c_.k.source == source::slow_1ms)
			rc = slow_down(1000000, &s);
		else if (rc == 0 && c_.k.source == source::slow_10ms)
			rc = slow_down(10000000, &s);
		if (rc)
			return library_failed("cannot open the source", rc, why);
		return host_.make_image(source_ptr(s), len_bytes_,
					c_.folio == FLN_FOLIO_AUTO ? c_.d->engine->folio : c_.folio,
					why);
	}

	static int slow_down(uint64_t delay_ns, fln_source **s)
	{
		fln_source_delay_opts o = FLN_SOURCE_DELAY_OPTS_INIT;
		source_ptr inner(*s);

		*s = nullptr;
		o.delay_ns = delay_ns;
		return fln_source_with_delay(inner.get(), &o, s);
	}

	restore_case c_;
	uint64_t len_bytes_;
	char *addr_ = nullptr;
	const char *from_ = nullptr;
	host host_;
};

bool verify(const restore_case &c, const restored &r, const measure_plan &p, std::string *why)
{
	measure_verify_opts v = {};
	measure_verify_result found = {};

	v.plan = &p;
	v.contents = memory::contents_at;
	v.addr = r.addr();
	v.written = c.writes;
	if (!measure_verify(&v, &found))
		*why = measure_last_error();
	else if (found.nr_wrong || found.nr_verified != p.nr_pages)
		*why = std::to_string(found.nr_wrong) + " of " + std::to_string(found.nr_verified) +
		       " verified pages are wrong; " + std::to_string(p.nr_pages) +
		       " were expected";
	else
		return true;
	return false;
}

bool touch(const restore_case &c, const restored &r, const measure_plan &p, measure_touch_result *t,
	   std::string *why)
{
	char *addr = r.addr();
	measure_touch_opts o = {};

	o.plan = &p;
	o.addrs = &addr;
	o.nr_guests = 1;
	o.cpus = pin_cpus();
	o.kernel = !c.d->engine;
	o.writes = c.writes;
	o.mark = !o.kernel ? MEASURE_SLEPT : c.writes ? MEASURE_SLOW : MEASURE_COUNTED;
	if (measure_touch(the_crowd(), &o, t))
		return true;
	*why = measure_last_error();
	return false;
}

bool take(const restore_case &c, const restored &r, const measure_touch_result &t,
	  uint64_t nr_pages, uint64_t tables_bytes, figures *f, std::string *why)
{
	mapped_use use;
	fln_stats stats = FLN_STATS_INIT;
	uint64_t now_bytes;

	settle();
	if (c.d->engine)
		r.engine_host().settle();
	f->take(t, nr_pages);
	f->take_settled(t);
	if (c.d->engine && !r.engine_host().stats(&stats, why))
		return false;
	f->take_stats(stats);
	if (!c.d->engine)
		f->nr_faults = t.crowd.to.nr_minor_faults - t.crowd.from.nr_minor_faults;
	now_bytes = page_table_bytes();
	use = use_of({ r.addr() }, r.len_bytes());
	f->memory.page_table_bytes = now_bytes - std::min(now_bytes, tables_bytes);
	f->memory.all_bytes += f->memory.page_table_bytes;
	f->memory.all_bytes +=
		c.d->engine ? file_bytes(fln_image_memfd(r.engine_host().image())) : use.pss_bytes;
	f->memory.large_folio_bytes = c.d->engine ? r.engine_host().large_bytes() : 0;
	f->memory.large_mapped_bytes = use.large_bytes;
	return true;
}

void spoil(const kind &k, uint64_t page)
{
	if (needs_file(k))
		the_file().spoil(page);
	else
		memory::spoil(the_memory().memfd(), page);
}

bool measure_once(const restore_case &c, figures *f, quietest<filling> *quiet, std::string *why)
{
	filling ahead;
	uint64_t len_bytes = opts.memory_bytes / piece_bytes * piece_bytes, have, tables_bytes;
	plan p(plan_opts(c, len_bytes));
	restored r(c, len_bytes);
	measure_touch_result t;

	if (!p.usable(why))
		return false;
	/*
	 * Twice: the image, or the page cache of a mapped file; and the source's contents, or
	 * copies of written pages.
	 */
	if (measure_memory_available(&have) && 2 * len_bytes > have / 10 * 9) {
		*why = "left out: it takes " + std::to_string(2 * len_bytes >> 20) +
		       " MiB of memory";
		return false;
	}
	if (needs_file(c.k) &&
	    !(the_file().need(len_bytes, why) && the_file().set_cached(!c.k.cold, why)))
		return false;
	tables_bytes = page_table_bytes();
	if (!r.open(why))
		return false;
	if (spoils())
		spoil(c.k, p.get().pages[0]);
	/* Filling takes memory too, ahead or in the measured time. */
	f->warm_seconds = warm_memory(len_bytes);
	if (!r.fill(&ahead, why) || !r.fill_behind(why) || !touch(c, r, p.get(), &t, why) ||
	    !take(c, r, t, p.get().nr_pages, tables_bytes, f, why))
		return false;
	quiet->offer(ahead, f->others);
	return verify(c, r, p.get(), why);
}

void add(const restore_case &c)
{
	std::string name = std::string("restore/") + c.d->name + "/" + c.k.name + "/" +
			   how_names[static_cast<int>(c.k.how)] + (c.writes ? "/write" : "/read") +
			   "/density:" + std::to_string(c.density) + folio_part(c.folio);

	if (needs_file(c.k))
		name += c.k.cold ? "/cache:cold" : "/cache:warm";
	name += "/threads:" + std::to_string(c.nr_threads);
	benchmark::RegisterBenchmark(name.c_str(), [c](benchmark::State &state) {
		quietest<filling> quiet;

		run(state,
		    [&](figures *f, std::string *why) { return measure_once(c, f, &quiet, why); });
		state.counters["fill_seconds"] = quiet.kept.seconds;
		state.counters["fill_cpu_us_per_page"] =
			quiet.kept.cpu_seconds * 1e6 /
			static_cast<double>(opts.memory_bytes / page_bytes);
		state.counters["restore_seconds"] =
			quiet.kept.seconds + static_cast<double>(state.counters["seconds"]);
	})->Unit(benchmark::kMillisecond);
}

void add_threads(const restore_design &d, const kind &k, fln_folio folio)
{
	std::vector<uint32_t> threads = opts.threads;

	if (threads.empty())
		threads = { 16 };
	for (bool writes : { false, true }) {
		for (uint32_t density : densities) {
			for (uint32_t nr_threads : threads)
				add({ &d, folio, k, writes, density, nr_threads });
		}
	}
}

void register_restore()
{
	for (const restore_design &d : restore_designs) {
		for (const kind &k : kinds) {
			if (!d.engine && !k.kernel)
				continue;
			for (fln_folio folio : folios_of(d.engine == &engine_both))
				add_threads(d, k, folio);
		}
	}
}

const family restore_family("restore", register_restore);

} /* namespace */

} /* namespace bench */
