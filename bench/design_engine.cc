/* SPDX-License-Identifier: MIT */
/* The engine's designs. */
#include "bench/design.h"

#include "bench/host.h"

namespace bench {

namespace {

class by_engine : public served {
      public:
	by_engine(const engine_setup &e, const setup &s) : e_(e), s_(s)
	{
		if (s.folio != FLN_FOLIO_AUTO)
			e_.folio = s.folio;
	}

	bool start(const memory *mem, uint32_t window, fln_delivery delivery, std::string *why)
	{
		guest_setup g;

		g.delivery = delivery;
		if (delivery == FLN_DELIVERY_IN_CONTEXT)
			g.discard = FLN_DISCARD_IMAGE;
		g.release = e_.release;
		g.nr_threads = s_.plan->nr_threads;
		g.window = window;
		g.kvm = s_.kvm;
		mem_ = mem;
		return host_.start(s_.cpus, why) &&
		       (mem ? host_.adopt(mem->memfd(), s_.len_bytes, why)
			    : host_.make_filled(s_.len_bytes, e_.folio, why)) &&
		       host_.add_guest(g, &addr_, why) && (!e_.released || host_.release(why));
	}

	char *addr() const override
	{
		return addr_;
	}

	int memfd() const override
	{
		return fln_image_memfd(host_.image());
	}

	bool stats(fln_stats *out, std::string *why) override
	{
		return host_.stats(out, why);
	}

	void settle() override
	{
		host_.settle();
	}

	uint64_t large_bytes() const override
	{
		return host_.large_bytes();
	}

	double fill_seconds() const override
	{
		return mem_ ? mem_->fill_seconds() : host_.fill_seconds();
	}

      private:
	engine_setup e_;
	setup s_;
	const memory *mem_ = nullptr;
	char *addr_ = nullptr;
	host host_;
};

std::unique_ptr<served> open_with(const engine_setup &e, const memory *mem, const setup &s,
				  uint32_t window, fln_delivery delivery, std::string *why)
{
	auto p = std::make_unique<by_engine>(e, s);

	if (!p->start(mem, window, delivery, why))
		return nullptr;
	return p;
}

} /* namespace */

std::unique_ptr<served> open_engine(memory *mem, const setup &s, std::string *why)
{
	return open_with(engine_both, mem, s, s.window, FLN_DELIVERY_QUEUED, why);
}

std::unique_ptr<served> open_engine_small(memory *mem, const setup &s, std::string *why)
{
	return open_with(engine_neither, mem, s, s.window, FLN_DELIVERY_QUEUED, why);
}

std::unique_ptr<served> open_engine_released(memory *mem, const setup &s, std::string *why)
{
	return open_with(engine_released_before, mem, s, 0, FLN_DELIVERY_QUEUED, why);
}

std::unique_ptr<served> open_engine_page(memory *mem, const setup &s, std::string *why)
{
	return open_with(engine_neither, mem, s, 1, FLN_DELIVERY_QUEUED, why);
}

std::unique_ptr<served> open_engine_in_context(memory *mem, const setup &s, std::string *why)
{
	return open_with(engine_neither, mem, s, s.window, FLN_DELIVERY_IN_CONTEXT, why);
}

} /* namespace bench */
