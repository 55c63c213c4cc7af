/* SPDX-License-Identifier: MIT */
/*
 * Designs: ways to resolve the faults of a mapping.
 *
 * A design is a row of the table in design.cc.  Its open function maps the
 * memory, registers it, and starts the threads that resolve its faults; destroying the
 * returned object undoes that.
 */
#ifndef BENCH_DESIGN_H
#define BENCH_DESIGN_H

#include "bench/memory.h"

#include <cstdint>
#include <faultlane/stats.h>
#include <memory>
#include <string>

namespace bench {

/* A mapping whose faults a design resolves. */
class served {
      public:
	virtual ~served() = default;

	/* Its address, a multiple of 2 MiB. */
	virtual char *addr() const = 0;

	/*
	 * Read the counters so far; 0 where a design has none.  False: failed, @why
	 * receives the message.
	 */
	virtual bool stats(fln_stats *out, std::string *why)
	{
		(void)out;
		(void)why;
		return true;
	}

	/* Called on each touching thread before its first touch, inside the measured time. */
	virtual void before_touching(uint32_t thread)
	{
		(void)thread;
	}
};

/* Parameters of a design. */
struct setup {
	uint64_t len_bytes;
	uint32_t nr_threads; /* that will touch it */
	bool writes;
	bool disjoint;    /* each thread touches a part of its own; parts have equal lengths */
	uint32_t window;  /* fixed window in pages; 0: the design's default */
	bool kvm;         /* vCPUs will touch it */
	const char *cpus; /* the touching threads are pinned there in turn; nullptr: not pinned */
};

typedef std::unique_ptr<served> open_fn(memory &mem, const setup &s, std::string *why);

struct design {
	const char *name;
	open_fn *open;
	bool kernel;     /* the kernel alone resolves faults */
	bool in_context; /* threads resolve their own faults */
	bool has_window; /* setup.window has an effect */
	bool populates;  /* before_touching() does something */
};

extern const design designs[];
extern const uint32_t nr_designs;

/* Find a design by its name; nullptr: none. */
const design *find_design(const std::string &name);

} /* namespace bench */

#endif
