/* SPDX-License-Identifier: MIT */
/*
 * Regions: adding a range of memory to a guest, and taking it away.
 *
 * A region is made in steps, each undone in reverse order when a later one
 * fails, so that nothing stays half registered: check, map, plan stripes,
 * reserve the map, register every stripe with its shard, publish.
 */
#include "base/error.h"
#include "engine/engine.h"
#include "engine/region_map.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#define REGION_MAX_BYTES (UINT64_C(1) << 44)	/* 16 TiB */
#define CHUNKS_DEFAULT_MAX 65536u

static int check_opts(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	uint64_t page = o->page_bytes ? o->page_bytes : FLN_PAGE_BYTES;

	if (!o->image)
		return fln_fail(EINVAL, "region: image is NULL; make one with fln_image_create()");
	if (page != FLN_PAGE_BYTES)
		return fln_fail(EINVAL, "region: page_bytes is %u; this version knows %" PRIu64
					" only", o->page_bytes, FLN_PAGE_BYTES);
	if (o->len_bytes == 0)
		return fln_fail(EINVAL, "region: len_bytes is 0; a region has a page at least");
	if (!fln_is_aligned(o->len_bytes, page))
		return fln_fail(EINVAL, "region: len_bytes is %" PRIu64 ", no multiple of %" PRIu64,
				o->len_bytes, page);
	if (!fln_is_aligned(o->addr, page))
		return fln_fail(EINVAL, "region: addr is 0x%" PRIx64 ", no multiple of %" PRIu64,
				o->addr, page);
	if (!fln_is_aligned(o->image_offset_bytes, page))
		return fln_fail(EINVAL, "region: image_offset_bytes is %" PRIu64
					", no multiple of %" PRIu64, o->image_offset_bytes, page);
	if (o->len_bytes > REGION_MAX_BYTES)
		return fln_fail(EINVAL, "region: len_bytes is %" PRIu64 ", more than the %" PRIu64
					" (16 TiB) that a region can have; add several",
				o->len_bytes, REGION_MAX_BYTES);
	if (o->addr + o->len_bytes < o->addr)
		return fln_fail(EINVAL, "region: 0x%" PRIx64 " + %" PRIu64 " bytes wraps around the "
					"address space", o->addr, o->len_bytes);
	if (o->image_offset_bytes > o->image->len_bytes ||
	    o->len_bytes > o->image->len_bytes - o->image_offset_bytes)
		return fln_fail(EINVAL, "region: %" PRIu64 " bytes at offset %" PRIu64 " end beyond "
					"image %s, which has %" PRIu64, o->len_bytes,
				o->image_offset_bytes, o->image->name, o->image->len_bytes);
	if (o->discard >= FLN_DISCARD_NR)
		return fln_fail(EINVAL, "region: discard is %u; use one of enum fln_discard",
				o->discard);
	if (o->reserved)
		return fln_fail(EINVAL, "region: reserved is %u; set it to 0", o->reserved);
	if (guest->foreign && o->addr == 0)
		return fln_fail(EINVAL, "region: addr is 0 in a foreign guest; give the address in "
					"the process that handed its userfaultfd over");
	return 0;
}

/* The caller's mapping must be a shared one of this image at this offset, all of it. */
static int check_mapping(const struct fln_region *r)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uint64_t at = r->addr, end = r->addr + r->len_bytes;
	char line[512];

	if (!maps)
		return 0;	/* no /proc: the kernel's own checks must do */
	while (at < end && fgets(line, sizeof(line), maps)) {
		uint64_t lo, hi, offset, inode;
		unsigned int major, minor;
		char perms[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &lo, &hi,
			   perms, &offset, &major, &minor, &inode) != 7 || hi <= at)
			continue;
		if (lo > at)
			break;
		if (perms[3] != 's' || inode != r->image->inode ||
		    makedev(major, minor) != r->image->device ||
		    offset + (at - lo) != fln_pages_to_bytes(r->image_page) + (at - r->addr)) {
			(void)fclose(maps);
			return fln_fail(EINVAL, "region: the mapping at 0x%" PRIx64 " is not a shared "
						"mapping of image %s at its offset %" PRIu64 "; map "
						"fln_image_memfd() with MAP_SHARED", at,
					r->image->name,
					fln_pages_to_bytes(r->image_page) + (at - r->addr));
		}
		at = hi;
	}
	(void)fclose(maps);
	if (at < end)
		return fln_fail(EINVAL, "region: nothing is mapped at 0x%" PRIx64 "; map "
					"fln_image_memfd() with MAP_SHARED there, or give addr 0", at);
	return 0;
}

/* A mapping of ours, aligned to blocks, so that no window is cut by its beginning. */
static int map_region(struct fln_region *r)
{
	uint64_t room = r->len_bytes + FLN_BLOCK_BYTES;
	uint64_t at, want;
	void *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return fln_fail(ENOMEM, "region: no address space for %" PRIu64 " bytes: %s",
				r->len_bytes, strerror(errno));
	at = (uint64_t)(uintptr_t)p;
	want = fln_align_up(at, FLN_BLOCK_BYTES);
	p = mmap((void *)(uintptr_t)want, r->len_bytes, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, r->image->memfd,
		 (off_t)fln_pages_to_bytes(r->image_page));
	if (p == MAP_FAILED) {
		int rc = fln_fail(errno, "region: mapping %" PRIu64 " bytes of image %s: %s; raise "
					 "vm.max_map_count if mappings ran out", r->len_bytes,
				  r->image->name, strerror(errno));

		(void)munmap((void *)(uintptr_t)at, room);
		return rc;
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

static void unmap_region(struct fln_region *r)
{
	if (r->mapped_by_us)
		(void)munmap((void *)(uintptr_t)r->addr, r->len_bytes);
	r->mapped_by_us = false;
}

static int register_error(const struct fln_region *r, int err, uint64_t addr, uint64_t nr)
{
	switch (err) {
	case EBUSY:
		return fln_fail(EBUSY, "region: 0x%" PRIx64 " belongs to another userfaultfd; "
				       "unregister it there first", addr);
	case ENOMEM:
		return fln_fail(ENOMEM, "region: no mapping left for stripe %" PRIu64 " of %" PRIu64
					"; raise vm.max_map_count or lower max_stripes", nr,
				r->plan.nr_stripes);
	default:
		return fln_fail(err, "region: registering 0x%" PRIx64 ": %s%s", addr, strerror(err),
				err == EINVAL ? "; this mapping is not one that userfaultfd can serve"
					      : "");
	}
}

/*
 * UNREGISTER wakes who waits, but before it takes the mapping's lock: a fault
 * that comes in between sleeps on a userfaultfd that has forgotten it.
 */
static void unregister_stripes(struct fln_region *r, uint64_t nr)
{
	struct fln_guest *guest = r->guest;
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0; i < nr && fln_stripe_get(&r->plan, i, &addr, &len, &shard); i++)
		(void)fln_uffd_unregister(&guest->shards[shard].uffd, addr, len);
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		fln_uffd_wake(&guest->shards[i].uffd, r->addr, r->len_bytes);
}

/* Register every stripe with its shard; none stays registered when one fails. */
static int register_stripes(struct fln_region *r)
{
	uint64_t need = (UINT64_C(1) << _UFFDIO_CONTINUE) | (UINT64_C(1) << _UFFDIO_WAKE);
	uint64_t addr, len;
	uint32_t shard;

	for (uint64_t i = 0; fln_stripe_get(&r->plan, i, &addr, &len, &shard); i++) {
		struct fln_uffd *u = &r->guest->shards[shard].uffd;
		int rc = fln_uffd_register(u, addr, len, UFFDIO_REGISTER_MODE_MISSING |
							      UFFDIO_REGISTER_MODE_MINOR);

		if (rc == 0 && (u->range_ioctls & need) == need)
			continue;
		if (rc == 0) {
			(void)fln_uffd_unregister(u, addr, len);
			rc = fln_fail(EOPNOTSUPP, "region: this kernel offers no CONTINUE for the "
						  "mapping at 0x%" PRIx64 "; use 5.14 or newer",
				      addr);
		} else {
			rc = register_error(r, -rc, addr, i);
		}
		unregister_stripes(r, i);
		return rc;
	}
	return 0;
}

static int check_overlap(const struct fln_guest *guest, const struct fln_region *r)
{
	for (const struct fln_region *o = guest->regions; o; o = o->next) {
		if (r->addr < o->addr + o->len_bytes && o->addr < r->addr + r->len_bytes)
			return fln_fail(EEXIST, "region: [0x%" PRIx64 ", +%" PRIu64 ") overlaps the "
						"region at [0x%" PRIx64 ", +%" PRIu64 ")", r->addr,
					r->len_bytes, o->addr, o->len_bytes);
	}
	return 0;
}

/* Stripes for the region out of the budget of all guests. */
static int plan_stripes(struct fln_region *r)
{
	struct fln_guest *guest = r->guest;
	uint64_t left = fln_engine_stripes_left(guest->engine);
	/* Half of what is left, so that a next region finds something too. */
	uint64_t share = guest->nr_shards == 1 ? 1 : left / 2;
	int rc;

	if (share == 0)
		share = 1;
	if (guest->foreign)
		return fln_stripe_plan_init(&r->plan, r->addr, r->len_bytes, 1, 0, 1);
	rc = fln_stripe_plan_init(&r->plan, r->addr, r->len_bytes, guest->nr_shards, 0, share);
	return rc ? rc : fln_engine_take_stripes(guest->engine, r->plan.nr_stripes);
}

static int init_map(struct fln_region *r, uint32_t max_chunks)
{
	uint32_t lead = (uint32_t)fln_bytes_to_pages(r->addr % FLN_BLOCK_BYTES);
	uint64_t nr_pages = fln_bytes_to_pages(r->len_bytes);
	uint64_t nr_blocks = (lead + nr_pages + FLN_BLOCK_PAGES - 1) / FLN_BLOCK_PAGES;
	uint64_t nr_chunks = max_chunks;

	if (!nr_chunks)
		nr_chunks = nr_blocks < CHUNKS_DEFAULT_MAX ? nr_blocks : CHUNKS_DEFAULT_MAX;
	if (r->foreign)
		nr_chunks = nr_blocks;	/* discards must find room */
	/* And some on their way back. */
	nr_chunks += nr_chunks / 8 + 8;
	r->base_addr = fln_align_down(r->addr, FLN_BLOCK_BYTES);
	return fln_blockmap_init(&r->map, lead, nr_pages,
				 nr_chunks < UINT32_MAX ? (uint32_t)nr_chunks : UINT32_MAX - 1, 0);
}

/* Everything about a region that can fail, and its undoing. */
static int build_region(struct fln_guest *guest, struct fln_region *r, uint32_t max_chunks)
	FLN_REQUIRES(guest->lock)
{
	int rc;

	if (r->addr == 0)
		rc = map_region(r);
	else
		rc = r->foreign ? 0 : check_mapping(r);
	if (rc)
		return rc;
	rc = check_overlap(guest, r);
	if (rc)
		goto unmap;
	rc = plan_stripes(r);
	if (rc)
		goto unmap;
	rc = init_map(r, max_chunks);
	if (rc)
		goto give_back;
	if (!r->foreign) {
		rc = register_stripes(r);
		if (rc)
			goto deinit_map;
		/* What a child touched unserved would put zeros into the image. */
		if (!guest->follow_fork)
			(void)madvise((void *)(uintptr_t)r->addr, r->len_bytes, MADV_DONTFORK);
	}
	r->next = guest->regions;
	guest->regions = r;
	rc = fln_directory_publish(guest, NULL);
	if (rc == 0)
		return 0;
	guest->regions = r->next;
	if (!r->foreign)
		unregister_stripes(r, UINT64_MAX);
deinit_map:
	fln_blockmap_deinit(&r->map);
give_back:
	if (!r->foreign)
		fln_engine_give_back_stripes(guest->engine, r->plan.nr_stripes);
unmap:
	unmap_region(r);
	return rc;
}

int fln_region_add(struct fln_guest *guest, const struct fln_region_opts *opts,
		   struct fln_region **out)
{
	struct fln_region_opts o;
	struct fln_region *r;
	int rc;

	if (!guest || !opts || !out)
		return fln_fail(EINVAL, "fln_region_add: an argument is NULL");
	rc = fln_opts_copy(&o, sizeof(o), opts, "fln_region_opts");
	if (rc == 0)
		rc = check_opts(guest, &o);
	if (rc)
		return rc;
	r = fln_zalloc(&guest->engine->alloc, sizeof(*r), FLN_NODE_ANY);
	if (!r)
		return fln_fail(ENOMEM, "no memory for a region");
	r->guest = guest;
	r->image = o.image;
	r->addr = o.addr;
	r->len_bytes = o.len_bytes;
	r->image_page = fln_bytes_to_pages(o.image_offset_bytes);
	r->page_bytes = (uint32_t)FLN_PAGE_BYTES;
	r->discard = (enum fln_discard)o.discard;
	r->foreign = guest->foreign;
	fln_lock(&guest->lock);
	if (guest->stopped)
		rc = fln_fail(EINVAL, "guest %s was stopped; make a new one", guest->name);
	else
		rc = build_region(guest, r, o.max_chunks);
	fln_unlock(&guest->lock);
	if (rc) {
		fln_free(&guest->engine->alloc, r, sizeof(*r), FLN_NODE_ANY);
		return rc;
	}
	atomic_fetch_add(&r->image->nr_users, 1);
	*out = r;
	return 0;
}

void *fln_region_addr(const struct fln_region *region)
{
	return (void *)(uintptr_t)region->addr;
}

/* The region is closed and not in the directory, and no worker is inside it. */
void fln_region_release(struct fln_region *region)
{
	struct fln_guest *guest = region->guest;

	unmap_region(region);
	if (!region->foreign)
		fln_engine_give_back_stripes(guest->engine, region->plan.nr_stripes);
	fln_blockmap_deinit(&region->map);
	atomic_fetch_sub(&region->image->nr_users, 1);
	fln_free(&guest->engine->alloc, region, sizeof(*region), FLN_NODE_ANY);
}

int fln_region_remove(struct fln_region *region)
{
	struct fln_region **at;
	struct fln_guest *guest;
	int rc;

	if (!region)
		return 0;
	guest = region->guest;
	fln_region_close(region);
	/* While they still know the region, workers end the faults that they hold in it. */
	fln_guest_pass_workers(guest);
	if (!region->foreign)
		unregister_stripes(region, UINT64_MAX);
	fln_lock(&guest->lock);
	rc = fln_directory_publish(guest, region);
	if (rc == 0) {
		for (at = &guest->regions; *at != region; at = &(*at)->next)
			;
		*at = region->next;
	}
	fln_unlock(&guest->lock);
	if (rc)
		return rc;
	fln_guest_pass_workers(guest);
	fln_region_release(region);
	return 0;
}
