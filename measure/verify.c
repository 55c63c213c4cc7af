/* SPDX-License-Identifier: MIT */
/* Verifies memory: a crew compares it chunk by chunk. */
#include "measure/verify.h"

#include "measure/crew.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define CHUNK_PAGES 64u

struct verify {
	const struct measure_verify_opts *o;
	const struct measure_plan *plan;
	_Atomic uint64_t nr_verified;
	_Atomic uint64_t nr_wrong;
	_Atomic uint64_t first_wrong_page;
};

static bool page_is_right(const struct verify *v, uint64_t page, char *got, const char *expected)
{
	size_t skip = 0;

	if (v->o->written && v->plan->owners[page]) {
		uint32_t thread = v->o->first_thread + v->plan->owners[page] - 1u;
		uint64_t token = measure_plan_token(v->plan, (uint32_t)page, thread);

		skip = sizeof(token);
		if (memcmp(got, &token, skip) != 0)
			return false;
	}
	if (memcmp(got + skip, expected + skip, PAGE_BYTES - skip) != 0)
		return false;
	if (skip && v->o->restore)
		memcpy(got, expected, skip);
	return true;
}

static bool must_verify(const struct verify *v, uint64_t page)
{
	return v->o->whole || v->plan->owners[page];
}

static void note_wrong(struct verify *v, uint64_t page)
{
	uint64_t first = atomic_load(&v->first_wrong_page);

	atomic_fetch_add(&v->nr_wrong, 1);
	while (page < first && !atomic_compare_exchange_weak(&v->first_wrong_page, &first, page))
		;
}

/* @expected: a buffer for a chunk, too large for a small stack. */
static bool verify_into(struct measure_crew *crew, uint64_t item, char *expected)
{
	struct verify *v = crew->ctx;
	uint64_t lo = item * CHUNK_PAGES;
	uint64_t hi = lo + CHUNK_PAGES;
	char image[PAGE_BYTES];
	uint64_t nr = 0;

	hi = hi < v->plan->total_pages ? hi : v->plan->total_pages;
	/* Skip pages at both ends that need no verification, so as not to read them. */
	while (lo < hi && !must_verify(v, lo))
		lo++;
	while (lo < hi && !must_verify(v, hi - 1))
		hi--;
	if (lo == hi)
		return true;
	if (!v->o->contents(crew, v->o->ctx, lo * PAGE_BYTES, expected, (hi - lo) * PAGE_BYTES))
		return false;
	for (uint64_t page = lo; page < hi; page++) {
		char *got = v->o->addr ? v->o->addr + page * PAGE_BYTES : image;

		if (!must_verify(v, page))
			continue;
		if (!v->o->addr && pread(v->o->fd, image, sizeof(image),
					 (off_t)(page * PAGE_BYTES)) != (ssize_t)sizeof(image))
			return measure_crew_fail(crew, "cannot read page %llu of the image",
						 (unsigned long long)page);
		nr++;
		if (!page_is_right(v, page, got, expected + (page - lo) * PAGE_BYTES))
			note_wrong(v, page);
	}
	atomic_fetch_add(&v->nr_verified, nr);
	return true;
}

static bool verify_chunk(struct measure_crew *crew, uint64_t item)
{
	char *expected = malloc((size_t)CHUNK_PAGES * PAGE_BYTES);
	bool ok;

	if (!expected)
		return measure_crew_fail(crew, "out of memory for a buffer of %u pages",
					 CHUNK_PAGES);
	ok = verify_into(crew, item, expected);
	free(expected);
	return ok;
}

bool measure_verify(const struct measure_verify_opts *opts, struct measure_verify_result *out)
{
	struct verify v = { .o = opts, .plan = opts->plan };
	struct measure_crew crew;
	uint64_t nr_chunks = (opts->plan->total_pages + CHUNK_PAGES - 1) / CHUNK_PAGES;

	atomic_store(&v.first_wrong_page, UINT64_MAX);
	if (!measure_crew_run(&crew, opts->title, nr_chunks, verify_chunk, &v))
		return false;
	if (out->nr_wrong == 0)
		out->first_wrong_page = atomic_load(&v.first_wrong_page);
	out->nr_verified += atomic_load(&v.nr_verified);
	out->nr_wrong += atomic_load(&v.nr_wrong);
	return true;
}
