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

#include "bench/figures.h"
#include "bench/memory.h"

#include <cstdint>
#include <faultlane/image.h>
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

	/* The memfd that it maps. */
	virtual int memfd() const = 0;

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

	/* Wait, for 10 seconds at most, until nothing is left to be done after the touches. */
	virtual void settle()
	{
	}

	/* How much of its memory is in folios of 2 MiB. */
	virtual uint64_t large_bytes() const
	{
		return 0;
	}

	/* The time spent filling its memory. */
	virtual double fill_seconds() const = 0;
};

/* Parameters of a design. */
struct setup {
	uint64_t len_bytes;
	bool writes;
	const measure_plan *plan; /* the pages and threads that will touch it */
	uint32_t window;          /* fixed window in pages; 0: the design's default */
	fln_folio folio;          /* of the engine's images; FLN_FOLIO_AUTO: the design's own */
	bool kvm;                 /* vCPUs will touch it */
	const char *cpus; /* the touching threads are pinned there in turn; nullptr: not pinned */
};

/* @mem: the memory that the design maps; nullptr: it fills memory of its own. */
typedef std::unique_ptr<served> open_fn(memory *mem, const setup &s, std::string *why);

struct design {
	const char *name;
	open_fn *open;
	bool own_memory; /* filled for each run, before the clock starts; else the_memory() */
	bool kernel;     /* the kernel alone resolves faults */
	bool in_context; /* threads resolve their own faults */
	bool has_window; /* setup.window has an effect */
	bool has_folio;  /* setup.folio has an effect */
	bool populates;  /* before_touching() does something */
};

extern const design designs[];
extern const uint32_t nr_designs;

/*
 * The memory that the runs of a design share; nullptr: each fills its own.  Images in small
 * folios are the shared memory, so that there the kernel's design and the engine's map the same.
 */
memory *memory_of(const design &d, fln_folio folio);

/*
 * Wait until all is settled that the touches of @r have caused, and take what they have shown,
 * what the design has counted, and the memory that it takes.  @tables_bytes: page_table_bytes()
 * before it was set up.
 */
bool take_figures(const design &d, const setup &s, served *under_test,
		  const measure_touch_result &r, uint64_t tables_bytes, figures *f,
		  std::string *why);

/* The engine's designs; see design_engine.cc. */
open_fn open_engine, open_engine_small, open_engine_released, open_engine_page,
	open_engine_in_context;

} /* namespace bench */

#endif
