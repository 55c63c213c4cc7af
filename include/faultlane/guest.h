/* SPDX-License-Identifier: MIT */
/*
 * A guest: the memory of one VM, as a set of regions that are served together.
 */
#ifndef FAULTLANE_GUEST_H
#define FAULTLANE_GUEST_H

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/image.h>
#include <faultlane/stats.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fln_guest;
struct fln_region;

/*
 * Whether memory is released, that is, leaves its userfaultfd: in blocks of 2 MiB, once the
 * contents of all pages of a block are there.  The kernel serves a released block from then on, and
 * the block no longer depends on the engine.  See fln_guest_release().
 */
enum fln_release {
	FLN_RELEASE_DEFAULT, /* of a region: the guest's; of a guest: FLN_RELEASE_ON_CALL */
	FLN_RELEASE_ON_CALL, /* by fln_guest_release() */
	/*
	 * Also by itself: a block of a large folio when its last page is filled, one of small
	 * folios when it has had no new fault for 0.4 s.  docs/TUNING.md says more.
	 * A foreign guest's userfaultfd is closed only after fln_guest_release(), though.
	 */
	FLN_RELEASE_AUTO,
	FLN_RELEASE_NEVER, /* the registration is kept */
	FLN_RELEASE_NR
};

enum fln_guest_flags {
	/*
	 * The guest's memory belongs to another process, which created and
	 * registered @foreign_uffd and handed it over.  One shard; missing faults
	 * only, resolved by copying from the image.  It needs no privilege.
	 * docs/EMBEDDING.md says what the descriptor must be.
	 */
	FLN_GUEST_F_FOREIGN = 1 << 0,
	/* 1 << 1 (FLN_GUEST_F_FORK) is refused: forks are no longer followed. */
	/*
	 * KVM vCPUs touch the memory.  Their faults cost several times as much as
	 * those of threads, so the default of @window_first is 256 pages.  Nothing
	 * else depends on this flag.
	 */
	FLN_GUEST_F_KVM = 1 << 2,
};

/* The reaction to a page that fails, because its source returned an error or timed out. */
enum fln_on_failure {
	FLN_ON_FAILURE_DEFAULT, /* FLN_ON_FAILURE_POISON */
	FLN_ON_FAILURE_POISON,  /* a thread that touches the page gets SIGBUS */
	/*
	 * As POISON, and the whole guest fails: FLN_EVENT_GUEST_FAILED tells the
	 * embedder to end the virtual machine.  From then on every unfilled page is
	 * poisoned when it is touched, and its source is not asked.
	 */
	FLN_ON_FAILURE_STOP,
	FLN_ON_FAILURE_ASK, /* fln_guest_opts.ask decides each time */
	FLN_ON_FAILURE_NR
};

/* The decisions of fln_ask_fn. */
enum fln_answer {
	FLN_ANSWER_POISON, /* as FLN_ON_FAILURE_POISON */
	FLN_ANSWER_RETRY,  /* read the source again now, and ask again if that fails */
	FLN_ANSWER_WAIT,   /* ask again in 100 ms; the waiters keep waiting */
	FLN_ANSWER_STOP,   /* as FLN_ON_FAILURE_STOP */
	FLN_ANSWER_NR
};

/**
 * struct fln_failure - A page that has failed
 * @size:               sizeof(struct fln_failure)
 * @guest:              the guest that touched it
 * @addr:               the page's address
 * @image_offset_bytes: offset of its contents in the image
 * @image:              the image
 * @nr_attempts:        how often the page has failed so far; asking again after
 *                      FLN_ANSWER_WAIT does not count
 * @nr_asked:           how often the function has been asked about this fault so far, so
 *                      that it can limit FLN_ANSWER_WAIT
 */
struct fln_failure {
	size_t size;
	struct fln_guest *guest;
	uint64_t addr;
	uint64_t image_offset_bytes;
	struct fln_image *image;
	uint32_t nr_attempts;
	uint32_t nr_asked;
};

/**
 * typedef fln_ask_fn - Decides about a page that has failed
 *
 * Return:  enum fln_answer; any other value counts as FLN_ANSWER_POISON
 * Threads: called on workers; it must not call the library, except
 *          fln_image_put() from another thread while it answers FLN_ANSWER_WAIT
 * Blocks:  it must not: all faults of the worker wait meanwhile
 */
typedef enum fln_answer (*fln_ask_fn)(void *ctx, const struct fln_failure *failure);

/**
 * struct fln_guest_opts - Options of a guest
 * @size:         sizeof(struct fln_guest_opts)
 * @name:         for messages, copied; NULL: "guest"
 * @flags:        FLN_GUEST_F_*
 * @nr_vcpus:     threads that are expected to touch the memory concurrently; sets the
 *                number of shards; 0: 64
 * @nr_shards:    userfaultfds over which the memory is spread, at most 1024;
 *                0: from @nr_vcpus and the number of workers
 * @window_first: pages that the first fault in a 2 MiB block maps, a power of two, 1 to
 *                512; 0: 8, or 256 with FLN_GUEST_F_KVM, or 1 with
 *                FLN_GUEST_F_FOREIGN, which grows where the guest turns out to touch
 *                most of the neighbours
 * @window_max:   pages that one fault maps at most, a power of two, at least
 *                @window_first; 0: 512, or 64 with FLN_GUEST_F_FOREIGN and no
 *                @window_first.  Equal to @window_first: windows do not grow
 * @foreign_uffd: with FLN_GUEST_F_FOREIGN: the descriptor, which the guest takes
 *                over when fln_guest_create() succeeds; otherwise 0
 * @on_failure:   enum fln_on_failure
 * @ask:          with FLN_ON_FAILURE_ASK: makes the decision; otherwise NULL
 * @ask_ctx:      passed to @ask
 * @max_failures: how often a page may fail or time out, each time after the engine's
 *                source_retries, before @on_failure is carried out; 0: once.  Each
 *                failure but the last is followed by a pause of a second for that page.
 *                With FLN_ON_FAILURE_ASK: 0
 * @release:      enum fln_release, for regions that do not say otherwise
 */
struct fln_guest_opts {
	size_t size;
	const char *name;
	uint64_t flags;
	uint32_t nr_vcpus;
	uint32_t nr_shards;
	uint32_t window_first;
	uint32_t window_max;
	int32_t foreign_uffd;
	uint32_t on_failure;
	fln_ask_fn ask;
	void *ask_ctx;
	uint32_t max_failures;
	uint32_t release;
};

#define FLN_GUEST_OPTS_INIT FLN_SIZED(struct fln_guest_opts)

/**
 * fln_guest_create() - Create a guest without regions
 * @engine: the engine that serves it
 * @opts:   options, or NULL for all defaults; not kept
 * @out:    the guest; written only on success
 *
 * Return:  0; -EINVAL or -E2BIG for options, or when @foreign_uffd is not a userfaultfd;
 *          -EPERM or -EACCES when this user may not create userfaultfds (fln_last_error() names
 *          the remedy), -EMFILE or -ENFILE when descriptors have run out, neither of which
 *          concerns foreign guests; -ENOMEM; -EBUSY while the engine is being stopped
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_guest_create(struct fln_engine *engine, const struct fln_guest_opts *opts,
			     struct fln_guest **out);

/**
 * enum fln_discard - What a discarded page reads
 *
 * In a shared region this concerns unfilled pages only.  The kernel raises the same event for
 * MADV_DONTNEED and MADV_REMOVE; for a filled page the page cache shows which it was: its contents
 * come back after MADV_DONTNEED, and are zero after MADV_REMOVE.  For an unfilled page the
 * embedder chooses.
 *
 * In a private region only MADV_DONTNEED is possible, and this choice holds for every page, also
 * for filled and written ones.  With FLN_DISCARD_ZERO discarded pages read zero after
 * fln_guest_stop(), too.  Make sure that no discard is under way during that call: pages discarded
 * meanwhile or afterwards may read the image again.  A page that was discarded before it was
 * filled then reads zero, because the guest's stop punches the contents that an adopted memfd came
 * with out there; it does not if the page is being filled at that time or the image is attached.
 * MADV_FREE counts as a discard, although the kernel refuses it in such a mapping.
 */
enum fln_discard {
	FLN_DISCARD_DEFAULT, /* FLN_DISCARD_ZERO */
	FLN_DISCARD_ZERO,    /* discarded pages read zero, as balloons need */
	FLN_DISCARD_IMAGE,   /* discarded pages read the image's contents */
	FLN_DISCARD_NR
};

/* Whether a guest's writes change the image. */
enum fln_sharing {
	FLN_SHARING_SHARED, /* yes: every mapping of the image shows them */
	/*
	 * No: the first write to a page copies it (MAP_PRIVATE).  Any number of guests
	 * share the image's pages, also while it is being filled; memory is needed for
	 * the image and for the pages that the guests write.  A discard affects only
	 * this guest: see enum fln_discard.
	 *
	 * Changes of the image show in every guest that has not copied the page: writes
	 * and MADV_REMOVE of shared guests, fln_image_discard(), holes punched through
	 * the descriptor.  A hole that is mapped reads zero from then on, also if a
	 * shared guest writes there later; but in a large folio a hole is a page like
	 * those that are filled, and such writes show there (FLN_FOLIO_SMALL has none).
	 *
	 * Not in a foreign guest, and not with an image of huge pages (-EOPNOTSUPP).
	 * In context only with FLN_DISCARD_IMAGE.
	 */
	FLN_SHARING_PRIVATE,
	FLN_SHARING_NR
};

/* Which thread serves a region's faults. */
enum fln_delivery {
	FLN_DELIVERY_QUEUED, /* a worker, while the faulting thread sleeps; for vCPUs */
	/*
	 * The faulting thread itself, in a SIGBUS handler that calls fln_resolve(): no
	 * queue, and no other thread.  See context.h for the rules of such threads.
	 */
	FLN_DELIVERY_IN_CONTEXT,
	FLN_DELIVERY_NR
};

/**
 * struct fln_region_opts - Options of a region
 * @size:               sizeof(struct fln_region_opts)
 * @image:              the image, of the guest's engine
 * @image_offset_bytes: where the region begins in the image, a multiple of @page_bytes
 * @addr:               0: the engine makes the mapping; else the address of the
 *                      caller's mapping of the image (in a foreign guest, of the
 *                      foreign process's memory), a multiple of @page_bytes
 * @len_bytes:          length of the region, a multiple of @page_bytes
 * @page_bytes:         the image's page size, or 0
 * @discard:            enum fln_discard
 * @max_chunks:         2 MiB blocks that can be partly mapped at a time; in further
 *                      blocks a fault maps one page, which residency does not count as
 *                      present; 0: all blocks.  Ignored, as if 0, where the region
 *                      records discards itself (private with FLN_DISCARD_ZERO, foreign)
 * @sharing:            enum fln_sharing; a mapping of the caller's must be of that kind
 *                      (MAP_SHARED, MAP_PRIVATE)
 * @delivery:           enum fln_delivery
 * @node:               NUMA node of the region's memory and of the workers that serve
 *                      it, the kernel's number plus one; 0: any.  Pages of the image
 *                      that are filled already stay where they are
 * @release:            enum fln_release
 * @reserved:           zero
 */
struct fln_region_opts {
	size_t size;
	struct fln_image *image;
	uint64_t image_offset_bytes;
	uint64_t addr;
	uint64_t len_bytes;
	uint32_t page_bytes;
	uint32_t discard;
	uint32_t max_chunks;
	uint32_t sharing;
	uint32_t delivery;
	uint32_t node;
	uint32_t release;
	uint32_t reserved;
};

#define FLN_REGION_OPTS_INIT FLN_SIZED(struct fln_region_opts)

/**
 * fln_region_add() - Add a range of memory to a guest
 * @guest: the guest; if it is running, faults in the range are served at once
 * @opts:  options; not kept
 * @out:   the region; written only on success
 *
 * The caller's mapping may have been touched before.  Its page tables are emptied (not the page
 * cache), so that every page faults; writes to a private mapping are lost by that.  What an
 * earlier region's end has left there (fln_guest_stop()) is replaced by the image.  While the call
 * runs no thread may touch unfilled pages: it could read zeros.  The mapping is not inherited by
 * forked children from now on (MADV_DONTFORK).
 *
 * Return:  0; -EINVAL for a range that is empty, unaligned, too long, wraps or reaches beyond the
 *          image; for a mapping that is locked, or not one of the image, shared or private as
 *          @sharing says; for a node that does not exist; for options that exclude each other;
 *          -EOPNOTSUPP for options that are not supported together; -EEXIST when the range
 *          overlaps a region of this guest, or an in-context region of any guest (the kernel may
 *          choose such a place where part of a region was unmapped: then give an address); -EBUSY
 *          when another userfaultfd has registered it; -EMFILE or -ENFILE; -EPERM or -EACCES when
 *          the guest was released and may not open userfaultfds again; -ENOMEM, also when
 *          stripes or mappings have run out (fln_last_error() counts them).  On failure nothing
 *          stays registered
 * Threads: any, except a thread of the engine
 * Blocks:  for mapping and registering
 */
FLN_API int fln_region_add(struct fln_guest *guest, const struct fln_region_opts *opts,
			   struct fln_region **out);

/**
 * fln_region_addr() - The address of a region
 *
 * Return:  its first byte; in a foreign guest, an address in the foreign process
 * Threads: any
 * Blocks:  no
 */
FLN_API void *fln_region_addr(const struct fln_region *region);

/**
 * fln_region_remove() - Remove a region from its guest; NULL is permitted
 *
 * Makes unfilled pages inaccessible, as fln_guest_stop() does.  Then it unmaps the range if the
 * engine mapped it, except where the embedder has mapped something else since.  Memory that
 * mremap() has moved stays at its new address, inaccessible.  The caller's mapping stays, as
 * fln_guest_stop() leaves it, and is inherited by forked children again (MADV_DOFORK), unless it
 * was not when it was added, or has pages that could only be made inaccessible by PROT_NONE.
 *
 * Return:  0; -EIO as fln_guest_stop(): the region then stays with the guest, and is no longer
 *          served
 * Threads: any, except a thread of the engine
 * Blocks:  until the workers have let go of the region
 */
FLN_API int fln_region_remove(struct fln_region *region);

/**
 * fln_guest_start() - Start serving the guest's faults
 *
 * Before this call, threads that touch unmapped guest memory wait.
 *
 * Return:  0, also when it is running already; -EINVAL when the engine is not running or the
 *          guest was stopped before; -ENOMEM
 * Threads: any, except a thread of the engine
 * Blocks:  until the workers have taken on its shards
 */
FLN_API int fln_guest_start(struct fln_guest *guest);

/**
 * struct fln_release_report - What of a guest has been released, and why the rest has not
 * @size:           sizeof(struct fln_release_report), set by the caller
 * @released_bytes: released so far
 * @unfilled_bytes: blocks with pages that are not filled; in a foreign guest, not copied
 * @failed_bytes:   blocks with poisoned pages
 * @kept_bytes:     blocks that must still be served: with FLN_RELEASE_NEVER; because of what a
 *                  discard must read (see fln_guest_release()); because mremap() has moved other
 *                  memory there; because a huge page of zeros must still be allocated in an
 *                  adopted memfd; or, in a foreign guest, because its process has ended, or pages
 *                  were found in it that the engine had not copied
 * @limited_bytes:  blocks for which no mapping was left, in fln_engine_opts.max_stripes or in
 *                  vm.max_map_count.  In shared memory mappings become free when neighbouring
 *                  blocks are released; in private memory that has pages of its own, not always
 * @busy_bytes:     blocks of which a page was just being mapped, or whose release the kernel has
 *                  refused for now
 *
 * Each byte counts in exactly one of these.  The first and last block may be cut by their region.
 */
struct fln_release_report {
	size_t size;
	uint64_t released_bytes;
	uint64_t unfilled_bytes;
	uint64_t failed_bytes;
	uint64_t kept_bytes;
	uint64_t limited_bytes;
	uint64_t busy_bytes;
};

#define FLN_RELEASE_REPORT_INIT FLN_SIZED(struct fln_release_report)

/**
 * fln_guest_release() - Release the blocks of a guest whose contents are all there
 * @guest: a running guest
 * @out:   what is left and why; may be NULL
 *
 * Released memory is a plain mapping: the kernel resolves its faults, at the cost that they have
 * without userfaultfd, and no worker is needed.  Released memory stays released.  Blocks that are
 * filled later are released by another call, or by themselves with FLN_RELEASE_AUTO.
 *
 * A block is released as a whole, when all of its pages are filled or zero and none is poisoned; in
 * a foreign guest, when all have been copied or discarded.  Private regions with FLN_DISCARD_ZERO
 * and foreign ones with FLN_DISCARD_IMAGE are never released: pages discarded later must read what
 * the kernel alone would not supply.
 *
 * When the last block of a guest has been released, by this call or by itself, or when the last
 * region that had other blocks is removed, the guest's userfaultfds are closed and
 * FLN_EVENT_GUEST_RELEASED is posted.
 * The guest, its image and the engine may then be destroyed, and a mapping of the caller's stays
 * readable and writable.  fln_region_add() opens userfaultfds again.
 *
 * A foreign guest's userfaultfd cannot be opened again, and once it is closed memory that its
 * process has registered and no region covers reads zero.  So it is closed only when this call has
 * been made after the last region was added: call it once all regions have been added, also with
 * FLN_RELEASE_AUTO.  If its last blocks become ready after the call, it is closed then.  Once it is
 * closed, fln_region_add() fails with -EINVAL.
 *
 * Return:  0, also when nothing could be released; -ESHUTDOWN when the guest is not running;
 *          -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  until the guest's workers have looked at all of its blocks once; faults go first
 */
FLN_API int fln_guest_release(struct fln_guest *guest, struct fln_release_report *out);

/**
 * fln_guest_stop() - Stop serving a guest, and make its unfilled pages inaccessible
 *
 * Filled pages stay readable.  Before the userfaultfds are closed, an empty file is mapped over
 * each run of unfilled pages.  A thread that touches them or waits for them gets SIGBUS, as beyond
 * the end of a file; KVM_RUN returns EFAULT and names no address.  Where that is not possible
 * (descriptors or mappings have run out; threads waited for a guest that was never started) the
 * run becomes PROT_NONE: SIGSEGV.  In a foreign guest unfilled pages are poisoned: SIGBUS.  No
 * thread reads zeros where contents are due.  A stopped guest cannot be restarted.
 *
 * Each run takes a mapping, and a stop uses at most an eighth of those that vm.max_map_count
 * leaves to the process.  If there are more runs, filled pages between unfilled ones become
 * inaccessible too, and in a private region also discarded pages; all of these are PROT_NONE then,
 * and the log has their number.
 *
 * Discarded pages of a private region are otherwise mapped as zeros, also while threads write to
 * them: the writers wait meanwhile (before Linux 5.19 they may get SIGSEGV).  In a guest that was
 * never started they become inaccessible.
 *
 * While this runs, no other thread may map anything within a region.
 *
 * The caller's own mapping is left in that state.  fln_region_add() at the same address, with the
 * same image, offset and sharing, maps the image there again and serves it.
 *
 * Return:  0, also when it is not running; -EIO when some unfilled pages could not be made
 *          inaccessible (foreign memory before 6.6, a mapping sealed by mseal(), moved memory
 *          that could not be reached): the guest has stopped, but the userfaultfds of these pages
 *          stay open until the process ends, and a thread that touches them waits forever
 * Threads: any, except a thread of the engine
 * Blocks:  until the workers have let go of the guest and its pages are inaccessible
 */
FLN_API int fln_guest_stop(struct fln_guest *guest);

/**
 * fln_guest_destroy() - Stop a guest, remove its regions and release it; NULL is permitted
 *
 * Return:  0, also where fln_guest_stop() would return -EIO: those pages stay mapped, and a
 *          thread that touches them waits forever
 * Threads: any, except a thread of the engine
 * Blocks:  as fln_guest_stop()
 */
FLN_API int fln_guest_destroy(struct fln_guest *guest);

/**
 * fln_guest_destroy_async() - Destroy a guest on a thread of the engine
 * @cookie: returned in the event; tells the guest from a later one with the same handle
 *
 * Once this has returned 0 the handles of the guest and its regions are invalid.  The guest may
 * still be served for a while.  When its memory is inaccessible or unmapped, and its userfaultfds
 * are closed, FLN_EVENT_GUEST_DESTROYED is posted with the handle and @cookie.  Until then its
 * images are in use, and fln_image_destroy() returns -EBUSY.  Guests are destroyed one after the
 * other, in the order of these calls.  If the queue is full, the event may be among the lost ones
 * that FLN_EVENT_OVERFLOW counts.
 *
 * A guest whose end hangs delays those behind it, for example because a worker is blocked in a
 * callback of the embedder's, which FLN_EVENT_WORKER_STALLED reports.  If descriptors, mappings or
 * memory have run out, each region may take some 10 s; pages that could not be made inaccessible
 * are then logged, and the event's error is -EIO.
 *
 * fln_engine_stop() and fln_engine_destroy() wait for guests that are being destroyed.  If the
 * engine is not running, this call destroys the guest and posts the event itself.
 *
 * Return:  0; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  no; as fln_guest_destroy() if the engine is not running
 */
FLN_API int fln_guest_destroy_async(struct fln_guest *guest, uint64_t cookie);

/**
 * fln_guest_stats() - A guest's counters
 * @out: its size field must be set, see FLN_STATS_INIT
 *
 * Counters change while they are read: each is exact, sums of them may be off by a few faults.
 *
 * Return:  0; -EINVAL
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_guest_stats(struct fln_guest *guest, struct fln_stats *out);

/**
 * fln_guest_nr_shards() - The number of userfaultfds that serve a guest
 *
 * Return:  the number
 * Threads: any
 * Blocks:  no
 */
FLN_API uint32_t fln_guest_nr_shards(const struct fln_guest *guest);

/**
 * fln_shard_stats() - The counters of one shard of a guest
 * @shard: 0 to fln_guest_nr_shards() - 1
 *
 * Return:  0; -EINVAL
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_shard_stats(struct fln_guest *guest, uint32_t shard, struct fln_stats *out);

#ifdef __cplusplus
}
#endif

#endif
