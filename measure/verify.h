/* SPDX-License-Identifier: MIT */
/*
 * Verifies touched memory against its expected contents.
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
 * Get the expected contents at @offset_bytes.  False: failed, and measure_crew_fail() was
 * called.
 */
typedef bool (*measure_contents_fn)(struct measure_crew *crew, const void *ctx,
				    uint64_t offset_bytes, void *buf, uint64_t len_bytes);

/* The memory to verify. */
struct measure_verify_opts {
	const char *title; /* of the progress bar; NULL: none */
	const struct measure_plan *plan;
	measure_contents_fn contents;
	const void *ctx;
	char *addr;            /* the mapping; NULL: use fd */
	int fd;                /* a file, read by pread() */
	bool written;          /* touched pages begin with their thread's token */
	bool restore;          /* overwrite correct tokens with the expected contents */
	uint32_t first_thread; /* number of the first thread that touched the memory */
	bool whole;            /* also verify pages that no thread touched */
};

/*
 * Compare all of every touched page with the expected contents, in which the thread's token
 * replaces the first word if @written.  Adds to @out, which the caller zeroes before the
 * first call.  False: it could not be verified, and an error has been printed.
 */
bool measure_verify(const struct measure_verify_opts *opts, struct measure_verify_result *out);

#ifdef __cplusplus
}
#endif

#endif
