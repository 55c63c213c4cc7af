/* SPDX-License-Identifier: MIT */
/* Fillers: turns between images, one read at a time of a serial source, stop, starvation. */
#include "sources/filler.h"
#include "sources/fill.h"
#include "sources/filler_threads.h"
#include "sources/image_state.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "sources/image.h"
#include "sources/image_discard.h"
#include "sources/image_life.h"
#include "sources/image_want.h"
#include "sources/reading.h"
#include "tests/support/cm.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define NR_PAGES 64u
#define MAX_READS 1024u

/* A source that writes down which thread read what, and can keep its readers inside. */
struct book {
	char name;
	struct fln_source *source;
	struct fln_image image;
	_Atomic uint32_t nr_inside, most_inside;
	_Atomic bool gate_shut, fails;
};

struct fixture {
	struct fln_filler filler;
	struct book a, b;
	char order[MAX_READS + 1];
	_Atomic uint32_t nr_reads;
	_Atomic uint64_t kicked;
	bool entered;
};

static struct fixture f;

static int64_t book_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct book *book = ctx;
	uint32_t inside = atomic_fetch_add(&book->nr_inside, 1) + 1;
	uint32_t most = atomic_load(&book->most_inside);

	(void)offset_bytes;
	while (inside > most && !atomic_compare_exchange_weak(&book->most_inside, &most, inside))
		;
	f.order[atomic_fetch_add(&f.nr_reads, 1)] = book->name;
	do
		(void)sched_yield();
	while (atomic_load(&book->gate_shut));
	memset(buf, book->name, len_bytes);
	(void)atomic_fetch_sub(&book->nr_inside, 1);
	if (atomic_load(&book->fails))
		return -EIO;
	return (int64_t)len_bytes;
}

static void on_kick(void *ctx, uint64_t waiters)
{
	(void)ctx;
	(void)atomic_fetch_or(&f.kicked, waiters);
}

static void open_book(struct book *book, char name, enum fln_source_concurrency concurrency)
{
	const struct fln_source_ops ops = {
		.size = sizeof(ops), .name = "book", .concurrency = concurrency, .read = book_read
	};
	struct fln_image_init_opts opts = { .filler = &f.filler, .opts = FLN_IMAGE_OPTS_INIT };

	book->name = name;
	assert_int_equal(fln_source_create(&ops, book, &book->source), 0);
	opts.opts.len_bytes = fln_pages_to_bytes(NR_PAGES);
	opts.opts.source = book->source;
	assert_int_equal(fln_image_init(&book->image, &opts), 0);
}

static void close_book(struct book *book)
{
	assert_int_equal(fln_image_deinit(&book->image, UINT64_MAX), 0);
	fln_source_destroy(book->source);
}

static void setup_with(uint32_t nr_threads, uint32_t nr_fills, uint32_t nr_own,
		       enum fln_source_concurrency concurrency)
{
	struct fln_filler_opts o = {
		.nr_threads = nr_threads,
		.nr_fills = nr_fills,
		.nr_own_fills = nr_own,
		.fill_pages = 1,
		.nr_retries = 1000, /* each waits for 64 ms in the end */
		.run = fln_image_run_fill,
		.kick = on_kick,
	};

	memset(&f, 0, sizeof(f));
	f.entered = fln_rcu_enter();
	assert_int_equal(fln_alloc_init(&o.alloc, NULL), 0);
	assert_int_equal(fln_filler_init(&f.filler, &o), 0);
	open_book(&f.a, 'a', concurrency);
	open_book(&f.b, 'b', concurrency);
}

static void setup(uint32_t nr_threads, uint32_t nr_fills, enum fln_source_concurrency concurrency)
{
	setup_with(nr_threads, nr_fills, 0, concurrency);
}

static void teardown(void)
{
	assert_int_equal(fln_filler_stop(&f.filler, UINT64_MAX), 0);
	close_book(&f.a);
	close_book(&f.b);
	fln_filler_deinit(&f.filler);
	fln_rcu_leave(f.entered);
}

static void request(struct book *book, uint64_t page)
{
	assert_int_equal(fln_image_request(&book->image, page, 0), FLN_IMAGE_IS_PENDING);
}

static void wait_filled(struct book *book, uint64_t nr_pages)
{
	while (fln_image_filled_bytes(&book->image) < fln_pages_to_bytes(nr_pages))
		(void)sched_yield();
}

static void wait_inside(struct book *book, uint32_t nr)
{
	while (atomic_load(&book->nr_inside) < nr)
		(void)sched_yield();
}

static void images_take_turns(void **state)
{
	(void)state;
	setup(1, 256, FLN_SOURCE_PARALLEL);
	for (uint64_t p = 0; p < 20; p++)
		request(&f.a, p);
	for (uint64_t p = 0; p < 5; p++)
		request(&f.b, p);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	wait_filled(&f.a, 20);
	wait_filled(&f.b, 5);
	assert_int_equal(fln_filler_stop(&f.filler, UINT64_MAX), 0);
	assert_string_equal(f.order, "abababababaaaaaaaaaaaaaaa"); /* I7 */
	teardown();
}

static void a_serial_source_is_read_one_at_a_time(void **state)
{
	(void)state;
	setup(4, 256, FLN_SOURCE_SERIAL);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 30; p++) {
		request(&f.a, p);
		request(&f.b, p);
	}
	wait_filled(&f.a, 30);
	wait_filled(&f.b, 30);
	assert_int_equal(f.a.most_inside, 1);
	assert_int_equal(f.b.most_inside, 1);
	teardown();
}

static void a_serial_source_holds_up_one_thread_only(void **state)
{
	(void)state;
	setup(2, 256, FLN_SOURCE_SERIAL);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 10; p++)
		request(&f.a, p);
	wait_inside(&f.a, 1);
	for (uint64_t p = 0; p < 10; p++)
		request(&f.b, p);
	wait_filled(&f.b, 10); /* or the test hangs */
	assert_int_equal(fln_image_filled_bytes(&f.a.image), 0);
	atomic_store(&f.a.gate_shut, false);
	wait_filled(&f.a, 10);
	teardown();
}

static void a_parallel_source_is_read_by_all(void **state)
{
	(void)state;
	setup(6, 256, FLN_SOURCE_PARALLEL);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 3; p++)
		request(&f.a, p);
	wait_inside(&f.a, 3); /* or the test hangs */
	atomic_store(&f.a.gate_shut, false);
	wait_filled(&f.a, 3);
	teardown();
}

/* Let threads do what they should not. */
static void yield_often(void)
{
	for (int i = 0; i < 2000; i++)
		(void)sched_yield();
}

static void a_stuck_source_leaves_threads_to_others(void **state)
{
	struct book c = { 0 };

	(void)state;
	setup(4, 256, FLN_SOURCE_PARALLEL);
	open_book(&c, 'c', FLN_SOURCE_PARALLEL);
	atomic_store(&f.a.gate_shut, true);
	atomic_store(&f.b.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 10; p++) {
		request(&f.a, p);
		request(&f.b, p);
	}
	wait_inside(&f.a, 1);
	wait_inside(&f.b, 1);
	while (f.a.nr_inside + f.b.nr_inside < 3)
		(void)sched_yield();
	yield_often();
	assert_int_equal(f.a.nr_inside + f.b.nr_inside, 3); /* half, and not the last one */
	for (uint64_t p = 0; p < 10; p++)
		request(&c, p);
	wait_filled(&c, 10); /* or the test hangs */
	assert_int_equal(c.most_inside, 1);
	atomic_store(&f.a.gate_shut, false);
	atomic_store(&f.b.gate_shut, false);
	wait_filled(&f.a, 10);
	wait_filled(&f.b, 10);
	close_book(&c);
	teardown();
}

static void an_image_alone_has_all_threads_but_one(void **state)
{
	(void)state;
	setup(4, 256, FLN_SOURCE_PARALLEL);
	close_book(&f.b);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 10; p++)
		request(&f.a, p);
	wait_inside(&f.a, 3);
	yield_often();
	assert_int_equal(f.a.nr_inside, 3);
	open_book(&f.b, 'b', FLN_SOURCE_PARALLEL);
	request(&f.b, 0);
	wait_filled(&f.b, 1); /* or the test hangs */
	atomic_store(&f.a.gate_shut, false);
	wait_filled(&f.a, 10);
	teardown();
}

static void a_serial_source_of_several_images_holds_up_one_thread(void **state)
{
	struct fln_image_init_opts opts = { .filler = &f.filler, .opts = FLN_IMAGE_OPTS_INIT };
	struct fln_image twin;

	(void)state;
	setup(2, 256, FLN_SOURCE_SERIAL);
	opts.opts.len_bytes = fln_pages_to_bytes(NR_PAGES);
	opts.opts.source = f.a.source;
	assert_int_equal(fln_image_init(&twin, &opts), 0);
	atomic_store(&f.a.gate_shut, true);
	for (uint64_t p = 0; p < 5; p++) {
		request(&f.a, p);
		assert_int_equal(fln_image_request(&twin, p, 0), FLN_IMAGE_IS_PENDING);
	}
	assert_int_equal(fln_filler_start(&f.filler), 0);
	wait_inside(&f.a, 1);
	for (uint64_t p = 0; p < 5; p++)
		request(&f.b, p);
	wait_filled(&f.b, 5); /* or the test hangs */
	atomic_store(&f.a.gate_shut, false);
	wait_filled(&f.a, 5);
	while (fln_image_filled_bytes(&twin) < fln_pages_to_bytes(5))
		(void)sched_yield();
	assert_int_equal(f.a.most_inside, 1);
	assert_int_equal(fln_image_deinit(&twin, UINT64_MAX), 0);
	teardown();
}

static void stopping_leaves_queued_fills_for_later(void **state)
{
	(void)state;
	setup(1, 256, FLN_SOURCE_PARALLEL);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	request(&f.a, 0);
	request(&f.a, 1);
	wait_inside(&f.a, 1);
	assert_int_equal(fln_filler_stop(&f.filler, 1), -ETIMEDOUT);
	assert_int_equal(fln_filler_stop(&f.filler, 1), -ETIMEDOUT);
	/* The image cannot go either, while its read is out. */
	assert_false(fln_filler_drain(&f.filler, &f.a.image.queue, 1));
	atomic_store(&f.a.gate_shut, false);
	assert_int_equal(fln_filler_stop(&f.filler, UINT64_MAX), 0);
	assert_int_equal(fln_image_state(&f.a.image, 0), FLN_IMAGE_FILLED);
	assert_int_equal(fln_image_state(&f.a.image, 1), FLN_IMAGE_FILLING);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	wait_filled(&f.a, 2);
	teardown();
}

/* Attempts that fail are not carried on with when the fillers are to stop, or the image is to go. */
static void retries_end_with_the_fillers_and_with_the_image(void **state)
{
	(void)state;
	setup(2, 256, FLN_SOURCE_PARALLEL);
	atomic_store(&f.a.fails, true);
	atomic_store(&f.b.fails, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	request(&f.b, 0);
	while (atomic_load(&f.nr_reads) < 2)
		(void)sched_yield();
	assert_int_equal(fln_image_deinit(&f.b.image, UINT64_MAX), 0); /* or the test hangs */
	fln_source_destroy(f.b.source);
	request(&f.a, 0);
	request(&f.a, 1);
	wait_inside(&f.a, 1);
	assert_int_equal(fln_filler_stop(&f.filler, UINT64_MAX), 0); /* or the test hangs */
	assert_int_equal(fln_image_state(&f.a.image, 0), FLN_IMAGE_UNFILLED);
	open_book(&f.b, 'b', FLN_SOURCE_PARALLEL);
	atomic_store(&f.a.fails, false);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	request(&f.a, 0);
	wait_filled(&f.a, 1);
	teardown();
}

static uint32_t nr_allocs;
static void *(*real_alloc)(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node);

static void *third_fails(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	return ++nr_allocs == 3 ? NULL : real_alloc(ctx, size_bytes, align_bytes, node);
}

static void a_start_that_fails_leaves_nothing_running(void **state)
{
	(void)state;
	setup(4, 256, FLN_SOURCE_PARALLEL);
	nr_allocs = 0;
	real_alloc = f.filler.opts.alloc.alloc;
	f.filler.opts.alloc.alloc = third_fails;
	assert_int_equal(fln_filler_start(&f.filler), -ENOMEM);
	assert_non_null(strstr(fln_last_error(), "3"));
	assert_int_equal(f.filler.nr_running, 0);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	request(&f.a, 0);
	wait_filled(&f.a, 1);
	f.filler.opts.alloc.alloc = real_alloc;
	teardown();
}

static void an_image_waits_for_its_read(void **state)
{
	struct book *c;

	(void)state;
	setup(1, 256, FLN_SOURCE_PARALLEL);
	c = &f.b;
	atomic_store(&c->gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	request(c, 0);
	wait_inside(c, 1);
	request(c, 1);
	assert_int_equal(fln_image_deinit(&c->image, 1), -ETIMEDOUT);
	assert_non_null(strstr(fln_last_error(), "book"));
	assert_int_equal(fln_image_state(&c->image, 1), FLN_IMAGE_UNFILLED); /* cancelled */
	atomic_store(&c->gate_shut, false);
	teardown();
}

static uint32_t nr_free(void)
{
	uint32_t nr = 0;

	for (const struct fln_fill *fill = f.filler.free; fill; fill = fill->next)
		nr++;
	for (const struct fln_fill *fill = f.filler.free_background; fill; fill = fill->next)
		nr++;
	return nr;
}

static void a_worker_without_a_fill_is_told_when_there_is_one(void **state)
{
	struct fln_fill *fill;
	static _Alignas(4096) char buffer[FLN_PAGE_BYTES];

	(void)state;
	setup(1, 2, FLN_SOURCE_PARALLEL);
	request(&f.a, 0);
	request(&f.b, 0);
	assert_int_equal(nr_free(), 0);
	assert_int_equal(fln_image_request(&f.a.image, 2, 7), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_request(&f.b.image, 2, 9), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_state(&f.a.image, 2), FLN_IMAGE_UNFILLED);
	assert_int_equal(f.kicked, 0);
	fill = fln_filler_withdraw(&f.filler, &f.a.image.queue);
	assert_null(fill->next);
	fln_image_run_fill(&f.a.image, fill, buffer);
	fln_filler_free(&f.filler, &f.a.image.queue, fill);
	assert_int_equal(f.kicked, 1u << 0 | 1u << 7 | 1u << 9);
	/* b has half of the fills: this one is for others. */
	assert_int_equal(fln_image_request(&f.b.image, 2, 9), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_state(&f.b.image, 2), FLN_IMAGE_UNFILLED);
	assert_int_equal(fln_image_request(&f.a.image, 2, 7), FLN_IMAGE_IS_PENDING);
	assert_int_equal(fln_image_state(&f.a.image, 2), FLN_IMAGE_FILLING);
	teardown();
}

static void take_down(void *ctx, enum fln_change what, uint32_t set)
{
	uint32_t *nr = ctx;

	if (what == FLN_CHANGE_FILLS)
		nr[set == f.a.image.queue.set ? 0 : 1]++;
}

/* All that the image may have; the last one that asks finds none. */
static uint32_t take_all(struct book *book, uint32_t waiter, struct fln_fill **fills)
{
	uint32_t nr = 0;

	while ((fills[nr] =
			fln_filler_alloc(&f.filler, &book->image.queue, waiter, FLN_FILL_FAULT)))
		assert_true(++nr < 8);
	return nr;
}

static bool is_own(const struct book *book, const struct fln_fill *fill)
{
	return fill >= book->image.queue.own_fills && fill < book->image.queue.own_fills + 2;
}

/* A fill of an image's reserve is no other's: those that wait for one of the pool are left alone. */
static void a_fill_is_told_to_those_that_may_have_it(void **state)
{
	struct fln_fill *a[8], *b[8], *again;
	uint32_t nr_a, nr_b, own, pool, nr[2] = { 0 };

	(void)state;
	setup_with(1, 2, 2, FLN_SOURCE_PARALLEL);
	nr_a = take_all(&f.a, 7, a);
	nr_b = take_all(&f.b, 9, b);
	assert_int_equal(nr_a + nr_b, 2 + 2 * 2);
	for (own = 0; !is_own(&f.a, a[own]); own++)
		;
	for (pool = 0; is_own(&f.a, a[pool]); pool++)
		;
	fln_filler_free(&f.filler, &f.a.image.queue, a[own]);
	assert_int_equal(f.kicked, 1u << 7);
	assert_true(fln_filler_starves(&f.filler, 9));
	fln_changed_take(&f.filler.changed[7], nr, take_down);
	fln_changed_take(&f.filler.changed[9], nr, take_down);
	assert_int_equal(nr[0], 1);
	assert_int_equal(nr[1], 0);
	again = fln_filler_alloc(&f.filler, &f.a.image.queue, 7, FLN_FILL_FAULT);
	assert_ptr_equal(again, a[own]);
	assert_null(fln_filler_alloc(&f.filler, &f.a.image.queue, 7, FLN_FILL_FAULT));
	f.kicked = 0;
	fln_filler_free(&f.filler, &f.a.image.queue, a[pool]);
	assert_int_equal(f.kicked, 1u << 7 | 1u << 9);
	assert_false(fln_filler_starves(&f.filler, 9));
	fln_changed_take(&f.filler.changed[7], nr, take_down);
	assert_int_equal(nr[0], 2);
	for (uint32_t i = 0; i < nr_a; i++) {
		if (i != pool)
			fln_filler_free(&f.filler, &f.a.image.queue, a[i]);
	}
	for (uint32_t i = 0; i < nr_b; i++)
		fln_filler_free(&f.filler, &f.b.image.queue, b[i]);
	teardown();
}

static void a_request_that_needs_no_fill_gives_it_back(void **state)
{
	(void)state;
	setup(1, 2, FLN_SOURCE_PARALLEL);
	request(&f.a, 0);
	request(&f.a, 0);
	assert_int_equal(nr_free(), 1);
	fln_image_give_up(&f.a.image, 1, 1);
	assert_int_equal(fln_image_request(&f.a.image, 1, 0), FLN_IMAGE_IS_READY);
	assert_int_equal(nr_free(), 1);
	teardown();
}

/* Ask for @nr pages from @page on; how many of them there was a fill for. */
static uint32_t begin(struct book *book, uint64_t page, uint32_t nr, bool background, bool peer)
{
	uint32_t nr_begun = 0;

	for (uint64_t p = page; p < page + nr; p++) {
		struct fln_image_want want = { .background = background, .peer = peer };

		(void)fln_image_want(&book->image, p, 0, &want);
		nr_begun += fln_image_state(&book->image, p) == FLN_IMAGE_FILLING;
	}
	return nr_begun;
}

static void each_image_has_its_share_of_the_fills(void **state)
{
	(void)state;
	setup_with(1, 16, 4, FLN_SOURCE_PARALLEL);
	/* Half of the pool, which leaves as much to others, and the reserve. */
	assert_int_equal(begin(&f.a, 0, 30, false, false), 8 + 4);
	assert_int_equal(begin(&f.a, 30, 30, true, false), 0);
	assert_int_equal(nr_free(), 8);
	assert_int_equal(begin(&f.b, 0, 30, false, false), 4 + 4);
	assert_int_equal(nr_free(), 4);
	teardown();
}

static void the_last_image_has_its_reserve(void **state)
{
	(void)state;
	setup_with(1, 2, 4, FLN_SOURCE_PARALLEL);
	assert_int_equal(begin(&f.a, 0, 30, false, false), 1 + 4);
	assert_int_equal(begin(&f.b, 0, 30, true, false), 1 + 2);
	assert_int_equal(nr_free(), 0);
	/* What is populated has taken its half of it and no more. */
	assert_int_equal(begin(&f.b, 30, 30, false, false), 2);
	teardown();
}

static void another_process_leaves_half_to_faults(void **state)
{
	(void)state;
	setup_with(1, 16, 4, FLN_SOURCE_PARALLEL);
	assert_int_equal(begin(&f.a, 0, 30, false, true), 4 + 2);
	assert_int_equal(begin(&f.a, 30, 30, false, false), 2 + 4);
	assert_int_equal(begin(&f.b, 0, 30, false, false), 4 + 4);
	teardown();
}

static void an_image_alone_has_the_whole_pool(void **state)
{
	(void)state;
	setup_with(1, 16, 4, FLN_SOURCE_PARALLEL);
	close_book(&f.b);
	assert_int_equal(begin(&f.a, 0, 30, false, false), 16 + 4);
	open_book(&f.b, 'b', FLN_SOURCE_PARALLEL);
	assert_int_equal(begin(&f.b, 0, 30, false, false), 4);
	teardown();
}

/* Two images have the same source, which hangs: for the threads they are one. */
static void images_of_a_stuck_source_leave_threads_to_others(void **state)
{
	struct fln_image_init_opts opts = { .filler = &f.filler, .opts = FLN_IMAGE_OPTS_INIT };
	struct fln_image twin;

	(void)state;
	setup(4, 256, FLN_SOURCE_PARALLEL);
	opts.opts.len_bytes = fln_pages_to_bytes(NR_PAGES);
	opts.opts.source = f.a.source;
	assert_int_equal(fln_image_init(&twin, &opts), 0);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 8; p++) {
		request(&f.a, p);
		assert_int_equal(fln_image_request(&twin, p, 0), FLN_IMAGE_IS_PENDING);
	}
	wait_inside(&f.a, 2);
	for (uint64_t p = 0; p < 8; p++)
		request(&f.b, p);
	wait_filled(&f.b, 8);
	assert_int_equal(atomic_load(&f.a.most_inside), 2);
	atomic_store(&f.a.gate_shut, false);
	assert_int_equal(fln_image_deinit(&twin, UINT64_MAX), 0);
	teardown();
}

/* An image had all threads but one when another came: that is populated all the same. */
static void populating_goes_on_beside_a_stuck_source(void **state)
{
	(void)state;
	setup(3, 256, FLN_SOURCE_PARALLEL);
	close_book(&f.b);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 8; p++)
		request(&f.a, p);
	wait_inside(&f.a, 2);
	open_book(&f.b, 'b', FLN_SOURCE_PARALLEL);
	assert_int_equal(begin(&f.b, 0, 4, true, false), 4);
	wait_filled(&f.b, 4);
	atomic_store(&f.a.gate_shut, false);
	teardown();
}

/* So many fillers sleep: of the process, for only one filler is there at a time. */
static uint32_t nr_asleep(void)
{
	DIR *dir = opendir("/proc/self/task");
	char path[64], line[256], comm[32], is;
	const struct dirent *e;
	uint32_t nr = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		FILE *stat;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%.16s/stat", e->d_name);
		stat = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (!stat)
			continue;
		if (fgets(line, sizeof(line), stat) &&
		    sscanf(line, "%*d (%31[^)]) %c", comm, &is) == 2)
			nr += strncmp(comm, "fln-fill", 8) == 0 && is == 'S';
		(void)fclose(stat);
	}
	(void)closedir(dir);
	return nr;
}

/* The same, when the thread that is left has slept since before there was anything to do. */
static void the_last_thread_watches_the_others(void **state)
{
	(void)state;
	setup(3, 256, FLN_SOURCE_PARALLEL);
	close_book(&f.b);
	atomic_store(&f.a.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	for (uint64_t p = 0; p < 2; p++) {
		while (nr_asleep() < 3 - p)
			(void)sched_yield();
		request(&f.a, p);
		wait_inside(&f.a, (uint32_t)p + 1);
	}
	request(&f.a, 2);
	open_book(&f.b, 'b', FLN_SOURCE_PARALLEL);
	assert_int_equal(begin(&f.b, 0, 4, true, false), 4);
	wait_filled(&f.b, 4);
	atomic_store(&f.a.gate_shut, false);
	teardown();
}

/* Two fills of nobody's fault hang; a third waits, until a fault waits for it. */
static void a_promoted_fill_finds_an_idle_thread(void **state)
{
	(void)state;
	setup(4, 256, FLN_SOURCE_PARALLEL);
	atomic_store(&f.a.gate_shut, true);
	atomic_store(&f.b.gate_shut, true);
	assert_int_equal(fln_filler_start(&f.filler), 0);
	assert_int_equal(begin(&f.a, 0, 1, true, false), 1);
	assert_int_equal(begin(&f.b, 0, 1, true, false), 1);
	wait_inside(&f.a, 1);
	wait_inside(&f.b, 1);
	/* Those that have not slept yet would find it by themselves. */
	while (nr_asleep() < 2)
		(void)sched_yield();
	assert_int_equal(begin(&f.a, 1, 1, true, false), 1);
	request(&f.a, 1);
	wait_inside(&f.a, 2);
	atomic_store(&f.a.gate_shut, false);
	atomic_store(&f.b.gate_shut, false);
	wait_filled(&f.a, 2);
	teardown();
}

/* A fill that publishes looks at the waiters that there are, and at threads that close regions. */
static void only_waiters_that_there_are_are_waited_for(void **state)
{
	struct fln_filler_opts opts = { .nr_threads = 1,
					.nr_fills = 1,
					.fill_pages = 1,
					.nr_waiters = 2,
					.run = fln_image_run_fill };
	static struct fln_filler filler;

	(void)state;
	assert_int_equal(fln_alloc_init(&opts.alloc, NULL), 0);
	assert_int_equal(fln_filler_init(&filler, &opts), 0);
	atomic_store(&filler.reading[2].seq, 1); /* nobody's: not looked at */
	fln_filler_reading_begin(&filler, 1);
	fln_filler_reading_end(&filler, 1);
	fln_filler_wait_readers(&filler);
	fln_filler_deinit(&filler);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_take_turns),
		cmocka_unit_test(a_serial_source_is_read_one_at_a_time),
		cmocka_unit_test(a_serial_source_holds_up_one_thread_only),
		cmocka_unit_test(a_parallel_source_is_read_by_all),
		cmocka_unit_test(a_stuck_source_leaves_threads_to_others),
		cmocka_unit_test(an_image_alone_has_all_threads_but_one),
		cmocka_unit_test(a_serial_source_of_several_images_holds_up_one_thread),
		cmocka_unit_test(stopping_leaves_queued_fills_for_later),
		cmocka_unit_test(retries_end_with_the_fillers_and_with_the_image),
		cmocka_unit_test(a_start_that_fails_leaves_nothing_running),
		cmocka_unit_test(an_image_waits_for_its_read),
		cmocka_unit_test(a_worker_without_a_fill_is_told_when_there_is_one),
		cmocka_unit_test(a_fill_is_told_to_those_that_may_have_it),
		cmocka_unit_test(a_request_that_needs_no_fill_gives_it_back),
		cmocka_unit_test(each_image_has_its_share_of_the_fills),
		cmocka_unit_test(the_last_image_has_its_reserve),
		cmocka_unit_test(another_process_leaves_half_to_faults),
		cmocka_unit_test(an_image_alone_has_the_whole_pool),
		cmocka_unit_test(images_of_a_stuck_source_leave_threads_to_others),
		cmocka_unit_test(populating_goes_on_beside_a_stuck_source),
		cmocka_unit_test(the_last_thread_watches_the_others),
		cmocka_unit_test(a_promoted_fill_finds_an_idle_thread),
		cmocka_unit_test(only_waiters_that_there_are_are_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
