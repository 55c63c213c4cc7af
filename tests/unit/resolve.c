/* SPDX-License-Identifier: MIT */
/*
 * Resolving in context on the fake kernel: the handler's work without a signal.  A
 * second thread is the worker where one is asked for contents.
 */
#include "base/blockmap.h"
#include "base/page.h"
#include "base/rcu.h"
#include "engine/context/registry.h"
#include "engine/context/shards.h"
#include "engine/life/closing.h"
#include "engine/region_map.h"
#include "engine/serve.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/wanted.h"
#include "engine/state/worker.h"
#include "engine/wanted.h"
#include "engine/whole.h"
#include "sources/image.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <faultlane/context.h>
#include <faultlane/image.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)

static struct rig *context_rig(struct rig_opts opts, bool filled)
{
	struct rig *r = rig_create(&opts);

	if (filled)
		rig_put(r, 0, r->opts.nr_pages);
	r->shard.in_context = true;
	r->region.in_context = true;
	atomic_store(&r->shard.helper, &r->worker);
	atomic_store(&r->guest.context_shards, &r->shard);
	r->engine.opts.source_timeout_ns = UINT64_MAX;
	assert_int_equal(fln_context_enter_region(&r->region), 0);
	assert_int_equal(fln_thread_enter(), 0);
	return r;
}

static void context_end(struct rig *r)
{
	fln_thread_leave();
	fln_context_leave_region(&r->region);
	assert_int_equal(COUNT(r, faults), COUNT(r, in_context));
	rig_destroy(r);
}

static enum fln_resolved resolve_addr(uint64_t addr)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGBUS;
	info.si_code = BUS_ADRERR;
	info.si_addr = (void *)(uintptr_t)(addr + 8);
	return fln_resolve(&info);
}

static enum fln_resolved resolve(struct rig *r, uint64_t page)
{
	return resolve_addr(rig_addr(r, page));
}

static void assert_mapped(struct rig *r, uint64_t page, uint64_t value)
{
	struct fake_page *p = fake_page(&r->fake, rig_addr(r, page));

	assert_int_equal(p->pte, FAKE_MAPPED);
	assert_int_equal(fake_contents(p), value);
}

/*
 * The worker: begins after @delay_ms, and with @once_asked when the thread has asked for its
 * page; serves until the thread has what it wants.
 */
struct helper {
	struct rig *r;
	pthread_t thread;
	_Atomic bool stop;
	uint32_t delay_ms;
	bool once_asked;
	void (*first)(struct rig *r);
};

static void *helper_main(void *arg)
{
	struct helper *h = arg;
	bool entered = fln_rcu_enter();

	fln_context_nap((uint64_t)h->delay_ms * 1000000);
	while (h->once_asked && !atomic_load(&h->r->worker.wanted_new))
		fln_context_nap(100000);
	if (h->first)
		h->first(h->r);
	while (!atomic_load(&h->stop)) {
		fln_serve_wanted(&h->r->worker);
		(void)rig_fill(h->r, UINT32_MAX);
		fln_serve_wanted(&h->r->worker);
		fln_context_nap(100000);
	}
	fln_rcu_leave(entered);
	return NULL;
}

static void helper_start(struct helper *h, struct rig *r)
{
	h->r = r;
	assert_int_equal(pthread_create(&h->thread, NULL, helper_main, h), 0);
}

static void helper_stop(struct helper *h)
{
	atomic_store(&h->stop, true);
	(void)pthread_join(h->thread, NULL);
	assert_null(h->r->worker.wanted);
}

static void the_whole_window_is_mapped_by_one_call(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 512 }, true);

	(void)state;
	errno = 4711;
	assert_int_equal(resolve(r, 100), FLN_RESOLVED);
	assert_int_equal(errno, 4711);
	assert_int_equal(r->fake.nr_calls[FAKE_CONTINUE], 1);
	assert_int_equal(r->fake.nr_pages_done[FAKE_CONTINUE], 512);
	assert_int_equal(r->fake.nr_wake_calls, 0);
	assert_mapped(r, 511, rig_due(r, 511));
	assert_int_equal(COUNT(r, minor), 1);
	assert_int_equal(COUNT(r, resumed), 1);
	assert_int_equal(r->shard.count.service.count, 1);
	/* Once more, though mapped: somebody else was first.  No wake either. */
	assert_int_equal(resolve(r, 100), FLN_RESOLVED);
	assert_int_equal(COUNT(r, refaults), 1);
	assert_int_equal(r->fake.nr_wake_calls, 0);
	context_end(r);
}

static void a_claim_is_never_waited_for(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 16 }, true);
	struct fln_mask pages = fln_mask_range(0, 16), won;
	struct fln_chunk *c;

	(void)state;
	/* As if this very thread had been interrupted between its claim and its install. */
	fln_rcu_read_lock();
	c = fln_blockmap_chunk(&r->region.map, 0);
	won = fln_region_claim(c, &pages);
	assert_int_equal(fln_mask_count(&won), 16);
	assert_int_equal(resolve(r, 5), FLN_RESOLVED);
	assert_mapped(r, 5, rig_due(r, 5));
	assert_int_equal(fake_nr_mapped(&r->fake), 1);
	assert_false(rig_map_says(r, FLN_PLANE_PRESENT, 5));
	/* The claim is still the claimer's: debug builds check it here. */
	fln_region_settle(c, &won, FLN_PAGE_PRESENT);
	fln_rcu_read_unlock();
	context_end(r);
}

static void what_is_put_off_is_tried_again(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, true);

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_times = 3;
	r->fake.fail_errno = EAGAIN;
	assert_int_equal(resolve(r, 7), FLN_RESOLVED);
	assert_mapped(r, 7, rig_due(r, 7));
	assert_int_equal(COUNT(r, again), 3);
	assert_int_equal(COUNT(r, faults), 1);
	context_end(r);
}

static void contents_are_waited_for(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 4 }, false);
	struct helper h = { .delay_ms = 5 };

	(void)state;
	r->hole[9] = true;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	assert_mapped(r, 3, rig_due(r, 3));
	assert_int_equal(COUNT(r, major), 1);
	assert_int_equal(resolve(r, 9), FLN_RESOLVED);
	assert_mapped(r, 9, 0);
	assert_int_equal(COUNT(r, zero), 1);
	helper_stop(&h);
	assert_int_equal(COUNT(r, resumed), 2);
	context_end(r);
}

static void a_hole_is_noted_by_the_worker(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 16 }, true);
	struct helper h = { .delay_ms = 1 };

	(void)state;
	fake_punch(&r->fake, rig_addr(r, 4), 8);
	helper_start(&h, r);
	assert_int_equal(resolve(r, 6), FLN_RESOLVED);
	helper_stop(&h);
	assert_mapped(r, 6, 0);
	assert_mapped(r, 0, rig_due(r, 0));
	assert_int_equal(fln_image_state(&r->image, rig_image_page(r, 6)), FLN_IMAGE_ZERO);
	assert_int_equal(COUNT(r, faults), 1);
	context_end(r);
}

static void a_page_that_cannot_be_read_is_poisoned(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 0 };

	(void)state;
	r->bad[2] = true;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS);
	helper_stop(&h);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 2))->pte, FAKE_POISONED);
	assert_true(rig_map_says(r, FLN_PLANE_POISONED, 2));
	/* From here on without a worker. */
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(COUNT(r, poisoned), 2);
	context_end(r);
}

/* An event is unread: the kernel puts the poison off, and the page is not poisoned by that. */
static void poison_that_is_put_off(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 0 };

	(void)state;
	r->bad[2] = true;
	r->fake.fail_in = 1;
	r->fake.fail_errno = EAGAIN;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS);
	helper_stop(&h);
	assert_int_equal(r->fake.fail_in, 0);
	assert_int_equal(r->fake.nr_calls[FAKE_POISON], 2);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 2))->pte, FAKE_POISONED);
	assert_int_equal(COUNT(r, poisoned), 1);
	context_end(r);
}

static void push_what_failed(void *ctx, uint64_t addr, int err)
{
	struct rig *r = ctx;

	(void)err;
	rig_put(r, (addr - r->region.addr) / FLN_PAGE_BYTES, 1);
}

/* A page that could not be read is pushed, and mapped by another, before it is poisoned. */
static void what_comes_before_the_poison_is_read(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 0 };

	(void)state;
	r->bad[2] = true;
	r->fake.fail_in = 1;
	r->fake.fail_errno = EEXIST;
	r->fake.on_injected = push_what_failed;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	helper_stop(&h);
	assert_mapped(r, 2, rig_due(r, 2));
	assert_false(rig_map_says(r, FLN_PLANE_POISONED, 2));
	context_end(r);
}

/*
 * A discard whose event has been acted upon while somebody poisons: it leaves what is claimed
 * alone, and takes the poison away after that.
 */
static void poison_that_was_lifted(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 0 };

	(void)state;
	r->bad[2] = true;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS);
	helper_stop(&h);
	rig_put(r, 2, 1);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS); /* it stays */
	fake_zap(&r->fake, rig_addr(r, 2), 1);
	assert_true(rig_map_says(r, FLN_PLANE_POISONED, 2));
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	assert_mapped(r, 2, rig_due(r, 2));
	assert_false(rig_map_says(r, FLN_PLANE_POISONED, 2));
	context_end(r);
}

/* What mremap() has put on a page of the region is not served, and no zeros instead. */
static void what_was_moved_onto_a_page(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .nr_pages = 64, .window = 16 }, false);

	(void)state;
	rig_put(r, 0, 16);
	fake_unmap(&r->fake, rig_addr(r, 5), 1);
	fake_remap(&r->fake, rig_addr(r, 40), rig_addr(r, 5), 1);
	fln_serve_shard(&r->worker, &r->shard);
	fake_run(&r->fake);
	assert_int_equal(resolve(r, 5), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(resolve(r, 6), FLN_RESOLVED);
	assert_mapped(r, 4, rig_due(r, 4));
	assert_mapped(r, 6, rig_due(r, 6));
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 5))->pte, FAKE_ABSENT);
	assert_int_equal(COUNT(r, failed), 1);
	context_end(r);
}

static void unmap_three(struct rig *r)
{
	while (!r->worker.wanted && !atomic_load(&r->worker.wanted_new))
		fln_context_nap(1000000);
	fake_unmap(&r->fake, rig_addr(r, 3), 1);
	fln_serve_shard(&r->worker, &r->shard);
}

/* A thread that waits where something is unmapped looks itself what is there now. */
static void a_thread_that_waits_in_what_is_unmapped(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1, .pushed = true }, false);
	struct helper h = { .first = unmap_three };

	(void)state;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	helper_stop(&h);
	assert_int_equal(COUNT(r, failed), 1);
	assert_int_equal(COUNT(r, invalid), 1);
	context_end(r);
}

/* And where its contents have failed before anybody knows: it is not poisoned for ever. */
static void a_failed_page_that_has_gone(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 0 };

	(void)state;
	r->bad[2] = true;
	r->fake.fail_in = 1;
	r->fake.fail_times = UINT32_MAX;
	r->fake.fail_errno = ENOENT;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS);
	helper_stop(&h);
	context_end(r);
}

static void a_region_that_closes_asks_nobody(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);

	(void)state;
	rig_put(r, 0, 1);
	atomic_store(&r->region.closing, true);
	assert_int_equal(resolve(r, 0), FLN_RESOLVED);
	assert_mapped(r, 0, rig_due(r, 0));
	assert_int_equal(resolve(r, 1), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(fake_page(&r->fake, rig_addr(r, 1))->pte, FAKE_ABSENT);
	assert_null(atomic_load(&r->worker.wanted_new));
	assert_int_equal(COUNT(r, poisoned), 1);
	context_end(r);
}

static void close_it(struct rig *r)
{
	atomic_store(&r->region.closing, true);
}

static void a_waiting_thread_goes_on_when_the_region_closes(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1, .pushed = true }, false);
	struct helper h = { .once_asked = true, .first = close_it };

	(void)state;
	helper_start(&h, r);
	assert_int_equal(resolve(r, 1), FLN_RESOLVED_NOT_OURS);
	helper_stop(&h);
	assert_int_equal(COUNT(r, poisoned), 1);
	assert_int_equal(COUNT(r, major), 1);
	context_end(r);
}

/*
 * A region that is being added lies there already and is not registered: the fault is older.
 * A range that was unmapped has what others have mapped there, and faults again.
 */
static void a_range_that_is_not_registered_is_tried_once(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, true);

	(void)state;
	r->fake.fail_in = 1;
	r->fake.fail_times = 4;
	r->fake.fail_errno = ENOENT;
	assert_int_equal(resolve(r, 1), FLN_RESOLVED);
	assert_int_equal(COUNT(r, faults), 0);
	assert_int_equal(resolve(r, 1), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(COUNT(r, failed), 1);
	assert_int_equal(COUNT(r, invalid), 1);
	/* What was found before the region began to close says nothing of the time since. */
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	atomic_store(&r->region.closing, true);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	assert_mapped(r, 2, rig_due(r, 2));
	context_end(r);
}

/* As when it is unregistered; and as when it is mapped over, and its contents come then. */
static void a_range_that_is_closed_is_tried_once(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, true);

	(void)state;
	atomic_store(&r->region.closing, true);
	r->fake.fail_in = 1;
	r->fake.fail_times = 3;
	r->fake.fail_errno = ENOENT;
	assert_int_equal(resolve(r, 1), FLN_RESOLVED);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED);
	assert_int_equal(resolve(r, 2), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(COUNT(r, faults), 1);
	assert_int_equal(COUNT(r, poisoned), 1);
	context_end(r);
}

static struct fln_wanted *taken[4096];
static uint32_t nr_taken;

static void free_one_slot(struct rig *r)
{
	(void)r;
	atomic_store(&taken[--nr_taken]->state, FLN_WANTED_FREE);
}

static void slots_run_out(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 20, .first = free_one_slot };

	(void)state;
	while ((taken[nr_taken] = fln_wanted_take()) != NULL)
		nr_taken++;
	assert_true(nr_taken >= 256);
	helper_start(&h, r);
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	helper_stop(&h);
	assert_mapped(r, 3, rig_due(r, 3));
	assert_int_equal(COUNT(r, faults), 1);
	/* The one that was free is again. */
	taken[nr_taken] = fln_wanted_take();
	assert_non_null(taken[nr_taken++]);
	assert_null(fln_wanted_take());
	while (nr_taken > 0)
		free_one_slot(r);
	context_end(r);
}

static void start_guest(struct rig *r)
{
	atomic_store(&r->shard.helper, &r->worker);
}

static void a_guest_that_is_not_started_is_waited_for(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 10, .first = start_guest };

	(void)state;
	atomic_store(&r->shard.helper, NULL);
	helper_start(&h, r);
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	helper_stop(&h);
	assert_int_equal(COUNT(r, faults), 1);
	context_end(r);
}

static int uniform(struct rig *r, uint64_t block)
{
	int planes;

	fln_rcu_read_lock();
	planes = fln_blockmap_uniform(&r->region.map, block);
	fln_rcu_read_unlock();
	return planes;
}

static void whole_blocks_are_collapsed_by_the_worker(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .nr_pages = 2048, .window = 512 }, true);

	(void)state;
	for (uint64_t block = 0; block < 3; block++)
		assert_int_equal(resolve(r, block * 512 + 9), FLN_RESOLVED);
	assert_int_equal(resolve(r, 9), FLN_RESOLVED); /* noted once */
	assert_int_equal(atomic_load(&r->shard.whole.nr), 3);
	assert_int_equal(uniform(r, 0), -1);
	/* The worker has been told of the first, and leaves few alone for a while. */
	assert_true(atomic_exchange(&r->worker.kicked, false));
	assert_true(fln_context_collapse_due(&r->shard, false));
	assert_int_equal(uniform(r, 0), -1);
	assert_false(fln_context_collapse_due(&r->shard, true));
	for (uint64_t block = 0; block < 3; block++)
		assert_int_equal(uniform(r, block), 1 << FLN_PLANE_PRESENT);
	assert_int_equal(atomic_load(&r->shard.whole.nr), 0);
	/* Full of other blocks, of which it may not choke. */
	for (uint32_t i = 0; i < FLN_NR_WHOLE; i++)
		atomic_store(&r->shard.whole.addr[i], 4096 * (i + 1));
	atomic_store(&r->shard.whole.nr, FLN_NR_WHOLE);
	assert_int_equal(resolve(r, 3 * 512), FLN_RESOLVED);
	assert_true(atomic_load(&r->worker.kicked));
	fln_context_collapse(&r->shard);
	assert_int_equal(uniform(r, 3), -1); /* forgotten: a hint, and no more */
	context_end(r);
}

static void without_a_chunk_one_page_is_mapped(void **state)
{
	struct rig *r =
		context_rig((struct rig_opts){ .nr_pages = 1024, .window = 16, .nr_chunks = 1 },
			    true);

	(void)state;
	assert_int_equal(resolve(r, 0), FLN_RESOLVED);
	assert_int_equal(resolve(r, 600), FLN_RESOLVED);
	assert_int_equal(COUNT(r, no_chunk), 1);
	assert_int_equal(fake_nr_mapped(&r->fake), 17);
	context_end(r);
}

static void addresses_and_threads_of_others(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, true);
	uint64_t end = rig_addr(r, r->opts.nr_pages);

	(void)state;
	/* Other tests' regions have left: the first time it could be an old fault. */
	if (fln_context_nr_left() > 0)
		(void)resolve_addr(end);
	assert_int_equal(resolve_addr(end), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(resolve_addr(rig_addr(r, 0) - FLN_PAGE_BYTES) == FLN_RESOLVED &&
				 resolve_addr(rig_addr(r, 0) - FLN_PAGE_BYTES) == FLN_RESOLVED,
			 false);
	fln_thread_leave();
	assert_int_equal(resolve(r, 0), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(fln_thread_enter(), 0);
	assert_int_equal(resolve(r, 0), FLN_RESOLVED);
	fln_context_leave_region(&r->region);
	/* Raised before it left, for all we know; then it comes again. */
	assert_int_equal(resolve(r, 1), FLN_RESOLVED);
	assert_int_equal(resolve(r, 1), FLN_RESOLVED_NOT_OURS);
	assert_int_equal(fake_nr_mapped(&r->fake), 1);
	context_end(r);
}

static void the_registry_keeps_order(void **state)
{
	static struct fln_region regions[40];

	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 40; i++) {
			uint32_t at = i * 7 % 40;

			regions[at].addr = (at + 1) * 10 * FLN_PAGE_BYTES;
			regions[at].len_bytes = 5 * FLN_PAGE_BYTES;
			assert_int_equal(fln_context_enter_region(&regions[at]), 0);
		}
		fln_rcu_read_lock();
		for (uint32_t i = 0; i < 40; i++) {
			assert_ptr_equal(fln_context_find(regions[i].addr), &regions[i]);
			assert_ptr_equal(fln_context_find(regions[i].addr + 5 * FLN_PAGE_BYTES - 1),
					 &regions[i]);
			assert_null(fln_context_find(regions[i].addr + 5 * FLN_PAGE_BYTES));
			assert_null(fln_context_find(regions[i].addr - 1));
		}
		fln_rcu_read_unlock();
		for (uint32_t i = 0; i < 40; i++) {
			fln_context_leave_region(&regions[i * 3 % 40]);
			fln_rcu_read_lock();
			assert_null(fln_context_find(regions[i * 3 % 40].addr));
			fln_rcu_read_unlock();
		}
	}
}

/* A worker that may not be asked: if it is, it says so, and lets the thread go. */
static _Atomic bool was_asked;

static void be_asked_nothing(struct rig *r)
{
	for (uint32_t i = 0; i < 600 && !atomic_load(&was_asked); i++) {
		atomic_store(&was_asked, atomic_load(&r->worker.wanted_new) != NULL);
		fln_context_nap(1000000);
	}
	atomic_store(&r->region.closing, false);
}

static void a_hole_of_a_region_that_closes_is_zero(void **state)
{
	struct helper h = { .first = be_asked_nothing };
	struct rig *r = context_rig((struct rig_opts){ .window = 16 }, true);

	(void)state;
	fake_punch(&r->fake, rig_addr(r, 4), 8);
	atomic_store(&was_asked, false);
	atomic_store(&r->region.closing, true);
	helper_start(&h, r);
	assert_int_equal(resolve(r, 6), FLN_RESOLVED);
	helper_stop(&h);
	assert_false(was_asked); /* it may have been closed, and freed, before the worker looks */
	assert_mapped(r, 6, 0);
	assert_int_equal(COUNT(r, zero), 1);
	assert_int_equal(COUNT(r, major), 0);
	context_end(r);
}

static void start_late(struct rig *r)
{
	atomic_store(&r->shard.helper, &r->worker);
	while (!atomic_load(&r->worker.wanted_new))
		fln_context_nap(1000000);
	fln_serve_wanted(&r->worker); /* asks for the page */
	fln_serve_wanted(&r->worker); /* and looks whether it is late */
}

static void a_source_is_late_from_when_it_is_asked(void **state)
{
	struct rig_opts opts = { .window = 1, .timeout_ns = UINT64_C(1000000000) };
	struct helper h = { .delay_ms = 1200, .first = start_late };
	struct rig *r = context_rig(opts, false);

	(void)state;
	atomic_store(&r->shard.helper, NULL);
	helper_start(&h, r);
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	helper_stop(&h);
	assert_mapped(r, 3, rig_due(r, 3));
	assert_int_equal(COUNT(r, poisoned), 0);
	context_end(r);
}

/* SIGUSR1, and where it found this thread. */
static _Atomic bool inside;
static _Atomic uint32_t nr_signals, nr_inside;

static void on_usr1(int sig)
{
	(void)sig;
	atomic_fetch_add(&nr_signals, 1);
	if (atomic_load(&inside))
		atomic_fetch_add(&nr_inside, 1);
}

static void signal_oneself(void)
{
	atomic_store(&inside, true);
	(void)pthread_kill(pthread_self(), SIGUSR1);
	atomic_store(&inside, false);
}

static void signals_begin(void)
{
	struct sigaction sa = { .sa_flags = SA_RESTART };

	sa.sa_handler = on_usr1;
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	atomic_store(&nr_signals, 0);
	atomic_store(&nr_inside, 0);
}

static void map_and_signal(void *ctx, uint64_t addr)
{
	(void)ctx;
	(void)addr;
	signal_oneself();
}

/* Its handler could touch memory that must be filled, and wait with a read section open. */
static void no_handler_runs_within_a_round(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, true);

	(void)state;
	signals_begin();
	r->fake.on_map = map_and_signal;
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	assert_int_equal(nr_signals, 1);
	assert_int_equal(nr_inside, 0);
	context_end(r);
}

static void read_and_signal(struct rig *r, uint64_t image_page)
{
	(void)r;
	(void)image_page;
	signal_oneself();
}

/* Its handler could touch just the pages that this thread fills, and wait for itself. */
static void no_handler_runs_within_a_fill_of_ones_own(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);

	(void)state;
	signals_begin();
	r->in_read = read_and_signal;
	assert_int_equal(fln_image_fill(&r->image, 0, FLN_PAGE_BYTES), 0);
	assert_int_equal(nr_signals, 1);
	assert_int_equal(nr_inside, 0);
	r->in_read = NULL;
	context_end(r);
}

static void signal_when_read(void *ctx)
{
	(void)ctx;
	signal_oneself();
}

/* No contents are published before the closing thread has acted upon the events that it has read. */
static void no_handler_runs_while_events_are_read(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, true);

	(void)state;
	signals_begin();
	r->fake.on_read = signal_when_read;
	r->shard.worker = NULL;
	fake_discard(&r->fake, rig_addr(r, 0), 1, false);
	assert_int_equal(fln_region_close_rest(&r->region), 0);
	fake_run(&r->fake);
	assert_false(fake_event_pending(&r->fake));
	assert_int_equal(nr_signals, 1);
	assert_int_equal(nr_inside, 0);
	r->fake.on_read = NULL;
	context_end(r);
}

static _Atomic int rung;

static void be_rung(struct rig *r)
{
	struct pollfd p = { .fd = r->worker.event_fd, .events = POLLIN };

	atomic_store(&rung, poll(&p, 1, 2000));
}

/* The thread that has interrupted itself between the two steps of a kick. */
static void half_a_kick_wakes_the_worker(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .first = be_rung };

	(void)state;
	atomic_store(&r->worker.kicked, true);
	helper_start(&h, r);
	assert_int_equal(resolve(r, 3), FLN_RESOLVED);
	helper_stop(&h);
	assert_int_equal(rung, 1);
	context_end(r);
}

static _Atomic bool returned;

static void *cancelled_main(void *arg)
{
	struct rig *r = arg;

	assert_int_equal(fln_thread_enter(), 0);
	(void)pthread_cancel(pthread_self());
	(void)resolve(r, 2);
	atomic_store(&returned, true);
	fln_thread_leave();
	pthread_testcancel();
	return NULL;
}

/* Within a round it would leave a read section open, and a page claimed, for good. */
static void cancellation_waits(void **state)
{
	struct rig *r = context_rig((struct rig_opts){ .window = 1 }, false);
	struct helper h = { .delay_ms = 0 };
	void *result = NULL;
	pthread_t thread;

	(void)state;
	r->bad[2] = true;
	atomic_store(&returned, false);
	helper_start(&h, r);
	assert_int_equal(pthread_create(&thread, NULL, cancelled_main, r), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	helper_stop(&h);
	assert_true(returned);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_int_equal(COUNT(r, poisoned), 1);
	context_end(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_window_is_mapped_by_one_call),
		cmocka_unit_test(a_claim_is_never_waited_for),
		cmocka_unit_test(what_is_put_off_is_tried_again),
		cmocka_unit_test(contents_are_waited_for),
		cmocka_unit_test(a_hole_is_noted_by_the_worker),
		cmocka_unit_test(a_page_that_cannot_be_read_is_poisoned),
		cmocka_unit_test(poison_that_is_put_off),
		cmocka_unit_test(what_comes_before_the_poison_is_read),
		cmocka_unit_test(poison_that_was_lifted),
		cmocka_unit_test(what_was_moved_onto_a_page),
		cmocka_unit_test(a_thread_that_waits_in_what_is_unmapped),
		cmocka_unit_test(a_failed_page_that_has_gone),
		cmocka_unit_test(a_region_that_closes_asks_nobody),
		cmocka_unit_test(a_waiting_thread_goes_on_when_the_region_closes),
		cmocka_unit_test(a_hole_of_a_region_that_closes_is_zero),
		cmocka_unit_test(a_source_is_late_from_when_it_is_asked),
		cmocka_unit_test(no_handler_runs_within_a_round),
		cmocka_unit_test(no_handler_runs_within_a_fill_of_ones_own),
		cmocka_unit_test(no_handler_runs_while_events_are_read),
		cmocka_unit_test(half_a_kick_wakes_the_worker),
		cmocka_unit_test(cancellation_waits),
		cmocka_unit_test(a_range_that_is_not_registered_is_tried_once),
		cmocka_unit_test(a_range_that_is_closed_is_tried_once),
		cmocka_unit_test(slots_run_out),
		cmocka_unit_test(a_guest_that_is_not_started_is_waited_for),
		cmocka_unit_test(whole_blocks_are_collapsed_by_the_worker),
		cmocka_unit_test(without_a_chunk_one_page_is_mapped),
		cmocka_unit_test(addresses_and_threads_of_others),
		cmocka_unit_test(the_registry_keeps_order),
	};
	bool entered = fln_rcu_enter();
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	fln_rcu_leave(entered);
	return rc;
}
