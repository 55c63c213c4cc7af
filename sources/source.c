/* SPDX-License-Identifier: MIT */
/*
 * What all sources share: reference counts, continued short reads, extents rounded to
 * whole pages, and serialized calls for sources that need them.
 */
#include "sources/source.h"

#include "base/cancel.h"
#include "base/lock.h"
#include "base/page.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define ERRNO_MAX 4095
#define NAME_BYTES_MAX 96u

/*
 * Calls of an FLN_SOURCE_SERIAL source are serialized by the busy flag and not by a lock held
 * during the call: the lock only guards the flag (I2).  Both belong to the source, so that
 * images and wrappers that share one are serialized as well.
 */
struct source {
	struct fln_source pub;
	struct fln_lock lock;
	pthread_cond_t idle;
	bool busy; /* guarded by lock */
};

/* fln_source_make() is the only place that makes a struct fln_source; pub is its first field. */
static struct source *source_of(struct fln_source *pub)
{
	return (struct source *)pub;
}

/* The name for messages: of a long one (a path) its end, which is the telling part. */
static const char *short_name(const struct fln_source *source)
{
	size_t len = strlen(source->ops.name);

	return source->ops.name + (len > NAME_BYTES_MAX ? len - NAME_BYTES_MAX : 0);
}

static void call_begin(struct fln_source *source)
{
	struct source *s = source_of(source);

	fln_lock_assert_none(); /* I2: the call is the embedder's code, or I/O */
	if (source->ops.concurrency == FLN_SOURCE_PARALLEL)
		return;
	fln_lock(&s->lock);
	while (s->busy)
		fln_cond_wait(&s->idle, &s->lock);
	s->busy = true;
	fln_unlock(&s->lock);
}

static void call_end(struct fln_source *source)
{
	struct source *s = source_of(source);

	if (source->ops.concurrency == FLN_SOURCE_PARALLEL)
		return;
	fln_lock(&s->lock);
	FLN_DEBUG_ASSERT(s->busy);
	s->busy = false;
	(void)pthread_cond_signal(&s->idle);
	fln_unlock(&s->lock);
}

int fln_source_make(const struct fln_source_ops *ops, void *ctx, uint64_t len_bytes,
		    struct fln_source **out)
{
	struct fln_source_ops copy;
	struct source *s;
	int rc;

	if (!ops || !out)
		return fln_fail(EINVAL, "fln_source_create: %s is NULL", ops ? "out" : "ops");
	rc = fln_opts_copy(&copy, sizeof(copy), ops, "fln_source_ops");
	if (rc)
		return rc;
	if (!copy.read)
		return fln_fail(EINVAL, "fln_source_ops: read is NULL; it is mandatory");
	if ((unsigned int)copy.concurrency >= FLN_SOURCE_NR_CONCURRENCY)
		return fln_fail(EINVAL,
				"fln_source_ops: concurrency is %u; use FLN_SOURCE_SERIAL or "
				"FLN_SOURCE_PARALLEL",
				(unsigned int)copy.concurrency);
	if (copy.reserved)
		return fln_fail(EINVAL, "fln_source_ops: reserved is %u; set it to 0",
				(unsigned int)copy.reserved);
	if (!copy.name)
		copy.name = "source";

	s = calloc(1, sizeof(*s));
	if (!s)
		return fln_fail(ENOMEM, "no memory for a source");
	s->pub.ops = copy;
	s->pub.ctx = ctx;
	s->pub.len_bytes = len_bytes;
	atomic_init(&s->pub.nr_refs, 1);
	fln_lock_init(&s->lock, FLN_RANK_SOURCE);
	fln_cond_init(&s->idle);
	*out = &s->pub;
	return 0;
}

int fln_source_create(const struct fln_source_ops *ops, void *ctx, struct fln_source **out)
{
	FLN_UNCANCELLABLE;

	return fln_source_make(ops, ctx, UINT64_MAX, out);
}

void fln_source_destroy(struct fln_source *source)
{
	FLN_UNCANCELLABLE;

	fln_source_put(source);
}

void fln_source_get(struct fln_source *source)
{
	/* Relaxed: the caller holds a reference, or relies on one that another thread holds. */
	uint32_t before = atomic_fetch_add_explicit(&source->nr_refs, 1, memory_order_relaxed);

	FLN_ASSERT(before > 0);
	FLN_ASSERT(before < UINT32_MAX);
}

void fln_source_put(struct fln_source *source)
{
	struct source *s;
	uint32_t before;

	if (!source)
		return;
	/* Release our accesses to the source; acquire those of all other holders. */
	before = atomic_fetch_sub_explicit(&source->nr_refs, 1, memory_order_acq_rel);
	FLN_ASSERT(before > 0);
	if (before > 1)
		return;

	s = source_of(source);
	FLN_DEBUG_ASSERT(!s->busy);
	fln_lock_assert_none(); /* I2 */
	if (source->ops.destroy)
		source->ops.destroy(source->ctx);
	(void)pthread_cond_destroy(&s->idle);
	fln_lock_deinit(&s->lock);
	free(s);
}

static int64_t read_once(struct fln_source *source, uint64_t offset_bytes, void *buf,
			 uint64_t len_bytes)
{
	int64_t n;

	/*
	 * Our own sources set an error message when they fail; the embedder's do not.  Clear
	 * it, so that read_failed() does not use the message of an older call.
	 */
	(void)fln_fail(EIO, "%s", "");
	call_begin(source);
	n = source->ops.read(source->ctx, offset_bytes, buf, len_bytes);
	call_end(source);
	return n;
}

/* Fail with the source's name, the offset and the source's message or the errno's text. */
static int read_failed(const struct fln_source *source, uint64_t offset_bytes, int err)
{
	char text[64];
	char reason[160];

	(void)snprintf(reason, sizeof(reason), "%s", fln_last_error());
	return fln_fail(err, "source '%s' failed at offset %llu: %s", short_name(source),
			(unsigned long long)offset_bytes,
			reason[0] ? reason : fln_strerror(err, text));
}

static int check_end(const struct fln_source *source, uint64_t offset_bytes, uint64_t len_bytes)
{
	if (offset_bytes > source->len_bytes || len_bytes > source->len_bytes - offset_bytes)
		return fln_fail(
			ENODATA,
			"source '%s' has %llu bytes, too few to read %llu bytes at offset %llu; "
			"make the image no longer than its source",
			short_name(source), (unsigned long long)source->len_bytes,
			(unsigned long long)len_bytes, (unsigned long long)offset_bytes);
	return 0;
}

#define AVERAGE_OF 8u /* reads, that took longer than the average; a shorter one counts half */
#define OUTLIER 4u    /* so many times the average: the thread was not running */

void fln_source_note(struct fln_source *source, uint32_t nr_pages, uint64_t ns)
{
	uint64_t old = atomic_load_explicit(&source->page_ns, memory_order_relaxed);
	uint64_t now = ns / nr_pages + 1;

	if (old > 0 && now > old * OUTLIER)
		now = old * OUTLIER;
	/* A thread that is not running makes a read longer, never shorter: that is believed sooner. */
	if (now < old)
		now = (old + now) / 2;
	else if (old > 0)
		now = (old * (AVERAGE_OF - 1) + now + AVERAGE_OF - 1) / AVERAGE_OF;
	if (now > UINT32_MAX)
		now = UINT32_MAX;
	atomic_store_explicit(&source->page_ns, (uint32_t)now, memory_order_relaxed);
}

uint64_t fln_source_at_hand(struct fln_source *source, uint64_t offset_bytes, uint64_t len_bytes)
{
	if (!source->at_hand)
		return 0;
	fln_lock_assert_none(); /* I2 */
	return source->at_hand(source->ctx, offset_bytes, len_bytes);
}

uint64_t fln_source_read_at_hand(struct fln_source *source, uint64_t offset_bytes, void *buf,
				 uint64_t len_bytes)
{
	int64_t n;

	fln_lock_assert_none(); /* I2 */
	FLN_DEBUG_ASSERT(source->ops.concurrency == FLN_SOURCE_PARALLEL);
	n = source->read_at_hand(source->ctx, offset_bytes, buf, len_bytes);
	FLN_ASSERT(n <= (int64_t)len_bytes);
	return n > 0 ? (uint64_t)n : 0;
}

int fln_source_fetch(struct fln_source *source, uint64_t offset_bytes, void *buf,
		     uint64_t len_bytes, const void **contents)
{
	const char *at = source->memory ? source->memory + offset_bytes : NULL;
	uint64_t lead = (uintptr_t)at % FLN_PAGE_BYTES;
	int rc;

	*contents = at ? at : buf;
	if (!at)
		return fln_source_read_all(source, offset_bytes, buf, len_bytes);
	rc = check_end(source, offset_bytes, len_bytes);
	if (rc)
		return rc;
	/*
	 * Fault the range in now, before the fill begins to write and others wait for it: a mapped
	 * file may be slow.  The madvise() may be forbidden or unsupported; then the write itself
	 * reports unreadable memory.
	 */
	fln_lock_assert_none(); /* I2 */
	if (madvise((void *)(uintptr_t)(at - lead), len_bytes + lead, MADV_POPULATE_READ) != 0 &&
	    (errno == EFAULT || errno == ENOMEM)) {
		(void)fln_fail(EFAULT,
			       "its memory is unreadable: the mapped file was truncated, or "
			       "nothing is mapped; leave it unchanged while it is in use");
		return read_failed(source, offset_bytes, EFAULT);
	}
	return 0;
}

int fln_source_read_all(struct fln_source *source, uint64_t offset_bytes, void *buf,
			uint64_t len_bytes)
{
	uint64_t done = 0;
	int rc;

	FLN_DEBUG_ASSERT(fln_is_aligned(offset_bytes, FLN_PAGE_BYTES));
	FLN_DEBUG_ASSERT(fln_is_aligned(len_bytes, FLN_PAGE_BYTES));
	FLN_DEBUG_ASSERT(len_bytes <= INT64_MAX);

	rc = check_end(source, offset_bytes, len_bytes);
	if (rc)
		return rc;

	/* After a short read, later offsets may be unaligned. */
	while (done < len_bytes) {
		int64_t n = read_once(source, offset_bytes + done, (char *)buf + done,
				      len_bytes - done);

		if (n < -ERRNO_MAX)
			return fln_fail(EIO,
					"source '%s' returned %lld at offset %llu, which is not an "
					"errno; correct its read function",
					short_name(source), (long long)n,
					(unsigned long long)(offset_bytes + done));
		if (n < 0)
			return read_failed(source, offset_bytes + done, (int)-n);
		if (n == 0)
			return fln_fail(ENODATA,
					"source '%s' ends at offset %llu, before offset %llu; "
					"make the image no longer than its source",
					short_name(source),
					(unsigned long long)(offset_bytes + done),
					(unsigned long long)(offset_bytes + len_bytes));
		if ((uint64_t)n > len_bytes - done)
			return fln_fail(
				EIO,
				"source '%s' returned %lld bytes at offset %llu, more than the "
				"%llu requested; correct its read function",
				short_name(source), (long long)n,
				(unsigned long long)(offset_bytes + done),
				(unsigned long long)(len_bytes - done));
		done += (uint64_t)n;
	}
	return 0;
}

uint64_t fln_source_extent(struct fln_source *source, uint64_t offset_bytes, uint64_t len_bytes,
			   int *is_hole)
{
	int hole = 0;
	int64_t n;
	uint64_t bytes;

	FLN_DEBUG_ASSERT(fln_is_aligned(offset_bytes, FLN_PAGE_BYTES));
	FLN_DEBUG_ASSERT(fln_is_aligned(len_bytes, FLN_PAGE_BYTES));
	FLN_DEBUG_ASSERT(len_bytes > 0);

	*is_hole = 0;
	if (!source->ops.extent || offset_bytes >= source->len_bytes)
		return len_bytes;

	call_begin(source);
	n = source->ops.extent(source->ctx, offset_bytes, len_bytes, &hole);
	call_end(source);

	/* I6: after an error or an invalid value treat all as data, which is always correct. */
	if (n <= 0 || (uint64_t)n > len_bytes)
		return len_bytes;
	bytes = (uint64_t)n;
	if (!hole)
		return fln_align_up(bytes, FLN_PAGE_BYTES);

	/* I6: beyond the end contents are missing, not zero. */
	if (bytes > source->len_bytes - offset_bytes)
		bytes = source->len_bytes - offset_bytes;
	bytes = fln_align_down(bytes, FLN_PAGE_BYTES);
	if (bytes == 0)
		return FLN_PAGE_BYTES;
	*is_hole = 1;
	return bytes;
}
