/* SPDX-License-Identifier: MIT */
/* The designs: the kernel alone, baseline handlers, the engine. */
#include "bench/design.h"

#include "bench/c.h"
#include "bench/host.h"
#include "bench/options.h"
#include "measure/cpus.h"

#include <cerrno>
#include <cstring>
#include <faultlane/faultlane.h>
#include <sys/mman.h>
#include <vector>

namespace bench {

namespace {

/* No userfaultfd. */
class by_kernel : public served {
      public:
	by_kernel(memory &mem, const setup &s, std::string *why)
	    : s_(s), addr_(mem.map(s.len_bytes, why))
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

      protected:
	setup s_;
	char *addr_;
};

/*
 * No userfaultfd; each thread populates its part of the memory by one call before
 * it touches: all pages are known to be needed.
 */
class by_populate : public by_kernel {
      public:
	using by_kernel::by_kernel;

	void before_touching(uint32_t thread) override
	{
		/* If threads are disjoint and density is 1: just the pages of this thread. */
		uint64_t nr_pages = s_.len_bytes / page_bytes;
		uint64_t lo = nr_pages * thread / s_.nr_threads * page_bytes;
		uint64_t hi = nr_pages * (thread + 1) / s_.nr_threads * page_bytes;

		if (lo < hi)
			(void)madvise(addr_ + lo, hi - lo,
				      s_.writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	}
};

/*
 * No userfaultfd, and a page cache of 2 MiB pages: a fault maps one of them.  It has
 * memory of its own, because collapsed pages stay collapsed.
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
		fln_shmem shmem = {};
		uint64_t large_bytes;

		if (!own_.need(s_.len_bytes, why))
			return false;
		addr_ = own_.map(s_.len_bytes, why);
		if (!addr_)
			return false;
		shmem.addr = addr_;
		shmem.len_bytes = s_.len_bytes;
		if (fln_shmem_collapse(&shmem, &large_bytes))
			*why = std::string("left out: ") + fln_last_error();
		else if (large_bytes != s_.len_bytes)
			*why = "left out: the kernel collapsed only " +
			       std::to_string(large_bytes >> 20) + " of " +
			       std::to_string(s_.len_bytes >> 20) + " MiB to large pages";
		else
			return true;
		return false;
	}

	char *addr() const override
	{
		return addr_;
	}

      private:
	setup s_;
	memory own_;
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
		rc = fln_handler_start(&o, &handler_);
		return rc == 0 || library_failed("cannot start the fault handler", rc, why);
	}

	bool stats(fln_stats *out, std::string *) override
	{
		struct fln_handler_stats from;

		fln_handler_stats(handler_, &from);
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
		o->nr_readers = s_.nr_threads;
		for (uint32_t i = 0; s_.cpus && i < s_.nr_threads; i++)
			reader_cpus_.push_back(measure_cpus_nth(s_.cpus, i));
		o->reader_cpus = s_.cpus ? reader_cpus_.data() : nullptr;
	}

	std::vector<uint32_t> reader_cpus_;
	struct fln_handler *handler_ = nullptr;
};

/* The engine, with an image that is completely filled. */
class by_engine : public served {
      public:
	explicit by_engine(const setup &s) : s_(s)
	{
	}

	~by_engine() override
	{
		(void)fln_guest_destroy(guest_);
		(void)fln_image_destroy(image_);
		(void)fln_engine_destroy(engine_);
	}

	bool start(const memory &mem, uint32_t window, fln_delivery delivery, std::string *why)
	{
		return start_engine(why) && make_image(mem, why) &&
		       start_guest(window, delivery, why);
	}

	char *addr() const override
	{
		return static_cast<char *>(fln_region_addr(region_));
	}

	bool stats(fln_stats *out, std::string *why) override
	{
		int rc;

		out->size = sizeof(*out);
		rc = fln_guest_stats(guest_, out);
		return rc == 0 || library_failed("cannot read the statistics", rc, why);
	}

      private:
	bool start_engine(std::string *why)
	{
		fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
		int rc;

		o.nr_workers = opts.nr_workers;
		o.vcpu_cpus = s_.cpus;
		if (user_mode_only())
			o.flags |= FLN_ENGINE_F_USER_MODE_ONLY;
		rc = fln_engine_create(&o, &engine_);
		if (rc == 0)
			rc = fln_engine_start(engine_);
		return rc == 0 || library_failed("cannot start the engine", rc, why);
	}

	bool make_image(const memory &mem, std::string *why)
	{
		fln_image_opts o = FLN_IMAGE_OPTS_INIT;
		int rc;

		o.len_bytes = s_.len_bytes;
		o.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
		o.memfd = mem.memfd();
		rc = fln_image_create(engine_, &o, &image_);
		return rc == 0 || library_failed("cannot create the image", rc, why);
	}

	bool start_guest(uint32_t window, fln_delivery delivery, std::string *why)
	{
		fln_guest_opts g = FLN_GUEST_OPTS_INIT;
		fln_region_opts r = FLN_REGION_OPTS_INIT;
		int rc;

		g.nr_vcpus = s_.nr_threads;
		g.flags = s_.kvm ? FLN_GUEST_F_KVM : 0;
		g.nr_shards = opts.nr_shards;
		g.window_first = window;
		g.window_max = window;
		rc = fln_guest_create(engine_, &g, &guest_);
		if (rc)
			return library_failed("cannot create the guest", rc, why);
		r.image = image_;
		r.len_bytes = s_.len_bytes;
		r.delivery = static_cast<uint32_t>(delivery);
		if (delivery == FLN_DELIVERY_IN_CONTEXT)
			r.discard = FLN_DISCARD_IMAGE;
		rc = fln_region_add(guest_, &r, &region_);
		if (rc == 0 && delivery == FLN_DELIVERY_IN_CONTEXT)
			rc = fln_sigbus_install();
		if (rc == 0)
			rc = fln_guest_start(guest_);
		return rc == 0 || library_failed("cannot start the guest", rc, why);
	}

	setup s_;
	struct fln_engine *engine_ = nullptr;
	struct fln_image *image_ = nullptr;
	struct fln_guest *guest_ = nullptr;
	struct fln_region *region_ = nullptr;
};

template <class mapped>
std::unique_ptr<served> open_mapped(memory &mem, const setup &s, std::string *why)
{
	auto p = std::make_unique<mapped>(mem, s, why);

	if (!p->addr())
		return nullptr;
	return p;
}

template <fln_handler_design design>
std::unique_ptr<served> open_handler(memory &mem, const setup &s, std::string *why)
{
	auto p = std::make_unique<by_handler>(mem, s, why);

	if (!p->addr() || !p->start(design, why))
		return nullptr;
	return p;
}

std::unique_ptr<served> open_huge(memory &, const setup &s, std::string *why)
{
	auto p = std::make_unique<by_huge>(s);

	if (!p->start(why))
		return nullptr;
	return p;
}

std::unique_ptr<served> open_engine_with(memory &mem, const setup &s, uint32_t window,
					 fln_delivery delivery, std::string *why)
{
	auto p = std::make_unique<by_engine>(s);

	if (!p->start(mem, window, delivery, why))
		return nullptr;
	return p;
}

std::unique_ptr<served> open_engine(memory &mem, const setup &s, std::string *why)
{
	return open_engine_with(mem, s, s.window, FLN_DELIVERY_QUEUED, why);
}

std::unique_ptr<served> open_engine_page(memory &mem, const setup &s, std::string *why)
{
	return open_engine_with(mem, s, 1, FLN_DELIVERY_QUEUED, why);
}

std::unique_ptr<served> open_engine_in_context(memory &mem, const setup &s, std::string *why)
{
	return open_engine_with(mem, s, s.window, FLN_DELIVERY_IN_CONTEXT, why);
}

} /* namespace */

/* Columns: name, open, kernel, in_context, has_window, populates (see struct design). */
const design designs[] = {
	{ "kernel", open_mapped<by_kernel>, true, false, false, false },
	{ "kernel_populate", open_mapped<by_populate>, true, false, false, true },
	{ "kernel_huge", open_huge, true, false, false, false },
	{ "single", open_handler<FLN_HANDLER_SINGLE>, false, false, false, false },
	{ "single_window", open_handler<FLN_HANDLER_SINGLE_WINDOW>, false, false, true, false },
	{ "per_vcpu", open_handler<FLN_HANDLER_PER_VCPU>, false, false, false, false },
	{ "engine", open_engine, false, false, true, false },
	{ "engine_page", open_engine_page, false, false, false, false },
	{ "engine_in_context", open_engine_in_context, false, true, true, false },
};

const uint32_t nr_designs = static_cast<uint32_t>(std::size(designs));

const design *find_design(const std::string &name)
{
	for (const design &d : designs) {
		if (name == d.name)
			return &d;
	}
	return nullptr;
}

} /* namespace bench */
