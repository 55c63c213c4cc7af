/* SPDX-License-Identifier: MIT */
/*
 * Statistics: counters and a latency histogram, per shard and per guest.
 */
#ifndef FAULTLANE_STATS_H
#define FAULTLANE_STATS_H

#include <faultlane/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A histogram of nanoseconds: each value below 16 has its own bucket, and each power of
 * two above has 8 buckets, so a bucket is at most an eighth of its value wide.
 */
#define FLN_HISTOGRAM_NR_BUCKETS 496u

struct fln_histogram {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t bucket[FLN_HISTOGRAM_NR_BUCKETS];
};

/**
 * fln_histogram_record() - Count one value
 *
 * Threads: one at a time per histogram
 * Blocks:  no
 */
FLN_API void fln_histogram_record(struct fln_histogram *h, uint64_t value_ns);

/**
 * fln_histogram_merge() - Add all of @from to @into
 *
 * Threads: one at a time per @into; values may be recorded in @from meanwhile
 * Blocks:  no
 */
FLN_API void fln_histogram_merge(struct fln_histogram *into, const struct fln_histogram *from);

/**
 * fln_histogram_quantile() - The value below which the fraction @q of all values lies
 * @q: the fraction, 0.0 to 1.0; 0.5 is the median
 *
 * Return:  nanoseconds: the upper end of the value's bucket, but at most the largest
 *          recorded value; 0 when none was recorded
 * Threads: one at a time per histogram
 * Blocks:  no
 */
FLN_API uint64_t fln_histogram_quantile(const struct fln_histogram *h, double q);

/**
 * struct fln_stats - Counters of a guest or a shard
 * @size:            sizeof(struct fln_stats), set by the caller
 * @faults:          fault messages read, and signals resolved in context.  Each fault
 *                   that has ended counts in one of @minor, @major, @zero and @invalid
 * @minor:           faults whose contents were in the cache
 * @major:           faults that waited for contents, from the source or a push
 * @zero:            faults on holes and on discarded pages.  Once all of a block of 2 MiB is
 *                   filled, holes in a large folio are pages of zeros, and count in @minor
 * @invalid:         faults outside any region, or whose range was unmapped
 * @refaults:        faults on pages that the engine's map called mapped
 * @resumed:         faults that ended with the page mapped
 * @poisoned:        faults whose page was made inaccessible
 * @failed:          faults that ended in any other way: invalid ones, unmapped ranges,
 *                   and those of @held_full
 * @in_flight:       faults that have not ended; faults = resumed + poisoned + failed +
 *                   in_flight
 * @pages_installed: pages mapped by faults and their windows
 * @pages_raced:     pages that were already mapped when an install came to them
 * @installs:        install calls (ioctl)
 * @wakes:           explicit wake calls (ioctl), in addition to the installs
 * @reads:           read() calls that returned messages
 * @events:          messages of other kinds: REMOVE, UNMAP, REMAP, FORK
 * @again:           install calls that failed with EAGAIN because an event was unread
 * @held_full:       faults left with the kernel because the table of held faults was
 *                   full; their threads refault when there is room
 * @no_chunk:        faults served without the page-state map because its pool was empty
 * @map_bytes:       memory of the page-state maps in use now (guest only)
 * @service:         time from the read() of a message to the wake; in context, from the
 *                   signal to the end of its handler's fln_resolve()
 * @in_context:      of @faults, those resolved in context
 * @remote:          faults whose worker runs on another node than the memory; counted
 *                   for regions with a node
 * @populated:       pages mapped without a fault, by populate, advice and read-ahead
 * @no_memory:       faults that waited for more than a second because the kernel had no
 *                   memory to map their pages; they are retried until it has
 * @oldest_ns:       age of the oldest waiting fault; 0: none waits.  Faults younger than
 *                   100 ms may be missing
 * @released_bytes:  memory that was released from its userfaultfd so far
 * @released_faults: of @resumed, those whose block was released while they waited: their threads
 *                   repeat the access, and the kernel maps the page.  Faults that the kernel
 *                   resolves in released memory count nowhere, neither here nor in @faults
 * @userfaultfds:    userfaultfds of the guest or the shard that are open now
 */
struct fln_stats {
	size_t size;
	uint64_t faults;
	uint64_t minor;
	uint64_t major;
	uint64_t zero;
	uint64_t invalid;
	uint64_t refaults;
	uint64_t resumed;
	uint64_t poisoned;
	uint64_t failed;
	uint64_t in_flight;
	uint64_t pages_installed;
	uint64_t pages_raced;
	uint64_t installs;
	uint64_t wakes;
	uint64_t reads;
	uint64_t events;
	uint64_t again;
	uint64_t held_full;
	uint64_t no_chunk;
	uint64_t map_bytes;
	struct fln_histogram service;
	uint64_t in_context;
	uint64_t remote;
	uint64_t populated;
	uint64_t no_memory;
	uint64_t oldest_ns;
	uint64_t released_bytes;
	uint64_t released_faults;
	uint64_t userfaultfds;
};

#define FLN_STATS_INIT FLN_SIZED(struct fln_stats)

struct fln_engine;
struct fln_guest;
struct fln_region;

/* What a fault waits for. */
enum fln_waits_for {
	FLN_WAITS_NOTHING, /* no fault waits */
	FLN_WAITS_SOURCE,  /* a read of its source, which has run for @waits_ns */
	FLN_WAITS_FILLER,  /* a free filler thread, for its read to begin */
	FLN_WAITS_FILL,    /* a free fill: all are in use */
	FLN_WAITS_PUT,     /* fln_image_put(): its image has no source */
	FLN_WAITS_OWNER,   /* the owner of an attached image */
	FLN_WAITS_RETRY,   /* a pause, after a failed read or an answer of @ask */
	FLN_WAITS_EVENT,   /* a thread that discards, unmaps or moves memory, or forks */
	FLN_WAITS_CLAIM,   /* another thread that is mapping the page */
	FLN_WAITS_MEMORY,  /* memory of the kernel, for page tables or pages */
	FLN_WAITS_ROOM,    /* room in the worker's table of held faults */
	FLN_WAITS_POISON,  /* for good: its page has failed, and cannot be made inaccessible */
	FLN_WAITS_WORKER,  /* its worker, which has not finished a round for @waits_ns */
	FLN_WAITS_REGION,  /* fln_region_add() of memory that a foreign process has touched */
	FLN_WAITS_NR
};

/**
 * struct fln_oldest_fault - The fault of a guest that has waited longest
 * @size:         sizeof(struct fln_oldest_fault), set by the caller
 * @age_ns:       how long it has waited
 * @waits_ns:     how long the read, or the worker's round, that it waits for has run; 0:
 *                not known
 * @addr:         its page; 0: not known (unread messages of a stalled worker)
 * @region:       the page's region, or NULL; compare it only, it may have been removed
 *                since
 * @offset_bytes: offset of the page in @region
 * @waits_for:    enum fln_waits_for
 * @shard:        index of the shard whose userfaultfd delivered it
 * @worker:       index of the worker that serves this shard
 * @reserved:     zero
 */
struct fln_oldest_fault {
	size_t size;
	uint64_t age_ns;
	uint64_t waits_ns;
	uint64_t addr;
	struct fln_region *region;
	uint64_t offset_bytes;
	uint32_t waits_for;
	uint32_t shard;
	uint32_t worker;
	uint32_t reserved;
};

#define FLN_OLDEST_FAULT_INIT FLN_SIZED(struct fln_oldest_fault)

/**
 * fln_guest_oldest_fault() - The fault that has waited longest, and what it waits for
 * @out: its size field must be set, see FLN_OLDEST_FAULT_INIT
 *
 * Workers note it about ten times a second: a recent fault may be missing, and a fault that has
 * just ended may still be reported.
 *
 * Return:  1: *@out is a fault; 0: no fault waits; -EINVAL
 * Threads: any, except the log function
 * Blocks:  briefly
 */
FLN_API int fln_guest_oldest_fault(struct fln_guest *guest, struct fln_oldest_fault *out);

/**
 * fln_waits_for_name() - A value of enum fln_waits_for in words
 *
 * Return:  a static string; "?" for an unknown value
 * Threads: any
 * Blocks:  no
 */
FLN_API const char *fln_waits_for_name(uint32_t waits_for);

/**
 * fln_guest_stats_json() - A guest's statistics as a JSON object
 * @buf:     receives the text, truncated if need be, and a terminating zero byte
 * @buf_len: size of @buf in bytes
 *
 * Return:  the length of the whole text, without the zero byte, like snprintf(); -EINVAL
 * Threads: any, except the log function
 * Blocks:  no
 */
FLN_API int64_t fln_guest_stats_json(struct fln_guest *guest, char *buf, size_t buf_len);

/**
 * fln_engine_stats_prometheus() - All guests' statistics in Prometheus' text format
 * @buf:     receives the text, truncated if need be, and a terminating zero byte
 * @buf_len: size of @buf in bytes
 *
 * Return:  the length of the whole text, without the zero byte, like snprintf(); -EINVAL,
 *          -ENOMEM
 * Threads: any, except a thread of the engine
 * Blocks:  while a guest is created or destroyed
 */
FLN_API int64_t fln_engine_stats_prometheus(struct fln_engine *engine, char *buf, size_t buf_len);

/**
 * struct fln_node_stats - Counters of one NUMA node, over all guests so far
 * @size:            sizeof(struct fln_node_stats), set by the caller
 * @os_index:        the kernel's number of the node
 * @nr_workers:      workers that run on the node
 * @nr_shards:       shards of running guests that these workers serve
 * @reserved:        zero
 * @faults:          faults that these workers have read
 * @pages_installed: pages that these workers have mapped
 * @remote:          of @faults, those whose memory lies on another node, as in fln_stats
 */
struct fln_node_stats {
	size_t size;
	uint32_t os_index;
	uint32_t nr_workers;
	uint32_t nr_shards;
	uint32_t reserved;
	uint64_t faults;
	uint64_t pages_installed;
	uint64_t remote;
};

#define FLN_NODE_STATS_INIT FLN_SIZED(struct fln_node_stats)

/**
 * fln_engine_node_stats() - Statistics of one NUMA node
 * @node: the node's index in the topology: 0, 1, …
 * @out:  its size field must be set, see FLN_NODE_STATS_INIT
 *
 * Return:  0; -ENOENT when there is no such node; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  while a guest is created or destroyed
 */
FLN_API int fln_engine_node_stats(struct fln_engine *engine, uint32_t node,
				  struct fln_node_stats *out);

#ifdef __cplusplus
}
#endif

#endif
