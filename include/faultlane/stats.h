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
 * A histogram of nanoseconds: values below 16 have a bucket each, every power
 * of two above has 8, so that a bucket is at most an eighth of its value wide.
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
 * Threads: one at a time per @into; @from may be recorded into meanwhile
 * Blocks:  no
 */
FLN_API void fln_histogram_merge(struct fln_histogram *into, const struct fln_histogram *from);

/**
 * fln_histogram_quantile() - The value below which a share of the values lies
 * @q: the share, 0.0 to 1.0; 0.5 is the median
 *
 * Return:  nanoseconds: the upper end of the value's bucket, at most the
 *          largest value that was recorded; 0 when nothing was recorded
 * Threads: one at a time per histogram
 * Blocks:  no
 */
FLN_API uint64_t fln_histogram_quantile(const struct fln_histogram *h, double q);

/**
 * struct fln_stats - What has happened to a guest or a shard
 * @size:            sizeof(struct fln_stats), set by the caller
 * @faults:          messages taken from the kernel; a fault that has ended is counted
 *                   in one of the four classes that follow, whatever its ending
 * @minor:           its contents were there, and nothing had to be waited for
 * @major:           it waited for its contents: for the source, or for a push
 * @zero:            a hole, or discarded by the guest
 * @invalid:         no region was there, or its range went away
 * @refaults:        faults on pages that were mapped already, as far as we knew
 * @resumed:         faults whose thread was let go with its page in place
 * @poisoned:        faults whose page was made unreadable
 * @failed:          faults that ended otherwise: invalid ones, ranges that went away,
 *                   and those of @held_full
 * @in_flight:       faults that wait for contents; faults = resumed + poisoned +
 *                   failed + in_flight
 * @pages_installed: pages mapped, by faults and their windows
 * @pages_raced:     pages that were there already when we came to map them
 * @installs:        install calls to the kernel
 * @wakes:           wake calls to the kernel that were needed besides installs
 * @reads:           read calls to the kernel that returned messages
 * @events:          messages of other kinds: REMOVE, UNMAP, REMAP, FORK
 * @again:           install calls that the kernel put off, because an event was unread
 * @held_full:       faults that were left with the kernel, because too many were
 *                   waiting for contents; their threads fault again when there is room
 * @no_chunk:        faults served without the map, because its pool was empty
 * @map_bytes:       memory of the page-state maps in use now (guest only)
 * @service:         from the message's read() to the wake; of faults that were
 *                   resolved in their own context, from the signal to its end
 * @in_context:      of @faults, those that were resolved in their own context
 * @remote:          faults whose worker runs on another node than the memory; known
 *                   of regions with a node
 * @populated:       pages mapped by populate, advice and read-ahead, without a fault
 * @no_memory:       faults that have waited for more than a second because the kernel
 *                   had no memory to map their pages; they are tried again until it has
 * @oldest_ns:       how long the oldest fault that waits has waited by now; 0: none does.
 *                   Known of faults that have waited for 100 ms and longer
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
};

#define FLN_STATS_INIT FLN_SIZED(struct fln_stats)

struct fln_engine;
struct fln_guest;
struct fln_region;

/* What a fault waits for. */
enum fln_waits_for {
	FLN_WAITS_NOTHING, /* there is none */
	FLN_WAITS_SOURCE,  /* its source is being read, for @waits_ns */
	FLN_WAITS_FILLER,  /* a filler thread: its read has not begun */
	FLN_WAITS_FILL,    /* one of the fills, of which all are in use */
	FLN_WAITS_PUT,     /* fln_image_put(): its image has no source */
	FLN_WAITS_OWNER,   /* the process whose image is attached */
	FLN_WAITS_RETRY,   /* the pause after a read that has failed, or an answer of @ask */
	FLN_WAITS_EVENT,   /* the thread that discards, unmaps, moves or forks its memory */
	FLN_WAITS_CLAIM,   /* another thread that maps the page just now */
	FLN_WAITS_MEMORY,  /* the kernel has none for page tables or pages */
	FLN_WAITS_ROOM,    /* room in the worker's table of held faults */
	FLN_WAITS_POISON,  /* for good: its page has failed, and cannot be made unreadable */
	FLN_WAITS_WORKER,  /* its worker, which has not come back to its loop for @waits_ns */
	FLN_WAITS_REGION,  /* fln_region_add(): a foreign guest's process has been faster */
	FLN_WAITS_NR
};

/**
 * struct fln_oldest_fault - The fault of a guest that has waited longest
 * @size:         sizeof(struct fln_oldest_fault), set by the caller
 * @age_ns:       for how long
 * @waits_ns:     for how long what it waits for has been going on, where that is known;
 *                else 0
 * @addr:         its page; 0: not known (messages of a worker that does not come back)
 * @region:       where that is, or NULL; compare it only, it may have been removed since
 * @offset_bytes: of the page in @region
 * @waits_for:    enum fln_waits_for
 * @shard:        the guest's userfaultfd that it came by
 * @worker:       the worker that serves that
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
 * fln_guest_oldest_fault() - Which fault waits longest, and for what
 * @out: its size field must be set, see FLN_OLDEST_FAULT_INIT
 *
 * As the workers have noted it, which they do ten times a second: a younger fault may be
 * missing, and one that has just ended may still be there.
 *
 * Return:  1 and a fault; 0 when none waits; -EINVAL
 * Threads: any, except the log function
 * Blocks:  briefly
 */
FLN_API int fln_guest_oldest_fault(struct fln_guest *guest, struct fln_oldest_fault *out);

/**
 * fln_waits_for_name() - A few words for what a fault waits for
 *
 * Return:  the words; "?" for what is none of enum fln_waits_for
 * Threads: any
 * Blocks:  no
 */
FLN_API const char *fln_waits_for_name(uint32_t waits_for);

/**
 * fln_guest_stats_json() - A guest's statistics as a JSON object
 * @buf:     receives it, ended by a zero byte, cut when it is longer
 * @buf_len: size of @buf in bytes
 *
 * Return:  the length of the whole, without the zero byte, as snprintf(); -EINVAL
 * Threads: any, except the log function
 * Blocks:  no
 */
FLN_API int64_t fln_guest_stats_json(struct fln_guest *guest, char *buf, size_t buf_len);

/**
 * fln_engine_stats_prometheus() - All guests' statistics, in Prometheus' text format
 * @buf:     receives it, ended by a zero byte, cut when it is longer
 * @buf_len: size of @buf in bytes
 *
 * Return:  the length of the whole, without the zero byte, as snprintf(); -EINVAL,
 *          -ENOMEM
 * Threads: any, except a thread of the engine
 * Blocks:  while a guest is made or destroyed
 */
FLN_API int64_t fln_engine_stats_prometheus(struct fln_engine *engine, char *buf, size_t buf_len);

/**
 * struct fln_node_stats - What has happened on one NUMA node, to all guests so far
 * @size:            sizeof(struct fln_node_stats), set by the caller
 * @os_index:        the kernel's number of the node
 * @nr_workers:      workers that run there
 * @nr_shards:       shards of guests that run, that they serve
 * @reserved:        zero
 * @faults:          faults that they have taken
 * @pages_installed: pages that they have mapped
 * @remote:          of @faults, those whose memory lies on another node, as fln_stats
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
 * @node: 0, 1, … in the order of the topology
 * @out:  its size field must be set, see FLN_NODE_STATS_INIT
 *
 * Return:  0; -ENOENT when there is no such node; -EINVAL
 * Threads: any, except a thread of the engine
 * Blocks:  while a guest is made or destroyed
 */
FLN_API int fln_engine_node_stats(struct fln_engine *engine, uint32_t node,
				  struct fln_node_stats *out);

#ifdef __cplusplus
}
#endif

#endif
