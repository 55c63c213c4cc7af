/* SPDX-License-Identifier: MIT */
/*
 * Designs: what serves the faults of a mapping, and how.
 *
 * A design is a row of the table in design.cc and a function that opens one: maps the
 * memory, registers it, and starts what serves it.  Destroying what it returns undoes
 * all of that.
 */
#ifndef BENCH_DESIGN_H
#define BENCH_DESIGN_H

#include "bench/memory.h"

#include <cstdint>
#include <faultlane/stats.h>
#include <memory>
#include <string>

namespace bench {

/* A mapping that is being served. */
class served {
      public:
	virtual ~served() = default;

	/* Where it is mapped, at a multiple of 2 MiB. */
	virtual char *addr() const = 0;

	/*
	 * What has been done so far, as the engine counts; zero what a design does not
	 * have.  False: @why has the sentence.
	 */
	virtual bool stats(fln_stats *out, std::string *why)
	{
		(void)out;
		(void)why;
		return true;
	}

	/* Called on each touching thread before its first touch, and measured with it. */
	virtual void before_touching(uint32_t thread)
	{
		(void)thread;
	}
};

/* What is asked of a design. */
struct setup {
	uint64_t len_bytes;
	uint32_t nr_threads; /* that will touch it */
	bool writes;
	bool disjoint;    /* each thread has a part of its own, of equal lengths */
	uint32_t window;  /* fixed, in pages; 0: the design's own */
	bool kvm;         /* vCPUs will */
	const char *cpus; /* where the touching threads run, one each in turn; nullptr: anywhere */
};

typedef std::unique_ptr<served> open_fn(memory &mem, const setup &s, std::string *why);

struct design {
	const char *name;
	open_fn *open;
	bool kernel;     /* nobody serves but the kernel */
	bool in_context; /* threads serve themselves */
	bool has_window; /* setup.window is heeded */
	bool populates;  /* before_touching() does something */
};

extern const design designs[];
extern const uint32_t nr_designs;

/* nullptr when there is none of this name. */
const design *find_design(const std::string &name);

} /* namespace bench */

#endif
