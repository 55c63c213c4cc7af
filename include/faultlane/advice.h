/* SPDX-License-Identifier: MIT */
/*
 * Ranges of a guest: advice, populate, locked ranges, what is where, large pages.
 *
 * A range is an address and a length in bytes, multiples of the page size, that
 * lies in regions of one guest without a gap.
 */
#ifndef FAULTLANE_ADVICE_H
#define FAULTLANE_ADVICE_H

#include <faultlane/base.h>
#include <faultlane/guest.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As madvise() has them. */
enum fln_advice {
	FLN_ADVICE_NORMAL,     /* the guest's windows */
	FLN_ADVICE_SEQUENTIAL, /* whole blocks at once, and what comes after them ahead */
	FLN_ADVICE_RANDOM,     /* the page that is touched and no other */
	FLN_ADVICE_WILLNEED,   /* fill and map it in the background; does not wait */
	/*
	 * Unmap it.  In a shared region its contents come back when they are touched,
	 * also where they have not been read yet; in a private one the guest's own
	 * writes are lost, and what is read next is as enum fln_discard says.  Pages
	 * that were poisoned may be touched again: they are asked for anew.
	 */
	FLN_ADVICE_DONTNEED,
	FLN_ADVICE_NR
};

/**
 * fln_guest_advise() - Say how a range will be used
 * @addr:      its first byte
 * @len_bytes: its length
 * @advice:    NORMAL, SEQUENTIAL and RANDOM stay in force until the next of them
 *
 * In-context regions have the windows of SEQUENTIAL and RANDOM, and no read-ahead.
 * While DONTNEED runs nobody else should discard the same memory: of two discards at
 * the same time one is taken for the guest's own.
 *
 * Return:  0; -EINVAL for a range that is not the guest's or an unknown advice, or
 *          DONTNEED of a locked range, or of a part of a huge page; -ESHUTDOWN for
 *          WILLNEED and DONTNEED when the guest does not run; -EBUSY when 8 ranges of
 *          WILLNEED are under way;
 *          -ENOTSUP for DONTNEED in a foreign guest; -ENOMEM
 * Threads: any, except a thread of the engine
 * Blocks:  briefly; DONTNEED as madvise()
 */
FLN_API int fln_guest_advise(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			     enum fln_advice advice);

/**
 * typedef fln_progress_fn - How far fln_guest_populate() is
 *
 * Return:  0 to go on; anything else cancels
 * Threads: called on the thread that called fln_guest_populate()
 * Blocks:  it may: the work goes on meanwhile
 */
typedef int (*fln_progress_fn)(void *ctx, uint64_t done_bytes, uint64_t len_bytes);

/**
 * struct fln_populate_opts - Options of fln_guest_populate()
 * @size:         sizeof(struct fln_populate_opts)
 * @progress:     called now and then, and at the end; NULL: nobody
 * @progress_ctx: passed to @progress
 * @interval_ns:  time between two calls of @progress; 0: 100 ms
 */
struct fln_populate_opts {
	size_t size;
	fln_progress_fn progress;
	void *progress_ctx;
	uint64_t interval_ns;
};

#define FLN_POPULATE_OPTS_INIT FLN_SIZED(struct fln_populate_opts)

/**
 * fln_guest_populate() - Fill and map a range, and wait for it
 * @addr:      its first byte
 * @len_bytes: its length
 * @opts:      options, or NULL for all defaults; not kept
 *
 * When it has returned 0 every page was mapped: a touch does not fault, unless the
 * page was given up meanwhile.  Holes take memory then.  Workers do it behind all
 * faults.  Memory of an in-context region that is to be handed to a system call is
 * passed here first; where all of it is mapped that costs little.  Without /proc
 * what was punched out of ranges longer than 2 MiB can be missed.
 *
 * Pages that fail are reported and not poisoned; the rest is mapped.
 *
 * Return:  0; -ECANCELED when @progress said so: what is mapped by then stays;
 *          -EIO when pages have failed (fln_last_error() names the first);
 *          -EINVAL; -ESHUTDOWN when the guest does not run, or was stopped
 *          meanwhile; -ENOMEM
 * Threads: any, except a thread of the engine, and not in a signal handler
 * Blocks:  until it is done
 */
FLN_API int fln_guest_populate(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			       const struct fln_populate_opts *opts);

/**
 * fln_guest_lock() - Populate a range, and keep it in memory (mlock)
 *
 * What is discarded and comes back is locked as well.  Removing the region unlocks it.
 *
 * Return:  0; as fln_guest_populate(); -EPERM or -ENOMEM when RLIMIT_MEMLOCK does not
 *          permit it (fln_last_error() names it); -ENOTSUP in a foreign guest
 * Threads: any, except a thread of the engine
 * Blocks:  as fln_guest_populate()
 */
FLN_API int fln_guest_lock(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes);

/**
 * fln_guest_unlock() - Undo fln_guest_lock() for a range, or a part of one
 *
 * Return:  0, also where nothing is locked; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  briefly
 */
FLN_API int fln_guest_unlock(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes);

/* Where a page is. */
enum fln_residency_state {
	FLN_RESIDENCY_ABSENT,    /* neither mapped nor filled */
	FLN_RESIDENCY_FILLED,    /* its contents are there; not mapped */
	FLN_RESIDENCY_PRESENT,   /* mapped, as far as we know */
	FLN_RESIDENCY_DISCARDED, /* given up in private memory: zero when touched; not mapped */
	FLN_RESIDENCY_POISONED,  /* it has failed */
	FLN_RESIDENCY_NR
};

/**
 * struct fln_residency - How many pages of a range are in which state
 * @size:     sizeof(struct fln_residency), set by the caller
 * @nr_pages: by enum fln_residency_state, in pages of 4096 bytes
 */
struct fln_residency {
	size_t size;
	uint64_t nr_pages[FLN_RESIDENCY_NR];
};

#define FLN_RESIDENCY_INIT FLN_SIZED(struct fln_residency)

/**
 * fln_guest_residency() - Where the pages of a range are
 * @addr:      its first byte
 * @len_bytes: its length
 * @vec:       a byte (enum fln_residency_state) per 4096 bytes; NULL: not wanted
 * @sum:       counts; NULL: not wanted
 *
 * A hole of the image is FILLED: zeros need no reading; so is what was given up in
 * shared memory, which is a hole then.  What is mapped is known as
 * well as the engine can know it: memory that is taken away through the page cache
 * raises no event, and is called PRESENT until it is touched.
 *
 * Return:  0; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  no
 */
FLN_API int fln_guest_residency(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
				uint8_t *vec, struct fln_residency *sum);

/**
 * fln_guest_collapse() - Map blocks of 2 MiB by large pages, where they are whole
 * @addr:        first byte of the range; blocks that lie in it wholly count
 * @len_bytes:   its length
 * @nr_collapsed: how many blocks are mapped by a large page now; may be NULL
 *
 * The page cache of the block becomes one large page; other mappings of it lose
 * their page-table entries and fault again.  Blocks that have holes, are not mapped
 * wholly, or belong to private regions, are left alone.
 *
 * Return:  0, also when no block could be; -ENOTSUP when the kernel cannot at all
 *          (MADV_COLLAPSE: 6.1; shmem: transparent huge pages must be configured) or
 *          the guest is foreign; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  for copying 2 MiB a block
 */
FLN_API int fln_guest_collapse(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			       uint64_t *nr_collapsed);

#ifdef __cplusplus
}
#endif

#endif
