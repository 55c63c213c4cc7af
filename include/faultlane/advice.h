/* SPDX-License-Identifier: MIT */
/*
 * Calls on ranges of a guest: advice, populate, lock, residency, collapse.
 *
 * A range is an address and a length in bytes, both multiples of the page size.  All of it must
 * lie in regions of one guest.
 */
#ifndef FAULTLANE_ADVICE_H
#define FAULTLANE_ADVICE_H

#include <faultlane/base.h>
#include <faultlane/guest.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Named after the advice of madvise(). */
enum fln_advice {
	FLN_ADVICE_NORMAL,     /* a fault maps the guest's usual window */
	FLN_ADVICE_SEQUENTIAL, /* a fault maps its whole block, and read-ahead the next ones */
	FLN_ADVICE_RANDOM,     /* a fault maps its own page only */
	FLN_ADVICE_WILLNEED,   /* fill and map the range in the background; does not wait */
	/*
	 * Unmap the range.  In a shared region a touch brings the contents back, also
	 * where they had not been read yet.  In a private region the guest's own writes
	 * are lost, and enum fln_discard says what the next read returns.  Poison is
	 * dropped: the next touch asks the source again.
	 */
	FLN_ADVICE_DONTNEED,
	FLN_ADVICE_NR
};

/**
 * fln_guest_advise() - Say how a range will be used
 * @addr:      first byte of the range
 * @len_bytes: length of the range
 * @advice:    NORMAL, SEQUENTIAL and RANDOM each stay in force until another of them
 *
 * In an in-context region SEQUENTIAL and RANDOM set the windows, and there is no read-ahead.
 * While DONTNEED runs, no other thread should discard the same memory: one of two concurrent
 * discards counts as the guest's own.
 *
 * Return:  0; -EINVAL for a range outside the guest's regions or an unknown advice, and for
 *          DONTNEED of a locked range or of part of a huge page; -ESHUTDOWN for WILLNEED and
 *          DONTNEED when the guest is not running; -EBUSY when 8 ranges of WILLNEED are under
 *          way; -ENOTSUP for DONTNEED in a foreign guest; -ENOMEM
 * Threads: any, except a thread of the engine
 * Blocks:  briefly; DONTNEED as long as madvise()
 */
FLN_API int fln_guest_advise(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			     enum fln_advice advice);

/**
 * typedef fln_progress_fn - Reports the progress of fln_guest_populate()
 *
 * Return:  0 to continue; any other value cancels
 * Threads: called on the thread that called fln_guest_populate()
 * Blocks:  it may: the work continues meanwhile
 */
typedef int (*fln_progress_fn)(void *ctx, uint64_t done_bytes, uint64_t len_bytes);

/**
 * struct fln_populate_opts - Options of fln_guest_populate()
 * @size:         sizeof(struct fln_populate_opts)
 * @progress:     called every @interval_ns, and at the end; may be NULL
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
 * @addr:      first byte of the range
 * @len_bytes: length of the range
 * @opts:      options, or NULL for all defaults; not kept
 *
 * When 0 is returned, every page of the range has been mapped, and a touch does not fault unless
 * the page was discarded meanwhile.  Holes are mapped too, and so take memory.  Workers serve all
 * waiting faults first.  Call this before a system call is given a buffer in an in-context region;
 * it costs little if the buffer is already mapped.  Without /proc, pages punched out of a range
 * longer than 2 MiB may be missed.
 *
 * Pages that fail are reported and not poisoned; all others are mapped.
 *
 * Return:  0; -ECANCELED when @progress has cancelled: pages mapped by then stay mapped; -EIO
 *          when pages have failed (fln_last_error() names the first); -EINVAL; -ESHUTDOWN when
 *          the guest is not running, or was stopped meanwhile; -ENOMEM
 * Threads: any, except a thread of the engine, and not in a signal handler
 * Blocks:  until every page is mapped or has failed
 */
FLN_API int fln_guest_populate(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			       const struct fln_populate_opts *opts);

/**
 * fln_guest_lock() - Populate a range, and keep it in memory (mlock)
 *
 * Pages that are discarded and touched again are locked, too.  Removing the region unlocks it.
 *
 * Return:  0; errors of fln_guest_populate(); -EPERM or -ENOMEM when RLIMIT_MEMLOCK is too low
 *          (fln_last_error() names its value); -ENOTSUP in a foreign guest
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

/* The state of a page in a guest. */
enum fln_residency_state {
	FLN_RESIDENCY_ABSENT,    /* unfilled, and not mapped */
	FLN_RESIDENCY_FILLED,    /* filled, and not mapped */
	FLN_RESIDENCY_PRESENT,   /* mapped, as far as the engine knows */
	FLN_RESIDENCY_DISCARDED, /* discarded in private memory: not mapped, reads zero */
	FLN_RESIDENCY_POISONED,  /* its contents have failed */
	FLN_RESIDENCY_RELEASED,  /* its contents are there, and the kernel maps it when touched */
	FLN_RESIDENCY_NR
};

/**
 * struct fln_residency - Counts of pages by state
 * @size:     sizeof(struct fln_residency), set by the caller
 * @nr_pages: by enum fln_residency_state, in pages of 4096 bytes
 */
struct fln_residency {
	size_t size;
	uint64_t nr_pages[FLN_RESIDENCY_NR];
};

#define FLN_RESIDENCY_INIT FLN_SIZED(struct fln_residency)

/**
 * fln_guest_residency() - The states of the pages of a range
 * @addr:      first byte of the range
 * @len_bytes: length of the range
 * @vec:       receives a byte (enum fln_residency_state) per 4096 bytes; may be NULL
 * @sum:       receives the counts; may be NULL
 *
 * A hole of the image is FILLED, because zeros need no reading; so is a page discarded in shared
 * memory, which is a hole from then on.  Pages of released blocks (fln_guest_release()) are
 * RELEASED, whether the kernel has mapped them or not.  PRESENT may be stale: a page that is removed from the
 * page cache raises no event, and stays PRESENT until it is touched.
 *
 * Return:  0; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  no
 */
FLN_API int fln_guest_residency(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
				uint8_t *vec, struct fln_residency *sum);

/**
 * fln_guest_collapse() - Map 2 MiB blocks by large pages where they are wholly mapped
 * @addr:         first byte of the range; only blocks that lie wholly in it count
 * @len_bytes:    length of the range
 * @nr_collapsed: receives how many blocks are now mapped by a large page; may be NULL
 *
 * The block's page cache becomes one large page; other mappings of it lose their page-table
 * entries and refault.  Blocks with holes, blocks that are not wholly mapped, and private regions
 * are left alone.
 *
 * Return:  0, also when no block could be collapsed; -ENOTSUP when the kernel does not support it
 *          (MADV_COLLAPSE needs 6.1, and transparent huge pages enabled for shmem) or the guest
 *          is foreign; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  for copying 2 MiB a block
 */
FLN_API int fln_guest_collapse(struct fln_guest *guest, uint64_t addr, uint64_t len_bytes,
			       uint64_t *nr_collapsed);

#ifdef __cplusplus
}
#endif

#endif
