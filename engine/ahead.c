/* SPDX-License-Identifier: MIT */
/*
 * Read-ahead: blocks are filled and mapped before a sequential stream of touches reaches them.
 *
 * Only in ranges that were advised to be SEQUENTIAL.  The pages ahead of a stream are mapped piece
 * by piece, each piece twice as long as the last, up to AHEAD_MAX blocks.  Touches of mapped pages
 * cause no faults, so the first page of each piece is left unmapped: a fault there shows that the
 * stream has reached the piece, and begins the next one.  The price is one fault per piece.
 *
 * A fault that continues no stream begins one, with a small piece.  There are FLN_NR_STREAMS
 * streams per guest; the new one replaces the one whose last fault is longest ago.
 *
 * Runs on workers and in the guest's turn.  jobs.lock guards the streams, and which jobs are taken.
 *
 * Tested by integration.advice.
 */
#include "engine/ahead.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/page.h"
#include "engine/jobs.h"
#include "engine/state/advised.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/job.h"
#include "engine/turn.h"

#include <errno.h>
#include <faultlane/base.h>
#include <stdatomic.h>
#include <stdbool.h>

#define AHEAD_MAX 16u /* blocks: 32 MiB */

int fln_ahead_prepare(struct fln_guest *guest)
{
	struct fln_ahead *ahead = atomic_load(&guest->advised.ahead);

	fln_guest_assert_turn(guest);
	if (ahead)
		return 0;
	ahead = fln_zalloc(&guest->engine->alloc, sizeof(*ahead), FLN_NODE_ANY);
	for (uint32_t i = 0; ahead && i < FLN_NR_STREAMS; i++) {
		ahead->jobs[i] = fln_job_alloc(guest);
		if (ahead->jobs[i])
			continue;
		while (i-- > 0)
			fln_job_free(guest, ahead->jobs[i]);
		fln_free(&guest->engine->alloc, ahead, sizeof(*ahead), FLN_NODE_ANY);
		ahead = NULL;
	}
	if (!ahead)
		return fln_fail(ENOMEM, "guest %s: no memory for read-ahead", guest->name);
	atomic_store_explicit(&guest->advised.ahead, ahead, memory_order_release);
	return 0;
}

void fln_ahead_deinit(struct fln_guest *guest)
{
	struct fln_ahead *ahead = atomic_load(&guest->advised.ahead);

	for (uint32_t i = 0; ahead && i < FLN_NR_STREAMS; i++)
		fln_job_free(guest, ahead->jobs[i]);
	fln_free(&guest->engine->alloc, ahead, sizeof(*ahead), FLN_NODE_ANY);
}

/* The stream that a fault at @addr continues (*continues), or else the one to replace. */
static struct fln_stream *find_stream(struct fln_ahead *ahead, uint64_t addr, bool *continues)
{
	struct fln_stream *oldest = &ahead->stream[0];

	*continues = true;
	for (uint32_t i = 0; i < FLN_NR_STREAMS; i++) {
		struct fln_stream *s = &ahead->stream[i];

		if (s->used > 0 && addr >= s->from && addr <= s->end)
			return s;
		if (s->used < oldest->used)
			oldest = s;
	}
	*continues = false;
	return oldest;
}

static struct fln_job *take_job(struct fln_ahead *ahead)
{
	for (uint32_t i = 0; i < FLN_NR_STREAMS; i++) {
		if (!ahead->jobs[i]->taken) {
			ahead->jobs[i]->taken = true;
			return ahead->jobs[i];
		}
	}
	return NULL;
}

/*
 * The job for the next piece of the stream that @addr belongs to; no piece goes beyond @limit.
 * NULL: none is due, or no job is free.  jobs.lock held.
 */
static struct fln_job *next_piece(struct fln_guest *guest, struct fln_ahead *ahead, uint64_t addr,
				  uint64_t limit)
{
	uint64_t block_end = fln_block_end(addr, UINT64_MAX), lo;
	struct fln_stream *s;
	struct fln_job *job;
	bool continues;

	s = find_stream(ahead, addr, &continues);
	if (continues)
		s->used = ++ahead->clock;
	if (continues && addr < s->trigger)
		return NULL; /* mapped ahead already, or about to be */
	job = take_job(ahead);
	if (!job)
		return NULL;
	s->used = ++ahead->clock;
	if (!continues) {
		/* The first piece includes the rest of this block. */
		s->blocks = 0;
		s->trigger = addr;
		s->end = block_end < limit ? block_end : limit;
	}
	lo = continues ? s->end : addr + FLN_PAGE_BYTES;
	s->blocks = s->blocks == 0 ? 1 : s->blocks * 2 < AHEAD_MAX ? s->blocks * 2 : AHEAD_MAX;
	s->from = s->trigger;
	s->trigger = s->end;
	s->end += s->blocks * FLN_BLOCK_BYTES;
	if (s->end > limit)
		s->end = limit;
	if (lo >= s->end) {
		s->used = 0; /* it has reached @limit: a later stream must not continue it */
		job->taken = false;
		return NULL;
	}
	fln_job_init(job, guest, lo, s->end);
	job->background = true;
	job->skip = s->trigger;
	return job;
}

void fln_ahead_forget(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	struct fln_ahead *ahead = atomic_load_explicit(&guest->advised.ahead, memory_order_acquire);

	if (!ahead)
		return;
	fln_lock(&guest->jobs.lock);
	for (uint32_t i = 0; i < FLN_NR_STREAMS; i++) {
		struct fln_stream *s = &ahead->stream[i];

		if (s->from < end && addr < s->end)
			s->used = 0;
	}
	fln_unlock(&guest->jobs.lock);
}

void fln_ahead_fault(struct fln_guest *guest, uint64_t addr, uint64_t end)
{
	struct fln_ahead *ahead = atomic_load_explicit(&guest->advised.ahead, memory_order_acquire);
	struct fln_job *job = NULL;

	fln_lock(&guest->jobs.lock);
	if (ahead)
		job = next_piece(guest, ahead, addr, end);
	fln_unlock(&guest->jobs.lock);
	if (!job || fln_job_submit(job))
		return;
	fln_lock(&guest->jobs.lock);
	job->taken = false;
	fln_unlock(&guest->jobs.lock);
}
