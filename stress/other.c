/* SPDX-License-Identifier: MIT */
/* Another guest of the engine beside the judged one. */
#include "stress/other.h"

#include "stress/complain.h"

#include <errno.h>
#include <string.h>

uint64_t other_stamp(const struct other *o, uint64_t page)
{
	return page_stamp(o->s->opts.seed, OTHERS + page, 0);
}

static int64_t read_other(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	const struct other *o = ctx;
	bool hung = false;

	/* An error that the engine does not retry. */
	if (offset_bytes / PAGE_BYTES < o->nr_failing)
		return -EPERM;
	while (atomic_load(&o->hangs)) {
		hung = true;
		sleep_ms(1);
	}
	/* Fail late reads, so that no thread can depend on them. */
	if (hung)
		return -EIO;
	for (uint64_t i = 0; i < len_bytes / PAGE_BYTES; i++)
		page_write((uint64_t *)buf + i * PAGE_WORDS,
			   other_stamp(o, offset_bytes / PAGE_BYTES + i));
	return (int64_t)len_bytes;
}

int other_image(struct stress *s, struct other *o, uint64_t bytes, bool hangs)
{
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "neighbour",
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = read_other,
	};
	struct fln_image_opts io = FLN_IMAGE_OPTS_INIT;
	int rc;

	memset(o, 0, sizeof(*o));
	o->s = s;
	atomic_store(&o->hangs, hangs);
	rc = fln_source_create(&ops, o, &o->source);
	if (rc)
		return rc;
	io.len_bytes = bytes;
	io.source = o->source;
	io.name = "stress-other";
	return fln_image_create(s->engine, &io, &o->image);
}

/* @uffd: -1 for memory of this process. */
static int make_guest(struct other *o, uint64_t bytes, int uffd, uint64_t addr,
		      enum fln_discard discard)
{
	struct fln_guest_opts go = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	int rc;

	go.name = "neighbour";
	go.nr_vcpus = 8;
	go.release = has_chaos(&o->s->opts, CHAOS_RELEASE) ? FLN_RELEASE_AUTO : FLN_RELEASE_DEFAULT;
	if (uffd >= 0) {
		go.flags = FLN_GUEST_F_FOREIGN;
		go.foreign_uffd = uffd;
	}
	rc = fln_guest_create(o->s->engine, &go, &o->guest);
	if (rc)
		return rc;
	ro.image = o->image;
	ro.len_bytes = bytes;
	ro.addr = addr;
	ro.discard = discard;
	rc = fln_region_add(o->guest, &ro, &o->region);
	return rc ? rc : fln_guest_start(o->guest);
}

int other_guest(struct other *o, uint64_t bytes)
{
	return make_guest(o, bytes, -1, 0, FLN_DISCARD_DEFAULT);
}

int other_discarding_guest(struct other *o, uint64_t bytes, enum fln_discard discard)
{
	return make_guest(o, bytes, -1, 0, discard);
}

int other_foreign_guest(struct other *o, uint64_t bytes, int uffd, uint64_t addr,
			enum fln_discard discard)
{
	return make_guest(o, bytes, uffd, addr, discard);
}

void other_end(struct other *o)
{
	int rc;

	atomic_store(&o->hangs, false);
	(void)fln_guest_destroy(o->guest);
	rc = fln_image_destroy(o->image);
	if (rc)
		complain(o->s, "a neighbour's image: %s", fln_last_error());
	fln_source_destroy(o->source);
}
