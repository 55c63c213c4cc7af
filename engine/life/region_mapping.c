/* SPDX-License-Identifier: MIT */
/*
 * The mapping of a region: made, or taken over from the caller, and given back.
 *
 * A mapping of the caller's may have had a region before, whose end has left something else in
 * its place, or no access: that is undone when the next region is served, and done again if
 * it is not.
 *
 * Tested by integration.regions, integration.adopt, integration.life_add.
 */
#include "engine/life/region_mapping.h"

#include "base/error.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/page.h"
#include "base/plant.h"
#include "engine/mapping.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "engine/vacant.h"
#include "sources/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

static int map_error(const struct fln_region *r, int err)
{
	return fln_fail(err,
			"region: mapping %" PRIu64 " bytes of image %s: %s; raise "
			"vm.max_map_count if mappings ran out%s%s",
			r->len_bytes, r->image->name, strerror(err),
			r->is_private ? ", or allow overcommit (vm.overcommit_memory)" : "",
			fln_map_remedy(err));
}

/*
 * Make a mapping, aligned to a block so that its start cuts no window.  It is PROT_NONE until it
 * is registered: a page touched before would read zeros for good.
 */
int fln_region_map(struct fln_region *r)
{
	uint64_t room = r->len_bytes + FLN_BLOCK_BYTES;
	uint64_t at, want;
	int flags = r->is_private ? MAP_PRIVATE : MAP_SHARED;
	void *p;
	int err;

	if (r->image->read_only && !r->is_private)
		return fln_fail(EPERM,
				"region: the memfd of image %s is sealed against writing; use "
				"FLN_SHARING_PRIVATE",
				r->image->name);
	p = fln_map_closed(NULL, room, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	err = errno;
	if (p == MAP_FAILED)
		return fln_fail(err == EAGAIN ? EAGAIN : ENOMEM,
				"region: no address space for %" PRIu64 " bytes: %s%s",
				r->len_bytes, strerror(err), fln_map_remedy(err));
	at = (uint64_t)(uintptr_t)p;
	want = fln_align_up(at, FLN_BLOCK_BYTES);
	p = fln_map_closed((void *)(uintptr_t)want, r->len_bytes, flags | MAP_FIXED | MAP_NORESERVE,
			   r->image->memfd, (off_t)fln_pages_to_bytes(r->image_page));
	if (p == MAP_FAILED) {
		err = errno;
		(void)munmap((void *)(uintptr_t)at, room);
		return map_error(r, err);
	}
	if (want > at)
		(void)munmap((void *)(uintptr_t)at, want - at);
	if (at + room > want + r->len_bytes)
		(void)munmap((void *)(uintptr_t)(want + r->len_bytes),
			     at + room - (want + r->len_bytes));
	r->addr = want;
	r->mapped_by_us = true;
	return 0;
}

int fln_region_register_error(const struct fln_region *r, int err, uint64_t addr, uint64_t nr)
{
	switch (err) {
	case EBUSY:
		return fln_fail(EBUSY,
				"region: 0x%" PRIx64 " belongs to another userfaultfd; "
				"unregister it there first",
				addr);
	case ENOMEM:
		return fln_fail(ENOMEM,
				"region: no mapping left for stripe %" PRIu64 " of %" PRIu64
				"; raise vm.max_map_count or lower max_stripes",
				nr, r->plan.nr_stripes);
	default:
		return fln_fail(err, "region: registering 0x%" PRIx64 ": %s%s", addr, strerror(err),
				err == EINVAL
					? "; this mapping is not one that userfaultfd can serve"
					: "");
	}
}

static int unmap_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	(void)r;
	(void)moved;
	return munmap((void *)(uintptr_t)addr, len_bytes) == 0 ? 0 : -errno;
}

/* fln_mapping_each_denied() callback: restore what an earlier region's end had left there. */
static int leave_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	(void)moved;
	return fln_vacant_map(&r->guest->engine->vacant, addr, len_bytes,
			      fln_pages_to_bytes(r->image_page) + (addr - r->addr), r->is_private);
}

/* fln_mapping_each_left() callback: map the image again, PROT_NONE until it is registered. */
static int restore_piece(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	int flags = (r->is_private ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED | MAP_NORESERVE;
	off_t offset = (off_t)(fln_pages_to_bytes(r->image_page) + (addr - r->addr));
	void *p =
		fln_map_closed((void *)(uintptr_t)addr, len_bytes, flags, r->image->memfd, offset);

	(void)moved;
	if (p == MAP_FAILED)
		return map_error(r, errno);
	r->restored = true;
	return madvise(p, len_bytes, MADV_DONTFORK) == 0 ? 0 : -errno;
}

static int allow_children(struct fln_region *r, uint64_t addr, uint64_t len_bytes, uint64_t moved)
{
	(void)r;
	(void)moved;
	return madvise((void *)(uintptr_t)addr, len_bytes, MADV_DOFORK) == 0 ? 0 : -errno;
}

/*
 * Requires: nothing is registered any more.  Unmaps the engine's own mapping, except where the
 * embedder has mapped something else since.  The caller's mapping stays; if it has inaccessible
 * pages it also stays MADV_DONTFORK, because the kernel does not copy poison to children.  A range
 * that was refused is left alone: it may be another region's.
 */
void fln_region_unmap(struct fln_region *r)
{
	if (r->foreign || r->unsafe)
		return;
	if (r->mapped_by_us) {
		fln_mapping_each_of_ours(r, unmap_piece);
		if (fln_planted(FLN_BUG_UNMAPS_TWICE))
			fln_mapping_each_of_ours(r, unmap_piece);
	} else if (r->kept_from_children && !r->sealed) {
		(void)fln_mapping_each(r, r->addr, r->addr + r->len_bytes, 0, allow_children);
	}
}

/*
 * Check that no other userfaultfd has registered the range: emptying it would look like a discard
 * to that one's owner.  Uses engine->asking, which no thread reads, because the process may have
 * dropped the privilege to open another.  One check at a time, and unregister only after a
 * successful register: kernels unregister a range from whichever userfaultfd has it.
 */
static int check_unowned(const struct fln_region *r)
{
	struct fln_engine *engine = r->guest->engine;
	int rc;

	fln_lock(&engine->asking_lock);
	rc = fln_uffd_register(&engine->asking, r->addr, r->len_bytes,
			       UFFDIO_REGISTER_MODE_MISSING);
	if (rc == 0)
		(void)fln_uffd_unregister(&engine->asking, r->addr, r->len_bytes);
	fln_uffd_wake(&engine->asking, r->addr, r->len_bytes);
	fln_unlock(&engine->asking_lock);
	return rc ? fln_region_register_error(r, -rc, r->addr, 0) : 0;
}

/*
 * Empty the page tables of the caller's mapping: pages touched before, perhaps as zeros, would
 * never fault.  The page cache is left alone: zeros there do no harm, because the image's state
 * decides what is served.  Writes to a private mapping are lost.
 */
int fln_region_take_over(struct fln_region *r)
{
	int rc = fln_mapping_check(r);

	if (rc == 0)
		rc = check_unowned(r);
	if (rc == 0 && madvise((void *)(uintptr_t)r->addr, r->len_bytes, MADV_DONTNEED) != 0)
		rc = fln_fail(EINVAL,
			      "region: the mapping at 0x%" PRIx64 " cannot be emptied: %s; "
			      "it must not be locked with mlock()%s",
			      r->addr, strerror(errno),
			      r->page_bytes > FLN_PAGE_BYTES
				      ? ", and huge pages can be since 5.18; else give addr 0"
				      : "");
	return rc;
}

int fln_region_keep_from_children(struct fln_region *r)
{
	/* If the embedder has already kept the range from children, it stays so at the end. */
	bool before = !r->mapped_by_us && fln_mapping_is_kept_from_children(r);

	/* A forked child's touch is not served, and would put zeros into the image. */
	if (madvise((void *)(uintptr_t)r->addr, r->len_bytes, MADV_DONTFORK) == 0) {
		r->kept_from_children = !before;
		return 0;
	}
	return fln_fail(errno,
			"region: 0x%" PRIx64 " cannot be kept from forked children "
			"(MADV_DONTFORK): %s",
			r->addr, strerror(errno));
}

int fln_region_restore(struct fln_region *r)
{
	return fln_mapping_each_left(r, restore_piece);
}

void fln_region_undo_restore(struct fln_region *r)
{
	if (r->restored)
		(void)fln_mapping_each_denied(r, leave_piece);
}

int fln_region_allow(struct fln_region *r)
{
	int rc;

	if (r->mapped_by_us) {
		rc = fln_map_open((void *)(uintptr_t)r->addr, r->len_bytes, true);
		return rc ? map_error(r, -rc) : 0;
	}
	if (fln_mapping_allow(r) == 0)
		return 0;
	return fln_fail(ENOMEM,
			"region: the access that an earlier region took away at 0x%" PRIx64
			" cannot be given back; raise vm.max_map_count, or map anew",
			r->addr);
}
