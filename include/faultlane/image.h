/* SPDX-License-Identifier: MIT */
/*
 * An image: the page contents of one guest memory in the page cache of a memfd, and the source
 * that fills it.  Any number of guests can share it.
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
	 * Adopt (duplicate) the memfd in the options instead of creating one.  It is
	 * sealed against shrinking, and when the image is shared (fln_image_share())
	 * against further seals.  Without FLN_IMAGE_F_FILLED its present contents do
	 * not count: holes of the source, and pages discarded before they are filled,
	 * read zero.
	 */
	FLN_IMAGE_F_ADOPT = 1 << 0,
	/*
	 * The memfd already holds the contents, and its holes are zeros.  Needs
	 * FLN_IMAGE_F_ADOPT, and no source.  The memfd may be sealed against writing:
	 * then its regions must be private, and nothing of it can be discarded.
	 */
	FLN_IMAGE_F_FILLED = 1 << 1,
	/*
	 * Adopt the memfd even if it cannot be sealed against shrinking.  If a process
	 * truncates it, threads that touch the lost pages get SIGBUS, not zeros.
	 */
	FLN_IMAGE_F_UNSEALED = 1 << 2,
};

/* Which folios (allocations of the kernel) the memory of an image consists of. */
enum fln_folio {
	/*
	 * A block of 2 MiB begins as one large folio where the kernel permits that, within the
	 * bound of folio_spare_bytes and, on a tmpfs that has a size, while there is room for all
	 * of the image.  Filling it takes at most half of the CPU time that small folios take, and
	 * once it is released in a shared region, the kernel maps it by one page-table entry.  See
	 * docs/TUNING.md.
	 */
	FLN_FOLIO_AUTO,
	/*
	 * The library asks for pages of 4 KiB: no memory is allocated beyond what is filled, unless
	 * the host gives large folios unasked (shmem_enabled=always, a tmpfs mount's huge=always or
	 * within_size).
	 */
	FLN_FOLIO_SMALL,
	/* As FLN_FOLIO_AUTO, with no bound on the memory that this takes. */
	FLN_FOLIO_LARGE,
	FLN_FOLIO_NR
};

/**
 * struct fln_image_opts - Options of an image
 * @size:      sizeof(struct fln_image_opts)
 * @len_bytes: length of the contents, a multiple of 4096
 * @source:    the source of the contents; NULL: faults wait until fln_image_put()
 *             pushes them, or they are there already (FLN_IMAGE_F_FILLED)
 * @name:      for messages and /proc, copied; NULL: "faultlane"
 * @flags:     FLN_IMAGE_F_*
 * @memfd:     with FLN_IMAGE_F_ADOPT: a descriptor of shmem (memfd_create() or
 *             tmpfs), or of hugetlb with pages of 2 MiB, open for reading and
 *             writing, at least @len_bytes long; otherwise 0
 * @node:      NUMA node of its pages, plus one; 0: the kernel's choice
 * @page_bytes: page size: 4096, or 2097152 for huge pages (hugetlb); 0: 4096, or the
 *             page size of the adopted memfd.  @len_bytes is a multiple of it.  Huge
 *             pages come from vm.nr_hugepages: a new image takes all of them at once,
 *             so that none is missing later; an adopted memfd takes them as they are
 *             filled or touched
 * @folio:     enum fln_folio.  No effect on images of huge pages, and on contents that an adopted
 *             memfd has already
 * @folio_spare_bytes: with FLN_FOLIO_AUTO: bounds the memory that large folios take and that is
 *             not filled: as much as is filled, plus this.  When the bound is reached, further
 *             blocks have small folios.  0: 64 MiB; and for about a second, while a region with
 *             FLN_RELEASE_AUTO uses the image, a quarter of the memory that was free when the
 *             image was created, at most 1 GiB, in addition: what turns out to be unneeded by
 *             then is given back.  Not so on a tmpfs that has a size
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
	uint32_t folio;
	uint64_t folio_spare_bytes;
};

#define FLN_IMAGE_OPTS_INIT FLN_SIZED(struct fln_image_opts)

/**
 * fln_image_create() - Create an image
 * @engine: the engine, whose fillers read the source
 * @opts:   options; not kept
 * @out:    the image; written only on success
 *
 * Return:  0; -EINVAL, -E2BIG for options; -EPERM when the memfd cannot be sealed (it was made
 *          without MFD_ALLOW_SEALING, or is a file on tmpfs; see FLN_IMAGE_F_UNSEALED), or is
 *          sealed against writing without FLN_IMAGE_F_FILLED; -EFBIG beyond RLIMIT_FSIZE;
 *          -ENODATA when the source or the memfd is shorter than the image; -ENOMEM, also when
 *          there are too few huge pages (fln_last_error() counts them); -EOPNOTSUPP when this
 *          kernel cannot write huge pages; -EMFILE, -ENFILE
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_image_create(struct fln_engine *engine, const struct fln_image_opts *opts,
			     struct fln_image **out);

/**
 * fln_image_put() - Push contents into an image, as a migration stream does
 * @offset_bytes: offset in the image, a multiple of 4096
 * @buf:          the contents; need not be aligned
 * @len_bytes:    their length, a multiple of 4096
 *
 * Pages that are filled already, or were discarded, do not change: the first contents win.
 * Faults that wait for the pages are served.  A huge page may be pushed in parts, in any order,
 * and is served when it is complete.
 *
 * If the source is being read for a page, the pushed contents count, and the result of that read
 * is ignored.  So no contents are lost once this has returned 0, whatever the source does, and a
 * push never waits for a source, not even for one whose read function waits for the push.  If a
 * page is just being written, by a finished read or another push, this call waits for that, and
 * pushes the page if it fails.
 *
 * Return:  0; -EINVAL; -ENOSPC or -ENOMEM when page cache cannot be allocated, -EFBIG beyond
 *          RLIMIT_FSIZE, -EFAULT when @buf cannot be read: pages that were not written then are
 *          unfilled as before, and can be pushed again
 * Threads: any, also inside a source's read function; not in the log function
 * Blocks:  for the copy, and for other threads' copies to the same pages
 */
FLN_API int fln_image_put(struct fln_image *image, uint64_t offset_bytes, const void *buf,
			  uint64_t len_bytes);

/**
 * fln_image_fill() - Read a range from the source now, on the caller's thread
 * @offset_bytes: offset in the image, a multiple of 4096
 * @len_bytes:    length of the range, a multiple of 4096
 *
 * Does not wait for pages that other threads are filling.
 *
 * Return:  0; -EINVAL; -ENODATA when the image has no source; or the errno of the source for the
 *          first page that it could not read
 * Threads: any, except a source's own functions
 * Blocks:  for the reads
 */
FLN_API int fln_image_fill(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes);

/**
 * fln_image_discard() - Discard a range: it reads zero from now on
 * @offset_bytes: offset in the image, a multiple of 4096, of 2 MiB with huge pages
 * @len_bytes:    length of the range, a multiple of the same
 *
 * Punches the range out of the memfd, and makes sure that its unfilled pages are not read from the
 * source later.  The engine notices a hole punched directly through the descriptor where pages
 * were filled; it cannot where they were unfilled, so use this call.
 *
 * Pages of the range that had failed read zeros, and no longer raise SIGBUS, when this returns.
 * (After MADV_REMOVE they do once a worker has handled its event, which may be a moment after that
 * has returned.)
 *
 * Return:  0; -EINVAL; -EPERM when the memfd is sealed against writing; or a negative errno of
 *          fallocate()
 * Threads: any, except a source's own functions
 * Blocks:  for the punch; for the engine's workers if pages had failed
 */
FLN_API int fln_image_discard(struct fln_image *image, uint64_t offset_bytes, uint64_t len_bytes);

/**
 * fln_image_memfd() - The descriptor of the image's memfd
 *
 * The image owns it: duplicate it to keep it.  Only map it with MADV_DONTFORK, or for a region:
 * touching an unfilled page through any other mapping puts a page of zeros into the cache, which
 * the engine fills later.
 *
 * Return:  a descriptor
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_image_memfd(const struct fln_image *image);

/**
 * fln_image_filled_bytes() - How much of an image is filled or known to be zero
 *
 * Return:  bytes
 * Threads: any
 * Blocks:  no
 */
FLN_API uint64_t fln_image_filled_bytes(const struct fln_image *image);

/**
 * struct fln_memory_stats - What an image holds
 * @size:           sizeof(struct fln_memory_stats), set by the caller
 * @filled_bytes:   as fln_image_filled_bytes()
 * @memory_bytes:   memory that its page cache takes
 * @large_blocks:   blocks of 2 MiB that were allocated as one large folio.  Other code may split
 *                  one by punching pages out of it; it counts here until that is noticed
 * @refused_blocks: blocks for which the kernel provided no large folio: it does not permit them,
 *                  has no 2 MiB of memory in one piece, or is at a limit.  After many refusals in a
 *                  row the kernel is asked for some blocks only; the others count here as well
 * @bounded_blocks: blocks that have small folios because of folio_spare_bytes, or because their
 *                  tmpfs has no room for all of the image
 * @spare_bytes:    memory in large folios that no fill has filled: an upper bound, because pages
 *                  that other code has punched out may still be counted.  Holes of the source in
 *                  large folios stay in memory, and so in this count, for good
 */
struct fln_memory_stats {
	size_t size;
	uint64_t filled_bytes;
	uint64_t memory_bytes;
	uint64_t large_blocks;
	uint64_t refused_blocks;
	uint64_t bounded_blocks;
	uint64_t spare_bytes;
};

#define FLN_MEMORY_STATS_INIT FLN_SIZED(struct fln_memory_stats)

/**
 * fln_image_memory_stats() - What an image holds: filled pages, memory, large folios
 * @out: its size field must be set, see FLN_MEMORY_STATS_INIT
 *
 * Return:  0; -EINVAL; or a negative errno of fstat()
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_image_memory_stats(const struct fln_image *image, struct fln_memory_stats *out);

/**
 * fln_image_share() - Share an image with another process
 * @image: an image created here, not an attached one
 * @fd:    a connected Unix socket of type SOCK_SEQPACKET, whose other end is for
 *         fln_image_attach() in the other process; the caller keeps it
 *
 * Sends the memfd to the other process, and then serves that process until either end is closed:
 * it reports which pages are filled, and fills the pages that are asked for.  Answers about filled
 * pages do not wait for unfilled ones.  Call it on a separate thread for each process.  To end it
 * from this side, call shutdown(@fd, SHUT_RDWR).
 *
 * The other process can read and write the whole image for as long as it keeps the memfd: share
 * only with a process that is trusted with the guest.  fln_image_destroy() returns -EBUSY until
 * this call has returned.
 *
 * Return:  0 when either end was closed; -EINVAL for another kind of socket; -EOPNOTSUPP for an
 *          attached image; -EPROTO when the other end does not speak this version of the protocol;
 *          -ENOMEM, -EMFILE; or a negative errno of the socket
 * Threads: any, except a source's own functions
 * Blocks:  until either end is closed
 */
FLN_API int fln_image_share(struct fln_image *image, int fd);

/**
 * fln_image_attach() - Use an image that another process shares
 * @engine: the engine in this process
 * @fd:     the other end of the socket of fln_image_share(); duplicated
 * @name:   for messages, copied; NULL: "attached"
 * @out:    the image; written only on success
 *
 * Both processes use the same page cache: what one writes, the other reads.  The owner is asked
 * for contents that are unfilled.  fln_image_fill() asks for them ahead, and waits as long as the
 * owner needs, also for contents that are to be pushed there.  Map the image only by regions of
 * this engine, queued or in context: any other mapping could put pages of zeros into the cache.
 *
 * Only the owner can change the image: fln_image_put(), fln_image_discard() and fln_image_share()
 * return -EOPNOTSUPP here, as does adding a shared region with FLN_DISCARD_ZERO;
 * FLN_DISCARD_DEFAULT means FLN_DISCARD_IMAGE in shared regions.  A filled page that is discarded
 * by MADV_REMOVE is zero in all processes.  fln_image_filled_bytes() counts what this process
 * knows of.
 *
 * When the owner ends the connection, or dies, pages known to be filled stay usable, and all
 * others fail as with a failing source.
 *
 * Each process poisons failed pages for itself.  When the owner discards a failed page, regions of
 * this process keep their poison, and fln_guest_residency() reports it, until FLN_ADVICE_DONTNEED
 * drops it here.
 *
 * Return:  0; -EINVAL for another kind of socket; -EPROTO when the other end was closed, does not
 *          speak this protocol, or sends a memfd other than announced; -ETIMEDOUT when it does not
 *          answer within 10 s; -ENOMEM; -EMFILE; -EAGAIN when no thread can be created; or a
 *          negative errno of the socket
 * Threads: any, except a thread of the engine
 * Blocks:  for the owner's answer
 */
FLN_API int fln_image_attach(struct fln_engine *engine, int fd, const char *name,
			     struct fln_image **out);

/**
 * fln_image_destroy() - Release an image; NULL is permitted
 *
 * Return:  0; -EBUSY while regions use it, while fln_image_share() runs, or when a source read
 *          has not returned within the source timeout (fln_last_error() says which): the image
 *          remains usable, but reads that had not begun are cancelled, and their pages must be
 *          requested again, as faults do
 * Threads: any, except a source's own functions
 * Blocks:  for reads in flight, up to the source timeout
 */
FLN_API int fln_image_destroy(struct fln_image *image);

#ifdef __cplusplus
}
#endif

#endif
