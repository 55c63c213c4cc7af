/* SPDX-License-Identifier: MIT */
/*
 * A guest built by hand on the fake kernel: one worker, one shard, one region, one image.  All of
 * it runs on the test's thread; only RCU callbacks have a thread of their own.
 *
 * epoll cannot watch a fake, so the test calls what the worker's thread would: rig_serve() reads
 * the shard, rig_held() looks at the held faults, rig_fill() does the work of a filler, fake_run()
 * lets the guest's threads go on.
 */
#ifndef FLN_TESTS_RIG_H
#define FLN_TESTS_RIG_H

#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "sources/filler.h"
#include "sources/image.h"
#include "tests/support/fake_uffd.h"

#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_allocator;
struct fln_source;

#define RIG_ADDR UINT64_C(0x700000000000)
#define RIG_MAX_PAGES 4096u

struct rig_opts {
	uint32_t nr_pages;    /* of the region; 0: 1024 */
	uint32_t lead_pages;  /* from a block's beginning to the region's */
	uint32_t image_page;  /* where in the image the region begins */
	uint32_t spare_pages; /* of the address range behind the region, not mapped */
	uint32_t batch_max;   /* 0: 64 */
	uint32_t held_max;    /* 0: 1024 */
	uint32_t window;      /* a fixed one; 0: 16 */
	uint32_t window_max;  /* 0: as window */
	uint32_t fill_pages;  /* 0: 1 */
	uint32_t nr_fills;    /* 0: 64 */
	uint32_t nr_chunks;   /* 0: 16 */
	uint32_t nr_retries;
	uint64_t timeout_ns; /* of sources; 0: none */
	enum fln_discard discard;
	enum fln_release release; /* 0: never */
	enum fln_on_failure on_failure;
	uint32_t max_failures;
	fln_ask_fn ask; /* its ctx is the rig */
	bool pushed;    /* the image has no source */
	bool foreign;
	bool is_private;
	bool large;                        /* the image may have large folios */
	const struct fln_allocator *alloc; /* NULL: the C library's */
	bool may_unpoison;                 /* poison that is about to go may be mapped over */
};

struct rig {
	struct rig_opts opts;
	struct fln_engine engine; /* set up in part, and never started */
	struct fln_filler filler; /* without threads */
	struct fln_source *source;
	struct fln_image image;
	struct fln_guest guest;
	struct fln_region region;
	struct fln_shard shard;
	struct fln_worker worker;
	struct fake_uffd fake;
	void *buffer; /* a filler thread's */
	bool rcu_entered;

	bool bad[RIG_MAX_PAGES];  /* pages of the image that cannot be read */
	bool hole[RIG_MAX_PAGES]; /* pages that the source calls holes */
	uint32_t nr_reads[RIG_MAX_PAGES];
	uint32_t nr_source_reads;
	void (*in_read)(struct rig *r, uint64_t image_page); /* called by the source */
	void *user;                                          /* the test's */
	uint64_t read_max_bytes; /* that the source delivers at a time, multiple of 8; 0: all */
	uint32_t nr_kicks;
	uint64_t kicked;
	uint64_t watched; /* a page of the image, and its state at the last kick */
	enum fln_image_page state_at_kick;
	uint32_t nr_log_lines;
	char last_line[512];
};

struct rig *rig_create(const struct rig_opts *opts);
/* Checks the accounts a last time. */
void rig_destroy(struct rig *r);

/* The address of a page of the region, counted from its beginning. */
uint64_t rig_addr(const struct rig *r, uint64_t page);
uint64_t rig_image_page(const struct rig *r, uint64_t page);
/* What the image's contents consist of; never 0. */
uint64_t rig_word(uint64_t image_page);
/* The same for a page of the region. */
uint64_t rig_due(const struct rig *r, uint64_t page);

/* Give pages of the region their contents by fln_image_put(). */
void rig_put(struct rig *r, uint64_t page, uint64_t nr_pages);

/* A thread touches a page of the region. */
uint32_t rig_touch(struct rig *r, uint64_t page);
const struct fake_thread *rig_thread(const struct rig *r, uint32_t thread);

/* Read the shard and serve its faults; then let threads run. */
void rig_serve(struct rig *r);
/* Look at the held faults; then let threads run. */
void rig_held(struct rig *r);
/* Lift the poison of pages that were given up. */
void rig_lift(struct rig *r);
/* A sweep of the worker's for blocks to release; then let threads run. */
void rig_release(struct rig *r);
/* The same, and no thread runs. */
void rig_release_only(struct rig *r);
/* Let @ns pass for all that is held: deadlines and pauses come nearer. */
void rig_pass_time(struct rig *r, uint64_t ns);
/* Do up to @nr queued fills.  Returns how many there were to do. */
uint32_t rig_fill(struct rig *r, uint32_t nr);
uint32_t rig_nr_queued_fills(struct rig *r);
/* Serve, fill and pass time until nothing is left to do; fails the test if that takes too long. */
void rig_settle(struct rig *r);

/* I4: nothing is lost and nothing counted twice. */
void rig_check_accounts(const struct rig *r);
/* The thread has read what the page should hold. */
void rig_assert_read(const struct rig *r, uint32_t thread, uint64_t value);
void rig_assert_killed(const struct rig *r, uint32_t thread);
uint64_t rig_count(const _Atomic uint64_t *counter);
/* What the map holds of a page of the region. */
bool rig_map_says(struct rig *r, uint32_t plane, uint64_t page);

#endif
