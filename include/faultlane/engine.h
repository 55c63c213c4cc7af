/* SPDX-License-Identifier: MIT */
/*
 * The engine: one per process.  It owns the workers (threads that serve faults),
 * the fillers (threads that read sources) and the budget of stripes.
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
	 * Create userfaultfds that handle faults from user mode only, which needs
	 * no privilege.  Faults taken in the kernel on a guest's behalf (system
	 * calls, KVM) then fail.
	 */
	FLN_ENGINE_F_USER_MODE_ONLY = 1 << 1,
};

/* The role of a thread of the engine. */
enum fln_thread_kind {
	FLN_THREAD_WORKER, /* serves faults */
	FLN_THREAD_FILLER, /* reads sources */
	FLN_THREAD_LINK,   /* receives from the owner of an attached image; @index is 0 */
	FLN_THREAD_GUARD,  /* reports stalls; @index is 0 */
	FLN_THREAD_ENDER,  /* ends guests, created when the first is to end; @index is 0 */
	FLN_THREAD_NR_KINDS
};

/**
 * struct fln_thread_hooks - Functions that create the engine's threads
 * @size:   sizeof(struct fln_thread_hooks)
 * @ctx:    passed to both functions
 * @create: optional.  Create a thread, or borrow one, that calls @main(@arg) once, and
 *          set *@handle to what @join needs.  @kind and @index identify the thread.
 *          Returns 0, or a negative errno: then @main must never be called, and
 *          fln_engine_start() fails with that errno
 * @join:   required with @create, and NULL without: wait until @main has returned
 *
 * In @main the engine blocks all signals and cancellation, names the thread (fln-worker-N,
 * fln-filler-N, fln-link-0, fln-guard-0, fln-ender-0), and pins and renices workers as the
 * options say.  When @main returns it has restored the thread's name, affinity, nice value,
 * signal mask and cancel state (a nice value that was raised comes down again only as far as
 * RLIMIT_NICE permits).  @create is called with all signals blocked, and a new thread inherits
 * that.
 *
 * Threads: called by fln_engine_start(), fln_engine_stop(), fln_engine_destroy(),
 *          fln_image_attach() and fln_image_destroy() on their callers' threads, and
 *          @create for FLN_THREAD_ENDER on the engine's guard, which does the ender's
 *          work itself if @create fails; no lock is held
 * Blocks:  @create may; it may return before @main is called
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
 * @allocator:         allocates the library's memory; NULL: the C library.  Copied
 * @log:               receives messages; may be NULL
 * @log_ctx:           passed to @log
 * @flags:             FLN_ENGINE_F_*; unknown bits are refused
 * @spin_ns:           how long a worker polls before it sleeps, while faults arrive
 *                     at shorter intervals than that; 0: 200 us for a worker with a
 *                     processor of its own (see @vcpu_cpus), no polling for others;
 *                     UINT64_MAX: no polling
 * @source_timeout_ns: a page that has not come from its source by then counts as
 *                     failed; 0: 30 s, UINT64_MAX: no timeout.  It runs from the
 *                     fault, so it includes waiting for a filler behind other
 *                     reads, and retries; time in which the process was stopped
 *                     does not count.  Use several times the longest read.  It
 *                     does not apply to images without a source: their faults wait
 *                     for fln_image_put() without limit
 * @nr_workers:        threads that serve faults, at most 64; 0: one per 8 processors
 *                     that this process may use, at least two, and at least one per
 *                     NUMA node with processors and memory, but not more than there
 *                     are processors for them (@worker_cpus, @vcpu_cpus)
 * @nr_fillers:        threads that read sources; 0: 4.  While images have different
 *                     sources, one source gets at most half of the threads, and the
 *                     last free thread only goes to a source that has none.  So with
 *                     two or more threads a source that hangs does not delay other
 *                     sources.  Each further source that hangs takes half of the
 *                     remaining threads: raise it if several may hang at once
 * @batch_max:         messages that one read() takes at most, 1 to 256; 0: 64
 * @held_max:          faults that one worker can hold while their contents are
 *                     read, @batch_max to 1048576; further faults stay with the
 *                     kernel until there is room; 0: 4096
 * @fill_pages:        pages that one source read covers, a power of two up to
 *                     512; 0: 64
 * @source_retries:    how often a failed read is repeated before its pages count as
 *                     failed; 0: 3, UINT32_MAX: never
 * @max_stripes:       stripes of all guests together, each of which is a mapping;
 *                     0: a quarter of vm.max_map_count
 * @worker_nice:       nice value of the workers, -20 to 19.  A worker should not
 *                     wait for a processor behind the threads whose faults it
 *                     serves; 0: -20 if permitted (CAP_SYS_NICE or RLIMIT_NICE),
 *                     else unchanged; FLN_NICE_KEEP: unchanged
 * @reserved:          zero
 * @stall_report_ms:   report, once, a fault that has waited this long, and a worker
 *                     that has not finished a round for this long, by an event
 *                     (FLN_EVENT_FAULT_STALLED, FLN_EVENT_WORKER_STALLED) and in the
 *                     log; 0: 10 000, UINT32_MAX: never.  It only reports:
 *                     @source_timeout_ns is what ends a wait
 * @thread_hooks:      create the engine's threads; NULL: the engine does.  Copied
 * @worker_cpus:       processors that workers may run on, such as "0-3,8"; NULL: all
 *                     that this process may use, less @vcpu_cpus if any are left
 * @vcpu_cpus:         processors that vCPUs run on, such as "4-63": each worker is
 *                     pinned to another processor of its NUMA node, and polls there
 *                     (@spin_ns).  A worker never leaves its node, which would cost
 *                     more: if the list has every processor of a node, the worker
 *                     shares one of them.  NULL: not known; workers move among the
 *                     processors of their node, and so mostly run where the faulting
 *                     thread has gone to sleep, which makes waking it cheapest
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

/* For worker_nice: do not change it. */
#define FLN_NICE_KEEP INT32_MIN

#define FLN_ENGINE_OPTS_INIT FLN_SIZED(struct fln_engine_opts)

/**
 * fln_engine_create() - Create an engine, which has no workers yet
 * @opts: options, or NULL for all defaults; not kept
 * @out:  the engine; written only on success
 *
 * Return:  0; -EINVAL or -E2BIG for options (fln_last_error() names the field); -ENOMEM;
 *          -ENOSYS when the kernel has no userfaultfd; -EOPNOTSUPP when its userfaultfd lacks
 *          a required feature; -EAGAIN when the RCU thread cannot be created, -EPERM when a
 *          seccomp filter refuses it.  Whether this user may create userfaultfds is checked by
 *          fln_guest_create(), since an engine of foreign guests alone needs none
 * Threads: any
 * Blocks:  briefly (reads the machine's topology)
 */
FLN_API int fln_engine_create(const struct fln_engine_opts *opts, struct fln_engine **out);

/**
 * fln_engine_start() - Start workers and fillers
 *
 * Return:  0, also when it is running already; -EAGAIN when threads cannot be created, -EPERM
 *          when a seccomp filter refuses them, -ENOMEM, or the errno of thread_hooks.create: no
 *          thread is left running then; -EBUSY when the last fln_engine_stop() failed
 * Threads: any, except a thread of this engine
 * Blocks:  until the threads run
 */
FLN_API int fln_engine_start(struct fln_engine *engine);

/**
 * fln_engine_stop() - Stop every guest, then the workers and fillers
 *
 * Guests are stopped as by fln_guest_stop(): unfilled pages become inaccessible, and never read as
 * zeros.  Its -EIO is only logged here.  While this call runs no guest can be created or started.
 *
 * Return:  0, also when it is not running; -ETIMEDOUT when a source read has not returned within
 *          the source timeout: everything else has stopped, call again
 * Threads: any, except a thread of this engine
 * Blocks:  for reads in flight, up to the source timeout
 */
FLN_API int fln_engine_stop(struct fln_engine *engine);

/**
 * fln_engine_destroy() - Stop, then release; NULL is permitted
 *
 * Its guests and images must have been destroyed.
 *
 * Return:  0; -EBUSY when guests or images are left (fln_last_error() counts them); -ETIMEDOUT as
 *          fln_engine_stop(): the engine remains, call again
 * Threads: any, except a thread of this engine
 * Blocks:  as fln_engine_stop()
 */
FLN_API int fln_engine_destroy(struct fln_engine *engine);

/**
 * fln_engine_nr_workers() - The number of workers
 *
 * Return:  the number, also before fln_engine_start()
 * Threads: any
 * Blocks:  no
 */
FLN_API uint32_t fln_engine_nr_workers(const struct fln_engine *engine);

/* Features of a machine and a user: the bits of fln_query_features(). */
enum fln_feature {
	FLN_FEATURE_QUEUED = 1 << 0,      /* regions of shmem: an engine needs it */
	FLN_FEATURE_KERNEL_MODE = 1 << 1, /* faults in system calls and KVM are served */
	FLN_FEATURE_POISON = 1 << 2,      /* UFFDIO_POISON (6.6) */
	FLN_FEATURE_IN_CONTEXT = 1 << 3,  /* FLN_DELIVERY_IN_CONTEXT */
	FLN_FEATURE_HUGE = 1 << 4,        /* images of 2 MiB pages, which must be reserved */
	/* 1 << 5 is no longer used. */
	FLN_FEATURE_COLLAPSE = 1 << 6, /* fln_guest_collapse() */
	FLN_FEATURE_PIN = 1 << 7,      /* workers can be pinned */
	FLN_FEATURE_NICE = 1 << 8,     /* workers can have nice value -20 */
	FLN_FEATURE_NUMA = 1 << 9,     /* more than one node has memory */
};

/**
 * fln_query_features() - Probe the features of this kernel and this user
 * @flags: as fln_engine_opts.flags
 * @out:   FLN_FEATURE_* bits; written only on success
 *
 * Return:  0, also when no feature is available; -EINVAL
 * Threads: any
 * Blocks:  briefly
 */
FLN_API int fln_query_features(uint64_t flags, uint64_t *out);

#ifdef __cplusplus
}
#endif

#endif
