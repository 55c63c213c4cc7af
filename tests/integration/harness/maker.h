/* SPDX-License-Identifier: MIT */
/* A source that makes the contents of an image. */
#ifndef FLN_TESTS_HARNESS_MAKER_H
#define FLN_TESTS_HARNESS_MAKER_H

#include <faultlane/source.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A source that makes contents of @salt, optionally late, held back, or never. */
struct maker {
	uint64_t salt;
	uint64_t delay_ns;
	enum fln_source_concurrency concurrency;
	uint32_t every_zero;      /* every so many pages is a hole; 0: none */
	_Atomic bool gate_closed; /* reads wait while it is */
	_Atomic uint32_t nr_reads, nr_inside, max_inside, nr_destroyed;
	_Atomic uint64_t nr_bytes;
};

void maker_source(struct maker *m, struct fln_source **out);

#endif
