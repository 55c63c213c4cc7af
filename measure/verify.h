/* SPDX-License-Identifier: MIT */
/*
 * Comparing what threads touched with the contents that are due.
 */
#ifndef MEASURE_VERIFY_H
#define MEASURE_VERIFY_H

#include "measure/crew.h"
#include "measure/order.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct measure_verify_result {
	uint64_t nr_verified;
	uint64_t nr_wrong;
	uint64_t first_wrong_page; /* when nr_wrong is not 0 */
};

/*
 * What contents are due at @offset_bytes.  False: measure_crew_fail() has said why
 * they are unavailable.
 */
typedef bool (*measure_contents_fn)(struct measure_crew *crew, const void *ctx,
				    uint64_t offset_bytes, void *buf, uint64_t len_bytes);

/* What is compared with the contents. */
struct measure_verify_opts {
	const char *title; /* of the progress bar; NULL: none */
	const struct measure_plan *plan;
	measure_contents_fn contents;
	const void *ctx;
	char *addr;            /* the mapping */
	int fd;                /* or, with NULL there, an image */
	bool written;          /* touched pages begin with their toucher's token */
	bool restore;          /* and get their contents back there, when they are right */
	uint32_t first_thread; /* the threads that touched them are counted from here */
	bool whole;            /* pages that nobody touched, too */
};

/*
 * Compare every touched page, whole: with the contents, or with the toucher's
 * token and the rest of the contents.  Adds to @out, in which all is 0 to begin with.
 * False: it could not be done, and it has said why.
 */
bool measure_verify(const struct measure_verify_opts *opts, struct measure_verify_result *out);

#ifdef __cplusplus
}
#endif

#endif
