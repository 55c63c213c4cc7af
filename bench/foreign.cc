/* SPDX-License-Identifier: MIT */
/*
 * foreign/<design>/<order>/density:<D>/threads:<N>: anonymous memory behind a userfaultfd that was
 * handed over (foreign memory), into which pages are copied from a filled image.
 *
 * The baseline ("loop") is the usual handler process that received a userfaultfd: for each
 * message, one UFFDIO_COPY of one page.  "engine" is a guest with FLN_GUEST_F_FOREIGN;
 * "engine_page" is the same with a window of one page.
 */
#include "bench/bench.h"
#include "bench/c.h"
#include "bench/host.h"
#include "bench/plan.h"
#include "bench/use.h"
#include "measure/error.h"

#include <cerrno>
#include <cstring>
#include <unistd.h>

namespace bench {

namespace {

const uint32_t densities[] = { 1, 2, 4, 8, 16, 64 };
const char *const names[] = { "loop", "engine", "engine_page" };

struct foreign_case {
	const char *name;
	bool random;
	uint32_t density;
	uint32_t nr_threads;
};

uint64_t len_bytes(const foreign_case &c)
{
	return memory_bytes_at(c.density);
}

/* The memory of the guest's process: anonymous, at a multiple of 2 MiB. */
class anonymous {
      public:
	explicit anonymous(uint64_t len) : len_(len)
	{
		void *at = mmap(nullptr, len + block_bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (at == MAP_FAILED)
			return;
		room_ = static_cast<char *>(at);
		addr_ = room_ + (-reinterpret_cast<uintptr_t>(at) & (block_bytes - 1));
		(void)madvise(addr_, len, MADV_NOHUGEPAGE);
	}

	~anonymous()
	{
		if (room_)
			(void)munmap(room_, len_ + block_bytes);
	}

	anonymous(const anonymous &) = delete;
	anonymous &operator=(const anonymous &) = delete;

	/* nullptr: out of memory. */
	char *addr() const
	{
		return addr_;
	}

      private:
	uint64_t len_;
	char *room_ = nullptr, *addr_ = nullptr;
};

/* The fault handler: the engine, or the baseline's loop. */
class server {
      public:
	server(memory &mem, uint64_t len) : mem_(mem), len_(len), guest_memory_(len)
	{
	}

	~server()
	{
		fln_handler_stop(handler_);
		(void)fln_guest_destroy(guest_);
		(void)fln_image_destroy(image_);
		(void)fln_engine_destroy(engine_);
		if (source_)
			memory::unmap(source_, len_);
	}

	server(const server &) = delete;
	server &operator=(const server &) = delete;

	bool open(const foreign_case &c, std::string *why)
	{
		if (!guest_memory_.addr()) {
			*why = std::string("cannot map memory: ") + std::strerror(errno);
			return false;
		}
		if (!std::strcmp(c.name, "loop"))
			return open_loop(why);
		return open_engine(why) &&
		       open_guest(std::strcmp(c.name, "engine_page") == 0 ? 1 : 0, why);
	}

	char *addr() const
	{
		return guest_memory_.addr();
	}

	uint64_t len_bytes() const
	{
		return len_;
	}

	bool stats(fln_stats *out, std::string *why) const
	{
		struct fln_handler_stats from;
		int rc;

		if (!handler_) {
			rc = fln_guest_stats(guest_, out);
			return rc == 0 || library_failed("cannot read the statistics", rc, why);
		}
		fln_handler_stats(handler_, &from);
		out->userfaultfds = 1;
		out->faults = from.faults;
		out->pages_installed = from.pages_installed;
		out->service = from.service;
		return true;
	}

      private:
	bool open_loop(std::string *why)
	{
		fln_handler_opts o = {};
		int rc;

		source_ = mem_.map(len_, why);
		if (!source_)
			return false;
		o.addr = guest_memory_.addr();
		o.len_bytes = len_;
		o.design = FLN_HANDLER_SINGLE;
		o.user_mode_only = user_mode_only();
		o.copy_from = source_;
		rc = fln_handler_start(&o, &handler_);
		return rc == 0 || library_failed("cannot start the fault handler", rc, why);
	}

	bool open_engine(std::string *why)
	{
		fln_engine_opts e = FLN_ENGINE_OPTS_INIT;
		fln_image_opts o = FLN_IMAGE_OPTS_INIT;
		int rc;

		e.nr_workers = opts.nr_workers;
		if (user_mode_only())
			e.flags |= FLN_ENGINE_F_USER_MODE_ONLY;
		o.len_bytes = len_;
		o.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
		o.memfd = mem_.memfd();
		rc = fln_engine_create(&e, &engine_);
		if (rc == 0)
			rc = fln_engine_start(engine_);
		if (rc == 0)
			rc = fln_image_create(engine_, &o, &image_);
		return rc == 0 || library_failed("cannot start the engine", rc, why);
	}

	bool open_guest(uint32_t window, std::string *why)
	{
		fln_guest_opts g = FLN_GUEST_OPTS_INIT;
		fln_region_opts r = FLN_REGION_OPTS_INIT;
		struct fln_region *region;
		int rc, fd = fln_handover_register(addr(), len_, user_mode_only());

		if (fd < 0)
			return library_failed("cannot register memory", fd, why);
		g.flags = FLN_GUEST_F_FOREIGN;
		g.foreign_uffd = fd;
		g.window_first = window;
		g.window_max = window;
		rc = fln_guest_create(engine_, &g, &guest_);
		if (rc) {
			(void)close(fd);
			return library_failed("cannot create the guest", rc, why);
		}
		r.image = image_;
		r.addr = reinterpret_cast<uintptr_t>(addr());
		r.len_bytes = len_;
		rc = fln_region_add(guest_, &r, &region);
		if (rc == 0)
			rc = fln_guest_start(guest_);
		return rc == 0 || library_failed("cannot start the guest", rc, why);
	}

	memory &mem_;
	uint64_t len_;
	anonymous guest_memory_;
	char *source_ = nullptr;
	struct fln_handler *handler_ = nullptr;
	struct fln_engine *engine_ = nullptr;
	struct fln_image *image_ = nullptr;
	struct fln_guest *guest_ = nullptr;
};

bool touch(const server &s, const measure_plan &p, figures *f, double *copied, std::string *why)
{
	char *addr = s.addr();
	measure_touch_opts o = {};
	measure_touch_result r;
	fln_stats stats = FLN_STATS_INIT;

	o.plan = &p;
	o.addrs = &addr;
	o.nr_guests = 1;
	o.cpus = pin_cpus();
	o.mark = MEASURE_SLEPT;
	if (!measure_touch(the_crowd(), &o, &r)) {
		*why = measure_last_error();
		return false;
	}
	settle();
	f->take(r, p.nr_pages);
	f->take_settled(r);
	if (!s.stats(&stats, why))
		return false;
	f->take_stats(stats);
	f->memory.all_bytes += use_of({ addr }, s.len_bytes()).anonymous_bytes;
	*copied = static_cast<double>(stats.pages_installed) / static_cast<double>(p.nr_pages);
	return true;
}

bool measure_once(const foreign_case &c, figures *f, quietest<double> *copied, std::string *why)
{
	uint64_t len = len_bytes(c);
	memory &mem = the_memory();
	measure_plan_opts o = {};
	double nr_copied = 0;

	o.total_pages = len / page_bytes;
	o.density = c.density;
	o.nr_threads = c.nr_threads;
	o.shuffled = c.random;
	o.mixed = c.random;
	if (!mem.need(len, why))
		return false;
	plan p(o);
	server s(mem, len);
	if (!p.usable(why) || !s.open(c, why))
		return false;
	if (spoils())
		memory::spoil(mem.memfd(), p.get().pages[0]);
	f->fill_seconds = mem.fill_seconds();
	f->warm_seconds = warm_memory(len);
	if (!touch(s, p.get(), f, &nr_copied, why))
		return false;
	copied->offer(nr_copied, f->others);
	if (memory::verify(s.addr(), p.get(), false, why))
		return true;
	mem.refill();
	return false;
}

/* The number of threads is an argument of the family; see touch.cc. */
void add(const foreign_case &of)
{
	std::string name = std::string("foreign/") + of.name +
			   (of.random ? "/random" : "/sequential") +
			   "/density:" + std::to_string(of.density);
	auto *all = benchmark::RegisterBenchmark(name.c_str(), [of](benchmark::State &state) {
		quietest<double> copied;
		foreign_case c = of;

		c.nr_threads = static_cast<uint32_t>(state.range(0));
		run(state,
		    [&](figures *f, std::string *why) { return measure_once(c, f, &copied, why); });
		state.counters["copied_per_page"] = copied.kept;
	});

	all->Unit(benchmark::kMillisecond)->ArgName("threads");
	for (uint32_t nr_threads : thread_counts())
		all->Arg(nr_threads);
}

void register_foreign()
{
	for (const char *name : names) {
		for (bool random : { false, true }) {
			for (uint32_t density : densities)
				add({ name, random, density, 0 });
		}
	}
}

const family foreign_family("foreign", register_foreign);

} /* namespace */

} /* namespace bench */
