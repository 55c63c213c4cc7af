/* SPDX-License-Identifier: MIT */
/*
 * Checks of struct fln_region_opts: ranges of values, and combinations that cannot be served.
 */
#include "engine/life/region_opts.h"

#include "base/error.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "sources/image.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>

#define REGION_MAX_BYTES (UINT64_C(1) << 44) /* 16 TiB */

/* Options that a private region cannot have. */
static int check_private(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	if (o->sharing != FLN_SHARING_PRIVATE)
		return 0;
	if (guest->foreign)
		return fln_fail(EINVAL,
				"region: sharing is FLN_SHARING_PRIVATE in a foreign guest, which "
				"has copies of its own in any case; use FLN_SHARING_SHARED");
	if (o->discard == FLN_DISCARD_IMAGE)
		return 0;
	/* The faulting thread could install between the worker's read of REMOVE and its update. */
	if (o->delivery == FLN_DELIVERY_IN_CONTEXT)
		return fln_fail(
			EOPNOTSUPP,
			"region: a private region whose discards read zero cannot be served "
			"in context; set discard to FLN_DISCARD_IMAGE, or delivery to "
			"FLN_DELIVERY_QUEUED");
	return 0;
}

/* Only the owner of an attached image can make its unfilled pages zero. */
static bool owner_discards(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	return o->image->link && !guest->foreign && o->sharing == FLN_SHARING_SHARED;
}

static int check_discard(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	if (o->discard >= FLN_DISCARD_NR)
		return fln_fail(EINVAL, "region: discard is %u; use one of enum fln_discard",
				o->discard);
	if (o->discard == FLN_DISCARD_ZERO && owner_discards(guest, o))
		return fln_fail(
			EOPNOTSUPP,
			"region: discard is FLN_DISCARD_ZERO, but image %s is attached, and "
			"only its owner can discard unfilled pages; use FLN_DISCARD_IMAGE",
			o->image->name);
	return 0;
}

/* Guests, kernels and sharing that huge pages do not support. */
static int check_huge(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	uint64_t need = UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;

	if (!fln_image_is_huge(o->image))
		return 0;
	if ((atomic_load(&guest->engine->features) & need) != need)
		return fln_fail(
			EOPNOTSUPP,
			"region: this kernel's userfaultfd lacks minor faults on huge pages "
			"(features 0x%" PRIx64 "); use 5.13 or newer, or pages of 4 KiB",
			guest->engine->features);
	if (guest->foreign)
		return fln_fail(EOPNOTSUPP,
				"region: image %s has huge pages, which a foreign guest does not "
				"support; make the image with page_bytes 4096",
				o->image->name);
	if (o->sharing == FLN_SHARING_PRIVATE)
		return fln_fail(
			EOPNOTSUPP,
			"region: image %s has huge pages, which a private region does not "
			"support; make the image with page_bytes 4096, or the region shared",
			o->image->name);
	return 0;
}

/* Length, address and offset, of pages of @page bytes. */
static int check_range(const struct fln_region_opts *o, uint64_t page)
{
	if (o->len_bytes == 0)
		return fln_fail(EINVAL, "region: len_bytes is 0; use at least a page");
	if (!fln_is_aligned(o->len_bytes, page))
		return fln_fail(EINVAL,
				"region: len_bytes is %" PRIu64 "; use a multiple of %" PRIu64,
				o->len_bytes, page);
	if (!fln_is_aligned(o->addr, page))
		return fln_fail(EINVAL, "region: addr is 0x%" PRIx64 "; use a multiple of %" PRIu64,
				o->addr, page);
	if (!fln_is_aligned(o->image_offset_bytes, page))
		return fln_fail(EINVAL,
				"region: image_offset_bytes is %" PRIu64
				"; use a multiple of %" PRIu64,
				o->image_offset_bytes, page);
	if (o->len_bytes > REGION_MAX_BYTES)
		return fln_fail(EINVAL,
				"region: len_bytes is %" PRIu64 "; a region has at most %" PRIu64
				" (16 TiB), add several",
				o->len_bytes, REGION_MAX_BYTES);
	if (o->addr + o->len_bytes < o->addr)
		return fln_fail(EINVAL,
				"region: 0x%" PRIx64 " + %" PRIu64 " bytes wraps around the "
				"address space",
				o->addr, o->len_bytes);
	if (o->image_offset_bytes > o->image->len_bytes ||
	    o->len_bytes > o->image->len_bytes - o->image_offset_bytes)
		return fln_fail(EINVAL,
				"region: %" PRIu64 " bytes at offset %" PRIu64
				" reach beyond image "
				"%s, which has %" PRIu64 "; use a shorter len_bytes",
				o->len_bytes, o->image_offset_bytes, o->image->name,
				o->image->len_bytes);
	return 0;
}

int fln_region_check_opts(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	uint64_t page;
	int rc;

	if (!o->image)
		return fln_fail(EINVAL, "region: image is NULL; make one with fln_image_create()");
	/* Its fills would wake the other engine's workers, and not wait for discards read here. */
	if (o->image->engine != guest->engine)
		return fln_fail(EINVAL,
				"region: image %s was made with another engine; make it with the "
				"guest's, or use fln_image_share() and fln_image_attach()",
				o->image->name);
	page = o->image->page_bytes;
	if (o->page_bytes && o->page_bytes != page)
		return fln_fail(EINVAL,
				"region: page_bytes is %u, but image %s has pages of %" PRIu64
				" bytes; use that or 0",
				o->page_bytes, o->image->name, page);
	rc = check_range(o, page);
	if (rc)
		return rc;
	if (o->sharing >= FLN_SHARING_NR)
		return fln_fail(EINVAL, "region: sharing is %u; use one of enum fln_sharing",
				o->sharing);
	if (o->delivery >= FLN_DELIVERY_NR)
		return fln_fail(EINVAL, "region: delivery is %u; use one of enum fln_delivery",
				o->delivery);
	if (o->release >= FLN_RELEASE_NR)
		return fln_fail(EINVAL, "region: release is %u; use one of enum fln_release",
				o->release);
	if (o->reserved)
		return fln_fail(EINVAL, "region: reserved is %u; set it to 0", o->reserved);
	if (o->delivery == FLN_DELIVERY_IN_CONTEXT && guest->foreign)
		return fln_fail(EINVAL, "region: delivery is FLN_DELIVERY_IN_CONTEXT in a foreign "
					"guest, whose threads run in another process; use "
					"FLN_DELIVERY_QUEUED");
	if (guest->foreign && o->addr == 0)
		return fln_fail(EINVAL, "region: addr is 0 in a foreign guest; give the address in "
					"the process that handed its userfaultfd over");
	rc = check_private(guest, o);
	if (rc == 0)
		rc = check_huge(guest, o);
	return rc ? rc : check_discard(guest, o);
}

enum fln_discard fln_region_discard(const struct fln_guest *guest, const struct fln_region_opts *o)
{
	return owner_discards(guest, o) ? FLN_DISCARD_IMAGE : (enum fln_discard)o->discard;
}
