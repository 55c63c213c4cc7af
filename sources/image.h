/* SPDX-License-Identifier: MIT */
/*
 * An image from the inside: its memfd, the states of its pages and their transitions.
 *
 *   UNFILLED → FILLING → FILLED | ZERO | FAILED, FILLING → UNFILLED; FILLED → ZERO;
 *   FAILED → FILLING | UNFILLED
 *
 * A page may be installed only if its state is FILLED or ZERO.  Its presence in the page
 * cache proves nothing: others can put zeros there.  A page that is FILLED but absent from
 * the page cache was discarded (a hole was punched): it is zero from then on, and never read
 * from the source again.
 *
 * States are kept for every 4 KiB, also in images of huge pages.  A huge page is
 * filled in parts, and may be installed when all of it is FILLED
 * or ZERO; fln_image_ready(), fln_image_due() and fln_image_request() ensure that.
 */
#ifndef FLN_SOURCES_IMAGE_H
#define FLN_SOURCES_IMAGE_H

#include "base/blockmap.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/page.h"
#include "sources/filler.h"
#include "sources/folio.h"
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

/* Another process that uses the image, and is notified when pages change (share.c). */
struct fln_listener {
	int event_fd;
	bool waits;                /* some page is pending; guarded by image->lock */
	struct fln_listener *next; /* guarded by image->lock */
};

struct fln_image {
	struct fln_engine *engine; /* its owner; opaque in sources/ */
	struct fln_filler *filler;
	struct fln_source *source; /* NULL: already filled, or pushed, or attached */
	struct fln_link *link;     /* attached images: replaces the source; else NULL */
	bool adopted;              /* the memfd may have arrived with contents */
	bool unsealed;             /* the memfd may be truncated by others */
	bool read_only;            /* the memfd is sealed against writing, and filled */
	bool can_be_late;          /* fills read a source, here or in the owner's process */
	int memfd;                 /* an open file description of our own */
	char *alias;               /* our own mapping of the memfd, never registered */
	uint64_t len_bytes;
	uint64_t inode, device; /* of the memfd */
	uint64_t room_bytes;    /* size limit of its file system; 0: limited by memory only */
	uint32_t page_bytes;    /* its page size: FLN_PAGE_BYTES, or FLN_BLOCK_BYTES (hugetlb) */
	char name[32];
	struct fln_lock lock;                             /* FLN_RANK_IMAGE */
	pthread_cond_t written;                           /* a fill has stopped writing */
	struct fln_blockmap map;                          /* changed under lock, read under RCU */
	struct fln_fill *in_flight[FLN_IMAGE_NR_BUCKETS]; /* guarded by lock */
	uint64_t waiters; /* those of pages that no fill covers; guarded by lock */
	_Atomic uint64_t
		block_waiters; /* to be kicked when a block has become whole; then forgotten */
	/*
	 * How often waiters were kicked before their page had changed.  Fills begun since then do
	 * not know those waiters, so these must request again.  Changed under lock.
	 */
	_Atomic uint64_t nr_let_go;
	struct fln_listener *listeners; /* guarded by lock */
	_Atomic uint64_t nr_done;       /* pages FILLED or ZERO */
	/* Bounds of all pages that any region has ever poisoned: [poison_lo, poison_hi). */
	_Atomic uint64_t poison_lo, poison_hi;
	struct fln_folios folios;
	_Atomic uint32_t nr_trims; /* blocks that fillers are asked to trim */
	struct fln_fill_queue queue;
	struct fln_log_limit log_limit;
	_Atomic bool ending;       /* running fills end early */
	_Atomic uint32_t nr_users; /* regions, and processes that the image is shared with */
};

/*
 * The index of the filler's change counter (filler.h) for the block of @page, or for the whole
 * image (FLN_ANY_PAGE).  A waiter reads the counter before it reads states: if the counter has
 * not changed when the waiter is kicked, the states have not changed either.
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

/*
 * Is the block a large folio, as far as the image knows?  A hint, and cheap: the kernel splits a
 * folio when pages are punched out of it, and nothing is known (false) of contents that an adopted
 * memfd came with, and of attached images.
 */
static inline bool fln_image_block_is_large(const struct fln_image *image, uint64_t block)
{
	return fln_folio_is_large(&image->folios, block);
}

/* Refuse a call that only the owner of the image may make.  Return: -EOPNOTSUPP. */
int fln_image_not_ours(const struct fln_image *image, const char *call);

/*
 * Check that a call's range lies in the image and is a non-empty multiple of @unit_bytes.
 * Return: 0; -EINVAL.
 */
int fln_image_check_range(const struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes,
			  uint64_t unit_bytes);

#endif
