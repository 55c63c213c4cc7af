/* SPDX-License-Identifier: MIT */
/* What the tests of releases share: a rig that releases by itself, and what must hold then. */
#ifndef FLN_TESTS_RELEASE_RIG_H
#define FLN_TESTS_RELEASE_RIG_H

#include "base/blockmap.h"
#include "engine/event_queue.h"
#include "engine/region_map.h"
#include "engine/released.h"
#include "engine/state/guest.h"
#include "sources/image_state.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <faultlane/event.h>
#include <stdbool.h>

#define COUNT(r, what) rig_count(&(r)->shard.count.what)

/* What is released has its contents, and no poison. */
static inline void release_on_plain(void *ctx, uint64_t addr)
{
	struct rig *r = ctx;
	uint64_t page = fln_bytes_to_pages(addr - r->region.addr);
	enum fln_image_page state = fln_image_state(&r->image, rig_image_page(r, page));

	assert_int_not_equal(fake_page(&r->fake, addr)->pte, FAKE_POISONED);
	if (!r->opts.foreign)
		assert_true(state == FLN_IMAGE_FILLED || state == FLN_IMAGE_ZERO);
}

static inline struct rig *release_rig(struct rig_opts opts)
{
	struct rig *r;

	opts.release = opts.release ? opts.release : FLN_RELEASE_AUTO;
	r = rig_create(&opts);
	r->fake.on_plain = release_on_plain;
	return r;
}

static inline bool is_released(struct rig *r, uint64_t page)
{
	return fln_released_at(&r->region, rig_addr(r, page));
}

/* A thread reads what is due, and nobody of ours is asked. */
static inline void assert_plain(struct rig *r, uint64_t page, uint64_t value)
{
	uint64_t faults = COUNT(r, faults);
	uint32_t t = rig_touch(r, page);

	rig_assert_read(r, t, value);
	rig_serve(r);
	assert_int_equal(COUNT(r, faults), faults);
	fake_reap(&r->fake, t);
}

static inline uint32_t nr_events(struct rig *r, uint32_t kind)
{
	struct fln_event e;
	uint32_t nr = 0;

	while (fln_event_take(&r->engine.events, &e))
		nr += e.kind == kind;
	return nr;
}

#endif
