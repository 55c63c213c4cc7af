/* SPDX-License-Identifier: MIT */
/*
 * An image: the page contents of one memory, in shmem page cache (a memfd),
 * plus the source that fills it.  Any number of guests share it.
 */
#ifndef FAULTLANE_IMAGE_H
#define FAULTLANE_IMAGE_H

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/source.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fln_image;

enum fln_image_flags {
	/*
	 * @memfd of the options is adopted: duplicated, not made.  It is sealed
	 * against shrinking, if it is not yet; and against further seals when the
	 * image is shared (fln_image_share()).  What it holds is nobody's contents,
	 * unless FLN_IMAGE_F_FILLED says so: holes of the source, and what is given up
	 * before it is filled, read zero.
	 */
	FLN_IMAGE_F_ADOPT = 1 << 0,
	/*
	 * The memfd holds the contents already; its holes are zeros.  Needs
	 * FLN_IMAGE_F_ADOPT, and no source.  A memfd that is sealed against
	 * writing is taken with it too: then its regions are private, and nothing
	 * of it can be given up.
	 */
	FLN_IMAGE_F_FILLED = 1 << 1,
	/*
	 * Adopt the memfd although it cannot be sealed against shrinking.  A process that
	 * makes it shorter then takes contents away: threads that touch them get
	 * SIGBUS, and no zeros.
	 */
	FLN_IMAGE_F_UNSEALED = 1 << 2,
};

/**
 * struct fln_image_opts - Options of an image
 * @size:      sizeof(struct fln_image_opts)
 * @len_bytes: length of the contents, a multiple of 4096
 * @source:    where contents come from; NULL: they are pushed with
 *             fln_image_put(), and a fault waits for them, or they are there
 *             already (FLN_IMAGE_F_FILLED)
 * @name:      for messages and /proc, copied; NULL: "faultlane"
 * @flags:     FLN_IMAGE_F_*
 * @memfd:     with FLN_IMAGE_F_ADOPT: a descriptor of shmem (memfd_create() or
 *             tmpfs), or of hugetlb with pages of 2 MiB, open for reading and
 *             writing, at least @len_bytes long; otherwise 0
 * @node:      NUMA node that its pages should lie on, plus one; 0: the kernel's choice
 * @page_bytes: size of its pages: 4096, or 2097152 for huge pages (hugetlb); 0: 4096,
 *             of an adopted memfd its own.  The machine must have been given huge pages
 *             (vm.nr_hugepages): an image that is made takes all of its own at once, so
 *             that none is missing later; of an adopted memfd they are taken as they are
 *             filled or touched.  @len_bytes is a multiple of it
 * @reserved:  zero
 */
struct fln_image_opts {
	size_t size;
	uint64_t len_bytes;
	struct fln_source *source;
	const char *name;
	uint64_t flags;
	int32_t memfd;
	uint32_t node;
	uint32_t page_bytes;
	uint32_t reserved;
};

#define FLN_IMAGE_OPTS_INIT FLN_SIZED(struct fln_image_opts)

/**
 * fln_image_create() - Make an image
 * @engine: whose fillers read the source
 * @opts:   options; not kept
 * @out:    the image; written only on success
 *
 * Return:  0; -EINVAL, -E2BIG for options; -EPERM when the memfd cannot be sealed
 *          (without MFD_ALLOW_SEALING, a file on tmpfs; see FLN_IMAGE_F_UNSEALED), or
 *          is sealed against writing and not filled; -EFBIG beyond RLIMIT_FSIZE;
 *          -ENODATA when the source or the memfd is shorter than the image; -ENOMEM,
 *          also when there are not enough huge pages (fln_last_error() counts them);
 *          -EOPNOTSUPP when huge pages cannot be written here; -EMFILE, -ENFILE
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_image_create(struct fln_engine *engine, const struct fln_image_opts *opts,
			     struct fln_image **out);

/**
 * fln_image_put() - Push contents, as a migration stream does
 * @offset_bytes: where, a multiple of 4096
 * @buf:          contents; need not be aligned
 * @len_bytes:    how much, a multiple of 4096
 *
 * Pages that are filled already, or zero by the guest's own will, stay as they
 * are: the first contents win.  Faults that wait for the pages are served.  A huge page
 * may be pushed by its parts, in any order; it is served when all of it is there.
 *
 * A page for which the source is being read takes these contents, and what the
 * source delivers later, or that it fails, is of no account.  So when this
 * returns 0 nothing is lost, whatever the source does; and a thread that pushes
 * never waits for a source, not even for one whose read function waits for the
 * pushes.  A page that is being written at this moment, by a read that has come
 * back or by another push, is waited for, and pushed when that has failed.
 *
 * Return:  0; -EINVAL; -ENOSPC, -ENOMEM when page cache is unavailable, -EFBIG
 *          beyond RLIMIT_FSIZE, -EFAULT when @buf cannot be read: pages that have not come in are unfilled
 *          as before, and can be pushed again
 * Threads: any, also inside a source's read function; not in the log function
 * Blocks:  for the copy, and for copies of others to the same pages
 */
FLN_API int fln_image_put(struct fln_image *image, uint64_t offset_bytes, const void *buf,
			  uint64_t len_bytes);

/**
 * fln_image_fill() - Read a range from the source now, on the caller's thread
 * @offset_bytes: where, a multiple of 4096
 * @len_bytes:    how much, a multiple of 4096
 *
 * Pages that others are filling are not waited for.
 *
 * Return:  0; -EINVAL; -ENODATA when the image has no source; or what the
 *          source returned at the first page that it could not read
 * Threads: any, except a source's own functions
 * Blocks:  for the reads
 */
FLN_API int fln_image_fill(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes);

/**
 * fln_image_discard() - The guest gave a range up: it is zero from now on
 * @offset_bytes: where, a multiple of 4096, of 2 MiB in an image of huge pages
 * @len_bytes:    how much, a multiple of the same
 *
 * Punches the range out of the memfd, and makes sure that pages of it which
 * were never filled are not read from the source later.  A hole that somebody
 * punches through the descriptor directly is noticed on pages that were filled;
 * on pages that were not, only this call can say so.
 *
 * Where a page had failed, regions of this process that raise SIGBUS there read zeros when
 * this returns.  After MADV_REMOVE they do as soon as a worker has acted upon its event,
 * which may be a moment after that has returned.
 *
 * Return:  0; -EINVAL; -EPERM of a memfd that is sealed against writing; what fallocate()
 *          returned
 * Threads: any, except a source's own functions
 * Blocks:  for the punch; for the engine's workers where something had failed
 */
FLN_API int fln_image_discard(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes);

/**
 * fln_image_memfd() - The descriptor behind the image
 *
 * Still the image's: duplicate it to keep it.  Map it only MADV_DONTFORK, or
 * serve the mapping with a region: touching an unfilled page through any other
 * mapping puts a page of zeros there, which the engine fills later.
 *
 * Return:  a descriptor
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_image_memfd(const struct fln_image *image);

/**
 * fln_image_filled_bytes() - How much is filled or known to be zero
 *
 * Return:  bytes
 * Threads: any
 * Blocks:  no
 */
FLN_API uint64_t fln_image_filled_bytes(const struct fln_image *image);

/**
 * fln_image_share() - Let another process use this image
 * @image: one that was created here, not attached
 * @fd:    a connected Unix socket of type SOCK_SEQPACKET; its other end goes to the
 *         other process's fln_image_attach().  Stays the caller's
 *
 * Hands the memfd over to the process that says hello there.  Then it serves the other
 * process until one of the ends is closed: tells it what is filled, and has filled
 * what it asks for; what is there already does not wait for what is not.  Run it on
 * a thread of its own, one per process.  To end it from here, call
 * shutdown(@fd, SHUT_RDWR).
 *
 * A process that has the memfd can read and write all of the image, and keeps it: share only
 * with a process that is trusted with the guest.
 *
 * Return:  0 when an end was closed; -EINVAL for a socket of another kind;
 *          -EOPNOTSUPP for an attached image; -EPROTO when the other end does not
 *          speak this protocol, or not this version of it; -ENOMEM, -EMFILE; or what
 *          the socket returned.  fln_image_destroy() refuses until it has returned
 * Threads: any, except a source's own functions
 * Blocks:  until an end is closed
 */
FLN_API int fln_image_share(struct fln_image *image, int fd);

/**
 * fln_image_attach() - Use an image of another process
 * @engine: of this process
 * @fd:     the other end of fln_image_share(); duplicated
 * @name:   for messages, copied; NULL: "attached"
 * @out:    the image; written only on success
 *
 * The page cache is the same: what one process writes, the other one reads.  Contents
 * are asked for where they are not there yet; fln_image_fill() asks ahead, and waits
 * as long as the owner needs, also for what is to be pushed there.  Map it by regions
 * of this engine, queued or in-context, and in no other way: a page of zeros that
 * somebody else put into the cache would be filled into, or read as zeros.
 *
 * The owner alone changes what the image is: fln_image_put(), fln_image_discard()
 * and fln_image_share() return -EOPNOTSUPP, and a shared region with FLN_DISCARD_ZERO
 * is refused so; FLN_DISCARD_DEFAULT is FLN_DISCARD_IMAGE there.  What is given up by
 * MADV_REMOVE after it was filled is zero for all.  fln_image_filled_bytes() is what
 * is known here.
 *
 * When the owner ends the connection, or dies, what is known to be filled stays, and
 * the rest fails as with a source that fails.
 *
 * What has failed is poisoned in each process for itself.  When the owner gives such a page
 * up, regions of this process keep their poison, and fln_guest_residency() says so, until
 * FLN_ADVICE_DONTNEED lifts it here.
 *
 * Return:  0; -EINVAL for a socket of another kind; -EPROTO when the other end was
 *          closed, does not speak this protocol or hands over something else than it
 *          says; -ETIMEDOUT when nobody answers within 10 s; -ENOMEM; -EMFILE;
 *          -EAGAIN when no thread can be made; or what the socket returned
 * Threads: any, except a thread of the engine
 * Blocks:  for the other process's answer
 */
FLN_API int fln_image_attach(struct fln_engine *engine, int fd, const char *name,
			     struct fln_image **out);

/**
 * fln_image_destroy() - Release an image; NULL is permitted
 *
 * Return:  0; -EBUSY while regions use it, fln_image_share() runs or a source read is in flight for
 *          longer than the source timeout (fln_last_error() says which): the
 *          image can be used on, but reads that had not begun are cancelled,
 *          and those pages have to be asked for again, as faults do
 * Threads: any, except a source's own functions
 * Blocks:  for reads in flight, up to the source timeout
 */
FLN_API int fln_image_destroy(struct fln_image *image);

#ifdef __cplusplus
}
#endif

#endif
