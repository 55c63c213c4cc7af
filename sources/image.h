/* SPDX-License-Identifier: MIT */
/*
 * An image, seen from inside: the states of its pages, and how they move.
 *
 *   UNFILLED → FILLING → FILLED | ZERO | FAILED, FILLING → UNFILLED; FILLED → ZERO;
 *   FAILED → FILLING | UNFILLED
 *
 * The image's state alone permits an install: a page that is FILLED or ZERO.
 * That a page is in the page cache proves nothing: others can put zeros there.
 * A page that is FILLED and not in the page cache was punched away by somebody:
 * it is zero by the guest's will, and never read from the source again.
 *
 * States are kept for every 4 KiB, whatever the image's pages are.  A huge page is
 * filled by parts like anything else, and may be installed when all of it is FILLED
 * or ZERO: fln_image_ready(), fln_image_due() and fln_image_request() see to that.
 */
#ifndef FLN_SOURCES_IMAGE_H
#define FLN_SOURCES_IMAGE_H

#include "base/blockmap.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/page.h"
#include "sources/filler.h"
#include "sources/source.h"

#include <faultlane/image.h>
#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

enum fln_image_page {
	FLN_IMAGE_UNFILLED,
	FLN_IMAGE_FILLING,
	FLN_IMAGE_FILLED,
	FLN_IMAGE_ZERO,
	FLN_IMAGE_FAILED,
	FLN_IMAGE_NR_STATES
};

#define FLN_IMAGE_NR_BUCKETS 64u

struct fln_engine;
struct fln_link;

/* Another process that uses the image, and is told when pages change (share.c). */
struct fln_listener {
	int event_fd;
	bool waits;                /* for some page; guarded by image->lock */
	struct fln_listener *next; /* guarded by image->lock */
};

struct fln_image {
	struct fln_engine *engine; /* whose it is; of no use here */
	struct fln_filler *filler;
	struct fln_source *source; /* NULL: filled already, or pushed, or attached */
	struct fln_link *link;     /* attached: to be asked instead of a source; else NULL */
	bool adopted;              /* the memfd may have had contents when it came */
	bool unsealed;             /* the memfd may be made shorter */
	bool read_only;            /* the memfd is sealed against writing, and filled */
	bool can_be_late;          /* what is asked for: there is a source, here or there */
	int memfd;                 /* an open file description of our own */
	char *alias;               /* the memfd mapped for us, never registered */
	uint64_t len_bytes;
	uint64_t inode, device; /* of the memfd */
	uint64_t room_bytes; /* of the file system that it lies on; 0: as much as there is memory */
	uint32_t page_bytes; /* of its pages: FLN_PAGE_BYTES, or FLN_BLOCK_BYTES (hugetlb) */
	char name[32];
	struct fln_lock lock;                             /* FLN_RANK_IMAGE */
	pthread_cond_t written;                           /* a fill is not writing any more */
	struct fln_blockmap map;                          /* changed under lock, read under RCU */
	struct fln_fill *in_flight[FLN_IMAGE_NR_BUCKETS]; /* guarded by lock */
	uint64_t waiters; /* wait for pages that no fill covers; guarded by lock */
	/*
	 * How often waiters were let go of before what they wait for had come: a fill that
	 * has begun since does not know of them.  Changed under lock.
	 */
	_Atomic uint64_t nr_let_go;
	struct fln_listener *listeners; /* guarded by lock */
	_Atomic uint64_t nr_done;       /* pages FILLED or ZERO */
	/* Some region has had poison on pages from the first one on to before the second. */
	_Atomic uint64_t poison_lo, poison_hi;
	struct fln_fill_queue queue;
	struct fln_log_limit log_limit;
	_Atomic bool ending;       /* fills in work end early */
	_Atomic uint32_t nr_users; /* regions, and processes that it is shared with */
};

/*
 * The filler's slots of changes: of a block, by the number of a page of it, and of all of the
 * image (FLN_ANY_PAGE).  A slot is read before the states are looked at; when the waiter is
 * kicked and it has not changed, neither has what was looked at.
 */
#define FLN_ANY_PAGE UINT64_MAX

static inline uint32_t fln_image_slot(const struct fln_image *image, uint64_t page)
{
	uint64_t key = fln_hash_ptr(image) + page / FLN_BLOCK_PAGES * UINT64_C(0xff51afd7ed558ccd);

	return (uint32_t)(key >> 40) % FLN_NR_CHANGE_SLOTS;
}

/* The set that the image is of: changed.h. */
static inline uint32_t fln_image_set(const struct fln_image *image)
{
	return fln_image_slot(image, FLN_ANY_PAGE) % FLN_NR_IMAGE_SETS;
}

static inline uint32_t fln_filler_change(const struct fln_filler *filler, uint32_t slot)
{
	return atomic_load_explicit(&filler->changes[slot], memory_order_acquire);
}

static inline bool fln_image_is_huge(const struct fln_image *image)
{
	return image->page_bytes == FLN_BLOCK_BYTES;
}

/* An attached image is not changed from here.  Return: -EOPNOTSUPP. */
int fln_image_not_ours(const struct fln_image *image, const char *call);

/*
 * Is the range of a call in the image, and a multiple of @unit_bytes?
 * Return: 0; -EINVAL.
 */
int fln_image_check_range(const struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes,
			  uint64_t unit_bytes);

#endif
