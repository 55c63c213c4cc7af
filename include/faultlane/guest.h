/* SPDX-License-Identifier: MIT */
/*
 * A guest: one VM's memory, a set of regions that are served together.
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

enum fln_guest_flags {
	/*
	 * The guest's memory lives in another process, which made and
	 * registered @foreign_uffd and handed it over: one shard, missing
	 * faults only, answered by copying from the image.  It needs no privilege.
	 * docs/EMBEDDING.md says what the descriptor must be.
	 */
	FLN_GUEST_F_FOREIGN = 1 << 0,
	/* 1 << 1 had forks followed; it is refused. */
	/*
	 * vCPUs of KVM touch the memory.  Their faults cost several times
	 * those of threads, so windows begin with as much as one fault is worth there:
	 * the default of @window_first is 256 pages.  Nothing else depends on it.
	 */
	FLN_GUEST_F_KVM = 1 << 2,
};

/* What is done when a page fails: its source failed, or is too late. */
enum fln_on_failure {
	FLN_ON_FAILURE_DEFAULT, /* FLN_ON_FAILURE_POISON */
	FLN_ON_FAILURE_POISON,  /* a thread that touches it gets SIGBUS */
	/*
	 * As POISON, and the guest has failed: FLN_EVENT_GUEST_FAILED tells the
	 * embedder, which ends the virtual machine, and from then on every page that
	 * is not there is poisoned at once, without asking its source.
	 */
	FLN_ON_FAILURE_STOP,
	FLN_ON_FAILURE_ASK, /* fln_guest_opts.ask decides each time */
	FLN_ON_FAILURE_NR
};

/* What fln_ask_fn wants to be done. */
enum fln_answer {
	FLN_ANSWER_POISON,
	FLN_ANSWER_RETRY, /* read the source again now; ask again if that fails too */
	FLN_ANSWER_WAIT,  /* ask again in 100 ms; threads that wait for the page wait on */
	FLN_ANSWER_STOP,  /* as FLN_ON_FAILURE_STOP */
	FLN_ANSWER_NR
};

/**
 * struct fln_failure - A page that has failed
 * @size:               sizeof(struct fln_failure)
 * @guest:              whose fault it was
 * @addr:               the page that was touched
 * @image_offset_bytes: where its contents are in the image
 * @image:              the image
 * @nr_attempts:        how often it has failed, this time included; asking again after
 *                      FLN_ANSWER_WAIT is no attempt
 * @nr_asked:           how often this fault has been asked about, this time included: to
 *                      put an end to FLN_ANSWER_WAIT
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
 * typedef fln_ask_fn - What to do about a page that has failed
 *
 * Return:  enum fln_answer; what is none of them counts as FLN_ANSWER_POISON
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
 * @nr_vcpus:     threads that are expected to touch the memory at a time; it
 *                decides the number of shards; 0: 64
 * @nr_shards:    userfaultfds over which the memory is spread, at most 1024;
 *                0: from @nr_vcpus and the number of workers
 * @window_first: pages that the first fault in a 2 MiB block resolves, a power
 *                of two, 1 to 512; 0: the measured default, 8, or 256 with
 *                FLN_GUEST_F_KVM; with FLN_GUEST_F_FOREIGN one, and more where the
 *                guest turns out to touch most of them
 * @window_max:   pages that one fault resolves at most, a power of two, at least
 *                @window_first; 0: 512, or 64 with FLN_GUEST_F_FOREIGN and no
 *                @window_first.  Equal to @window_first: a fixed window.
 * @foreign_uffd: with FLN_GUEST_F_FOREIGN: the descriptor, which the guest takes
 *                over when fln_guest_create() succeeds; otherwise 0
 * @on_failure:   enum fln_on_failure
 * @ask:          with FLN_ON_FAILURE_ASK: makes the decision; otherwise NULL
 * @ask_ctx:      passed to @ask
 * @max_failures: how often a page's source may fail, or be late, before what
 *                @on_failure says is done: beyond the engine's source_retries; 0:
 *                once.  Each time but the last is followed by a pause of a second,
 *                for each page that cannot be read.  With FLN_ON_FAILURE_ASK: 0
 * @reserved:     zero
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
	uint32_t reserved;
};

#define FLN_GUEST_OPTS_INIT FLN_SIZED(struct fln_guest_opts)

/**
 * fln_guest_create() - Make a guest without regions
 * @engine: the engine that serves it
 * @opts:   options, or NULL for all defaults; not kept
 * @out:    the guest; written only on success
 *
 * Return:  0; -EINVAL, -E2BIG for options, and where @foreign_uffd is no
 *          userfaultfd; -EPERM or -EACCES when this user may have none
 *          (fln_last_error() names the remedy), -EMFILE or -ENFILE when there are
 *          no more; none of these in a foreign guest, which needs no privilege;
 *          -ENOMEM; -EBUSY while the engine is being stopped
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_guest_create(struct fln_engine *engine, const struct fln_guest_opts *opts,
			     struct fln_guest **out);

/**
 * enum fln_discard - What a REMOVE event means for pages that were never filled
 *
 * The kernel tells of MADV_DONTNEED and MADV_REMOVE by the same event.  For a
 * page that was filled, the page cache knows which it was: contents come back
 * after the first and are zero after the second.  A page that was not filled
 * has left no trace, and the embedder says what is due.
 *
 * In a private region there is MADV_DONTNEED only, and it says for all pages, also
 * for those that were filled or written, what is due.  FLN_DISCARD_ZERO is kept up
 * beyond the end: pages that were given up read zero after fln_guest_stop() too;
 * but see to it that no discard is under way then: what it gives up may read the
 * image's contents again, as does what is given up after that.  Where the image has
 * none, because the page was given up before it was filled, that is zero: what an adopted
 * memfd came with is punched out there when the guest stops, unless the page is being
 * filled just then, or the image is attached.  MADV_FREE, which the kernel refuses in such
 * a mapping, counts as a discard nonetheless.
 */
enum fln_discard {
	FLN_DISCARD_DEFAULT, /* FLN_DISCARD_ZERO */
	FLN_DISCARD_ZERO,    /* discards are meant: it reads zero, as balloons need */
	FLN_DISCARD_IMAGE,   /* the image's contents are still due */
	FLN_DISCARD_NR
};

/* Whose a guest's writes are. */
enum fln_sharing {
	FLN_SHARING_SHARED, /* the image's: every mapping of it shows them */
	/*
	 * The guest's alone: the first write to a page copies it (MAP_PRIVATE).  Any
	 * number of guests share one image's pages as far as they only read, also
	 * while it is being filled, and memory is needed for the image and for what
	 * they write.  A discard is the guest's own affair, too: see enum fln_discard.
	 *
	 * What changes the image shows in all guests that have not copied the page: writes of
	 * shared guests and their MADV_REMOVE, fln_image_discard(), holes punched
	 * through the descriptor.  A hole is zero from the moment on when it is mapped,
	 * also if a shared guest writes there later.
	 *
	 * Not in a foreign guest, and not with an image of huge pages (-EOPNOTSUPP).
	 * With discards that read zero, not served in context.
	 */
	FLN_SHARING_PRIVATE,
	FLN_SHARING_NR
};

/* How a region's faults come to be served. */
enum fln_delivery {
	FLN_DELIVERY_QUEUED, /* by a worker, while the thread sleeps; for vCPUs */
	/*
	 * By the faulting thread itself, in a SIGBUS that fln_resolve() answers: no
	 * queue, no other thread.  See context.h for what such threads must do.
	 */
	FLN_DELIVERY_IN_CONTEXT,
	FLN_DELIVERY_NR
};

/**
 * struct fln_region_opts - Options of a region
 * @size:               sizeof(struct fln_region_opts)
 * @image:              where its contents live; made with the guest's engine
 * @image_offset_bytes: where in the image it begins, a multiple of @page_bytes
 * @addr:               0: the engine makes the mapping; else an address of the
 *                      caller's own mapping of the image (of the foreign
 *                      process's, in a foreign guest), a multiple of @page_bytes
 * @len_bytes:          its length, a multiple of @page_bytes
 * @page_bytes:         size of its pages, the image's; 0: the image's
 * @discard:            enum fln_discard
 * @max_chunks:         2 MiB blocks that can be partly mapped at a time; beyond
 *                      that a fault resolves one page, which residency does not
 *                      call present; 0: all blocks.  All, too, where discards of
 *                      its own are to be remembered (private with
 *                      FLN_DISCARD_ZERO, foreign)
 * @sharing:            enum fln_sharing.  A mapping of the caller's own must have
 *                      been made so (MAP_SHARED, MAP_PRIVATE)
 * @delivery:           enum fln_delivery
 * @node:               NUMA node that its memory lies on and whose workers serve
 *                      it, the kernel's number plus one; 0: any.  What the image has
 *                      been filled with before lies where it lies
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
};

#define FLN_REGION_OPTS_INIT FLN_SIZED(struct fln_region_opts)

/**
 * fln_region_add() - Give a guest a range of memory
 * @guest: running or not; when it runs, faults in the range are served at once
 * @opts:  options; not kept
 * @out:   the region; written only on success
 *
 * A mapping of the caller's may have been touched before: its page tables are
 * emptied (the page cache is not), so that every page faults again; what was
 * written to a private mapping before is lost by that.  What the end of an earlier region has
 * left in its place (fln_guest_stop()) becomes a mapping of the image again.  Nobody may
 * touch pages that are not filled while the call runs: what comes between reads
 * zeros.  The mapping is left out of children from now on (MADV_DONTFORK).
 *
 * Return:  0; -EINVAL for a range that is unaligned, empty, too long or wraps, for a
 *          node that is not there, or
 *          reaches beyond its image, or whose mapping is not one of that image,
 *          shared or private as @sharing says, or is locked, and for what does not go
 *          together with a private region; -EOPNOTSUPP for that served in context;
 *          -EEXIST when it overlaps a region, one in context of another guest too (also
 *          without an address, when the kernel puts it where a part of that one has been
 *          unmapped: give it another place); -EBUSY when somebody else's userfaultfd has
 *          it; -EMFILE or -ENFILE; -ENOMEM, also when mappings run out (fln_last_error()
 *          counts them).  Nothing stays registered then.
 * Threads: any, except a thread of the engine
 * Blocks:  for mapping and registering
 */
FLN_API int fln_region_add(struct fln_guest *guest, const struct fln_region_opts *opts,
			   struct fln_region **out);

/**
 * fln_region_addr() - Where a region is mapped
 *
 * Return:  its first byte (in the foreign process, in a foreign guest)
 * Threads: any
 * Blocks:  no
 */
FLN_API void *fln_region_addr(const struct fln_region *region);

/**
 * fln_region_remove() - Take a region from its guest; NULL is permitted
 *
 * Fails closed as fln_guest_stop() does, then unmaps the range if the engine
 * mapped it, except where the embedder has put something else.  What mremap() has
 * moved away stays at its new place, unreadable.  An adopted mapping stays, as
 * fln_guest_stop() leaves it.  It is copied to children again (MADV_DOFORK), unless it was not
 * when it was added, or has pages that could only be made unreadable as PROT_NONE.
 *
 * Return:  0; -EIO as fln_guest_stop(): then it stays with the guest, and is not
 *          served any more
 * Threads: any, except a thread of the engine
 * Blocks:  until the workers have let go of it
 */
FLN_API int fln_region_remove(struct fln_region *region);

/**
 * fln_guest_start() - Serve the guest's faults from now on
 *
 * Until it is called a touch of the guest's memory waits.
 *
 * Return:  0, also when it runs already; -EINVAL when the engine does not run or
 *          the guest was stopped before; -ENOMEM
 * Threads: any, except a thread of the engine
 * Blocks:  until the workers have taken it on
 */
FLN_API int fln_guest_start(struct fln_guest *guest);

/**
 * fln_guest_stop() - Stop serving, and fail closed
 *
 * What is filled stays readable.  What is not becomes unreadable before the
 * userfaultfds are closed: a file without pages is mapped over it, run by run, and a thread
 * that touches it, or waits for it now, gets SIGBUS, as beyond the end of a file; KVM_RUN
 * returns EFAULT there and names no address.  Where that is not possible (descriptors or
 * mappings have run out; threads that waited for a guest that was never started) it becomes
 * PROT_NONE: SIGSEGV.
 * In another process's memory (FLN_GUEST_F_FOREIGN) it is poisoned: SIGBUS.  No thread
 * reads zeros where contents are due.  A guest cannot be started again.
 *
 * Each run is a mapping.  Where filled and unfilled pages alternate more often than mappings
 * are left for (an eighth of those that vm.max_map_count leaves to the process), filled pages
 * between unfilled ones become unreadable too, and in a private region what was given up; all
 * of that is PROT_NONE then, and the log says how many pages.  Otherwise what a private region's guest gave up becomes zeros of the
 * process's own, also while it is being written to: threads that write there wait (before Linux
 * 5.19 they may get SIGSEGV meanwhile); that of a guest that was never started unreadable.
 * Nobody may put something else where a region is while this runs.
 *
 * A mapping of the embedder's keeps what lies there now.  fln_region_add() of the same place,
 * with the same image, offset and sharing, maps the image there again and serves it.
 *
 * Return:  0, also when it does not run; -EIO when unfilled pages could not be made
 *          unreadable (another process's memory before 6.6, a sealed mapping, what
 *          mremap() has moved and could not be reached): the guest has stopped, but the
 *          userfaultfds of these pages stay open until the process ends, so that
 *          a thread that touches them waits for ever
 * Threads: any, except a thread of the engine
 * Blocks:  until the workers have let go of it and the range is closed
 */
FLN_API int fln_guest_stop(struct fln_guest *guest);

/**
 * fln_guest_destroy() - Stop, remove the regions, release; NULL is permitted
 *
 * Return:  0; pages that could not be made unreadable stay mapped, and a thread that
 *          touches them waits for ever (fln_guest_stop())
 * Threads: any, except a thread of the engine
 * Blocks:  as fln_guest_stop()
 */
FLN_API int fln_guest_destroy(struct fln_guest *guest);

/**
 * fln_guest_destroy_async() - The same on a thread of the engine, which tells when it is done
 * @cookie: what the event is to carry; a later guest may have the same handle
 *
 * The handle and its regions' are gone when this returns 0: no other call takes them. The guest
 * may be served on for a while. When all is done (its memory unreadable or unmapped, its
 * userfaultfds closed) FLN_EVENT_GUEST_DESTROYED comes, with the handle and @cookie: until then
 * its images are in use, and fln_image_destroy() returns -EBUSY.  Guests end one after the
 * other, in the order in which they were given.  The event can be among those that an
 * FLN_EVENT_OVERFLOW speaks of.
 *
 * Where an end hangs, because a worker does not come back from a function of the embedder's,
 * those behind it wait; FLN_EVENT_WORKER_STALLED tells of the worker.  So do they where
 * descriptors, mappings or memory have run out, for some 10 s for each region; what could not
 * be made unreadable then is in the log, and the event's error is -EIO.
 *
 * fln_engine_stop() and fln_engine_destroy() wait for those that are under way.  While the
 * engine does not run the guest is destroyed before this returns, and the event has come.
 *
 * Return:  0; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  no; as fln_guest_destroy() while the engine does not run
 */
FLN_API int fln_guest_destroy_async(struct fln_guest *guest, uint64_t cookie);

/**
 * fln_guest_stats() - What has happened so far
 * @out: its size field must be set, see FLN_STATS_INIT
 *
 * Return:  0; -EINVAL
 * Threads: any
 * Blocks:  no.  Counters are read while they move: each is right, sums of them
 *          may be a few faults apart
 */
FLN_API int fln_guest_stats(struct fln_guest *guest, struct fln_stats *out);

/**
 * fln_guest_nr_shards() - Over how many userfaultfds the guest is spread
 *
 * Return:  the number
 * Threads: any
 * Blocks:  no
 */
FLN_API uint32_t fln_guest_nr_shards(const struct fln_guest *guest);

/**
 * fln_shard_stats() - The same as fln_guest_stats() for one shard
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
