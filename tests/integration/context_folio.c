/* SPDX-License-Identifier: MIT */
/*
 * In-context regions of images in large folios: pages of a folio that others take out of the page
 * cache read zero, whatever their state was.
 */
#include "tests/integration/context_bed.h"
#include "tests/integration/folio_bed.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define EVERY 8u   /* the last page of so many is a hole of the source */
#define FILLED 64u /* pages; the rest of the block is not, so its states differ */

/* How the pages leave the page cache. */
enum how {
	BY_A_GUEST, /* MADV_REMOVE in a queued region of the same image */
	BY_A_PUNCH, /* through the descriptor: nobody tells the image */
};

struct reader {
	struct bed *b;
	uint64_t page, nr_pages;
};

static void read_zeros(void *arg, uint32_t index)
{
	const struct reader *r = arg;

	(void)index;
	OK(fln_thread_enter());
	for (uint64_t page = r->page; page < r->page + r->nr_pages; page++)
		expect(r->b, page, 0);
	fln_thread_leave();
}

static void take_out(struct bed *b, struct fln_region *queued, enum how how, const struct reader *r)
{
	struct reader arg = *r;
	struct crew crew;

	if (how == BY_A_GUEST)
		CHECK(madvise((char *)fln_region_addr(queued) + r->page * PAGE, r->nr_pages * PAGE,
			      MADV_REMOVE) == 0,
		      "%s", strerror(errno));
	else
		CHECK(fallocate(fln_image_memfd(b->image),
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(r->page * PAGE),
				(off_t)(r->nr_pages * PAGE)) == 0,
		      "%s", strerror(errno));
	crew_start(&crew, 1, read_zeros, &arg);
	crew_wait(&crew, WAIT_S, "a thread that reads holes which have left a large folio");
}

static void taken_out(enum how how, bool is_private)
{
	struct fln_region_opts queued = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct bed b;
	const struct reader hole = { &b, EVERY - 1, 1 }, more = { &b, 40, 16 };

	bed_init(&b, 1024);
	b.maker.every_zero = EVERY;
	b.guest_opts.nr_shards = 2;
	bed_up_image(&b);
	b.region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	if (is_private) {
		b.region_opts.sharing = FLN_SHARING_PRIVATE;
		b.region_opts.discard = FLN_DISCARD_IMAGE;
	}
	bed_up(&b);
	queued.image = b.image;
	queued.len_bytes = b.nr_pages * PAGE;
	OK(fln_region_add(b.guest, &queued, &region));
	OK(fln_image_fill(b.image, 0, FILLED * PAGE));
	if (memory_of(&b).large_blocks == 0)
		test_note("no large folio: the page cache has no zeros");
	/* The rest of the block never comes. */
	take_out(&b, region, how, &hole);
	take_out(&b, region, how, &more);
	bed_down(&b);
}

static void given_back_by_a_guest(void)
{
	taken_out(BY_A_GUEST, false);
	taken_out(BY_A_GUEST, true);
}

static void punched_out(void)
{
	taken_out(BY_A_PUNCH, false);
	taken_out(BY_A_PUNCH, true);
}

int main(void)
{
	test_init();
	context_init();
	RUN(given_back_by_a_guest);
	RUN(punched_out);
	return 0;
}
