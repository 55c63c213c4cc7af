/* SPDX-License-Identifier: MIT */
/*
 * The engine: one per process.  It owns the workers (the pinned threads that
 * answer faults), the fillers (the threads that read sources) and the budget
 * of mappings.
 */
#ifndef FAULTLANE_ENGINE_H
#define FAULTLANE_ENGINE_H

#include <faultlane/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fln_engine;

enum fln_engine_flags {
	/* Do not pin workers to processors. */
	FLN_ENGINE_F_NO_PIN = 1 << 0,
	/*
	 * Ask the kernel for userfaultfds that see faults of user mode only.
	 * That needs no privilege, and faults that the kernel takes on a
	 * guest's behalf (system calls, KVM) then fail.
	 */
	FLN_ENGINE_F_USER_MODE_ONLY = 1 << 1,
};

/* What a thread of the engine is for. */
enum fln_thread_kind {
	FLN_THREAD_WORKER, /* answers faults */
	FLN_THREAD_FILLER, /* reads sources */
	FLN_THREAD_LINK,   /* hears the process whose image is attached; @index is 0 */
	FLN_THREAD_GUARD,  /* watches the others; @index is 0 */
	FLN_THREAD_ENDER,  /* ends guests, made when the first is to end; @index is 0 */
	FLN_THREAD_NR_KINDS
};

/**
 * struct fln_thread_hooks - How the engine's threads are made
 * @size:   sizeof(struct fln_thread_hooks)
 * @ctx:    passed to both functions
 * @create: optional.  Make a thread, or take one of the embedder's own, that calls
 *          @main(@arg) once and then ends or goes back to where it came from; set
 *          *@handle to what @join needs.  @kind and @index say what it is for.
 *          Returns 0 or a negative errno: then @main has not been and is not called,
 *          and fln_engine_start() fails with it
 * @join:   with @create, and only then: wait until @main has returned
 *
 * Inside @main the engine blocks all signals, names the thread (fln-worker-N,
 * fln-filler-N, fln-link-0, fln-guard-0, fln-ender-0), pins workers unless told not to, and gives them
 * precedence.  The thread cannot be cancelled.  When @main returns, name, processors, nice
 * value, signal mask and cancellation are what they were (a nice value that was raised
 * comes down only as far as RLIMIT_NICE permits).
 * @create is called with all signals blocked: a thread that it makes inherits that.
 *
 * Threads: called by fln_engine_start(), fln_engine_stop(), fln_engine_destroy(),
 *          fln_image_attach() and fln_image_destroy(), on their callers' threads, and
 *          @create for FLN_THREAD_ENDER by the engine's guard, which does that thread's
 *          work itself where @create fails; no lock held
 * Blocks:  @create may; @main need not have been called when it returns
 */
struct fln_thread_hooks {
	size_t size;
	void *ctx;
	int (*create)(void *ctx, enum fln_thread_kind kind, uint32_t index,
		      void *(*main)(void *arg), void *arg, void **handle);
	void (*join)(void *ctx, void *handle);
};

/**
 * struct fln_engine_opts - Options of an engine; zero means the default
 * @size:              sizeof(struct fln_engine_opts)
 * @allocator:         where memory comes from; NULL: the C library.  Copied.
 * @log:               receives messages; NULL: none
 * @log_ctx:           passed to @log
 * @flags:             FLN_ENGINE_F_*; unknown bits are refused
 * @spin_ns:           how long a worker polls before it sleeps, when faults
 *                     arrive more densely than that; 0: 200 us for a worker that
 *                     has a processor to itself (see @vcpu_cpus), else not at all;
 *                     UINT64_MAX: never
 * @source_timeout_ns: a page that its source has not delivered by then is
 *                     treated as failed; 0: 30 s, UINT64_MAX: wait for ever.
 *                     Counted from the fault: waiting for a filler thread
 *                     behind other reads, and reads that failed and are tried
 *                     again, are part of it; time in which the process was
 *                     stopped is not.  Give it several times what the
 *                     slowest read takes.  Images without a source have none:
 *                     faults wait for fln_image_put() as long as it takes
 * @nr_workers:        threads that answer faults, at most 64; 0: one per 8 processors
 *                     that this process may use, at least two and one for each NUMA
 *                     node that has processors and memory, but not more than there
 *                     are processors for them, see @worker_cpus and @vcpu_cpus
 * @nr_fillers:        threads that read sources; 0: 4.  While images have different
 *                     sources, one source has at most half of the threads, and
 *                     the last free one goes only to a source that has none.
 *                     So with two or more a source that hangs does not hold up
 *                     the images of others.  Each further one that hangs at the same
 *                     time takes half of what is left: raise it where that may happen
 * @batch_max:         messages taken by one read(), 1 to 256; 0: 64
 * @held_max:          faults that one worker can hold while their contents are
 *                     read, @batch_max to 1048576; beyond that it leaves faults
 *                     with the kernel; 0: 4096
 * @fill_pages:        pages that one source read covers, a power of two up to
 *                     512; 0: 64
 * @source_retries:    how often a failed read is tried again before its pages
 *                     count as failed; 0: 3, UINT32_MAX: never
 * @max_stripes:       mappings that all guests together may use; 0: a quarter
 *                     of vm.max_map_count
 * @worker_nice:       nice value of the workers, -20 to 19.  A worker that waits
 *                     for a processor behind the threads that wait for it helps
 *                     nobody; 0: -20 where that is permitted (CAP_SYS_NICE or
 *                     RLIMIT_NICE), else as it is; FLN_NICE_KEEP: as it is
 * @reserved:          zero
 * @stall_report_ms:   a fault that has waited for so long, or a worker that has not come
 *                     back to its loop for so long, is told of, once, by an event
 *                     (FLN_EVENT_FAULT_STALLED, FLN_EVENT_WORKER_STALLED) and in the
 *                     log; 0: 10 000, UINT32_MAX: never.  Nothing is done about it: that
 *                     is @source_timeout_ns
 * @thread_hooks:      how workers and fillers are made; NULL: by the engine.  Copied
 * @worker_cpus:       processors that workers may run on, as "0-3,8"; NULL: all
 *                     that this process may use, less @vcpu_cpus where any are left
 * @vcpu_cpus:         processors that vCPUs run on, as "4-63": each worker is pinned
 *                     to another one of its NUMA node, and polls there (@spin_ns).
 *                     A worker never leaves its node, which would be worse: where
 *                     this list has all of a node's it shares one, also when other
 *                     nodes have some free.  NULL: not known;
 *                     workers move among the processors of their NUMA node, and so
 *                     mostly run where the thread that faults has gone to sleep,
 *                     which is the cheapest place to be woken
 */
struct fln_engine_opts {
	size_t size;
	const struct fln_allocator *allocator;
	fln_log_fn log;
	void *log_ctx;
	uint64_t flags;
	uint64_t spin_ns;
	uint64_t source_timeout_ns;
	uint32_t nr_workers;
	uint32_t nr_fillers;
	uint32_t batch_max;
	uint32_t held_max;
	uint32_t fill_pages;
	uint32_t source_retries;
	uint32_t max_stripes;
	int32_t worker_nice;
	uint32_t reserved;
	uint32_t stall_report_ms;
	const struct fln_thread_hooks *thread_hooks;
	const char *worker_cpus;
	const char *vcpu_cpus;
};

/* worker_nice: leave the workers' nice value alone. */
#define FLN_NICE_KEEP INT32_MIN

#define FLN_ENGINE_OPTS_INIT FLN_SIZED(struct fln_engine_opts)

/**
 * fln_engine_create() - Make an engine; no thread runs yet
 * @opts: options, or NULL for all defaults; not kept
 * @out:  the engine; written only on success
 *
 * Return:  0; -EINVAL or -E2BIG for options (fln_last_error() names the field);
 *          -ENOMEM; -ENOSYS when the kernel has no userfaultfd; -EOPNOTSUPP when its
 *          lacks a feature that is needed; -EAGAIN where no thread can be made
 *          (the one that waits for readers of memory which is to be freed), and
 *          -EPERM where a filter refuses that.  A user that may not have a userfaultfd is
 *          refused by fln_guest_create(): an engine of foreign guests alone needs none
 * Threads: any
 * Blocks:  briefly (reads the machine's topology)
 */
FLN_API int fln_engine_create(const struct fln_engine_opts *opts, struct fln_engine **out);

/**
 * fln_engine_start() - Start workers and fillers
 *
 * Return:  0, also when it runs already; -EAGAIN where threads cannot be made,
 *          -EPERM where a filter refuses them, -ENOMEM, or what thread_hooks.create returned: nothing is left running
 *          then; -EBUSY when fln_engine_stop() has not ended with 0 since
 * Threads: any, except a thread of this engine
 * Blocks:  until the threads run
 */
FLN_API int fln_engine_start(struct fln_engine *engine);

/**
 * fln_engine_stop() - Stop every guest, then the workers and fillers
 *
 * Guests are stopped as by fln_guest_stop(): what was never filled becomes
 * unreadable, it never reads as zeros.  Its -EIO is only logged here.  From the
 * beginning of the call no guest can be started, or made, until it has returned.
 *
 * Return:  0, also when it does not run; -ETIMEDOUT when a source read has not
 *          come back within the source timeout: everything else has stopped,
 *          call again
 * Threads: any, except a thread of this engine
 * Blocks:  for reads in flight, up to the source timeout
 */
FLN_API int fln_engine_stop(struct fln_engine *engine);

/**
 * fln_engine_destroy() - Stop, then release; NULL is permitted
 *
 * Guests and images must have been destroyed before.
 *
 * Return:  0; -EBUSY when guests or images are left (fln_last_error() counts
 *          them); -ETIMEDOUT as fln_engine_stop(): the engine stays usable for
 *          another call
 * Threads: any, except a thread of this engine
 * Blocks:  as fln_engine_stop()
 */
FLN_API int fln_engine_destroy(struct fln_engine *engine);

/**
 * fln_engine_nr_workers() - How many threads answer faults
 *
 * Return:  the number, also when none of them runs yet
 * Threads: any
 * Blocks:  no
 */
FLN_API uint32_t fln_engine_nr_workers(const struct fln_engine *engine);

/* What a machine and a user can have; a bit each in fln_query_features(). */
enum fln_feature {
	FLN_FEATURE_QUEUED = 1 << 0,      /* regions of shmem: without it there is no engine */
	FLN_FEATURE_KERNEL_MODE = 1 << 1, /* faults of system calls and KVM are served, too */
	FLN_FEATURE_POISON = 1 << 2,      /* single pages can be made unreadable (6.6) */
	FLN_FEATURE_IN_CONTEXT = 1 << 3,  /* FLN_DELIVERY_IN_CONTEXT */
	FLN_FEATURE_HUGE = 1 << 4,        /* images of 2 MiB pages; they must be reserved, too */
	/* 1 << 5 is not used any more. */
	FLN_FEATURE_COLLAPSE = 1 << 6, /* fln_guest_collapse() */
	FLN_FEATURE_PIN = 1 << 7,      /* workers may be pinned */
	FLN_FEATURE_NICE = 1 << 8,     /* workers may have precedence */
	FLN_FEATURE_NUMA = 1 << 9,     /* there are several nodes with memory */
};

/**
 * fln_query_features() - What this kernel and this user permit
 * @flags: as fln_engine_opts.flags
 * @out:   FLN_FEATURE_* bits; written only on success
 *
 * Return:  0, also when it is nothing; -EINVAL
 * Threads: any
 * Blocks:  briefly
 */
FLN_API int fln_query_features(uint64_t flags, uint64_t *out);

#ifdef __cplusplus
}
#endif

#endif
