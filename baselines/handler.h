/* SPDX-License-Identifier: MIT */
/*
 * The fault handlers of today's virtual machine monitors, at their best: one
 * userfaultfd over the whole memory, one thread, one message at a time; or as
 * many of both as there are vCPUs.
 *
 * It makes the same kernel calls as the engine, through the same functions, so
 * that a comparison shows the design and nothing else.
 */
#ifndef FLN_BASELINES_HANDLER_H
#define FLN_BASELINES_HANDLER_H

#include <faultlane/stats.h>
#include <stdbool.h>
#include <stdint.h>

struct fln_handler;

enum fln_handler_design {
	FLN_HANDLER_SINGLE,        /* each message maps its one page */
	FLN_HANDLER_SINGLE_WINDOW, /* each message maps a window, by the engine's policy */
	FLN_HANDLER_PER_VCPU,      /* a userfaultfd and a thread for each vCPU's part of memory */
	FLN_HANDLER_NR_DESIGNS
};

/**
 * struct fln_handler_opts - What a handler serves, and how
 * @addr:           a shared mapping of shmem that holds all contents; its holes
 *                  are zeros.  A multiple of 2 MiB.
 * @len_bytes:      its length, a multiple of 4096
 * @design:         see above
 * @window_first:   of SINGLE_WINDOW, as in struct fln_guest_opts; 0: the default
 * @window_max:     of SINGLE_WINDOW; equal to @window_first: a fixed window
 * @user_mode_only: needs no privilege; faults of system calls and KVM then fail
 * @kvm:            vCPUs of KVM touch the memory: as FLN_GUEST_F_KVM
 * @nr_readers:     of PER_VCPU: how many, at most the pages; else 0.  Reader i has the
 *                  pages [i * pages / nr_readers, (i + 1) * pages / nr_readers)
 * @reader_cpus:    the processor of each reader, or NULL: the scheduler chooses, which
 *                  on most machines is best when the vCPUs are not pinned either.  A
 *                  pinned vCPU's reader belongs on the processor of its vCPU: the
 *                  two never want to run at the same time, and a wake across
 *                  processors costs more than one on the spot
 * @copy_from:      of SINGLE: @addr is anonymous memory, and its pages are copied from
 *                  here, as handlers do for memory that another process has
 *                  registered; NULL: mapped from the page cache
 */
struct fln_handler_opts {
	void *addr;
	uint64_t len_bytes;
	enum fln_handler_design design;
	uint32_t window_first;
	uint32_t window_max;
	bool user_mode_only;
	bool kvm;
	uint32_t nr_readers;
	const uint32_t *reader_cpus;
	const void *copy_from;
};

/* The fields have the meaning of those in struct fln_stats. */
struct fln_handler_stats {
	uint64_t faults;
	uint64_t refaults;
	uint64_t zero;
	uint64_t failed;
	uint64_t pages_installed;
	uint64_t pages_raced;
	uint64_t installs;
	uint64_t wakes;
	uint64_t reads;
	struct fln_histogram service;
};

/*
 * Register the mapping and start the threads.
 * Return: 0; -EINVAL for the options; what opening a userfaultfd, registering or
 * starting a thread returned.  fln_last_error() has the sentence.
 */
int fln_handler_start(const struct fln_handler_opts *opts, struct fln_handler **out);

/* What has happened so far; read while it moves. */
void fln_handler_stats(const struct fln_handler *h, struct fln_handler_stats *out);

/*
 * End the threads and close the userfaultfds; NULL is permitted.  Nobody should be
 * touching the mapping for the first time any more: such pages become the
 * kernel's to map, which is right only because the mapping holds all contents.
 */
void fln_handler_stop(struct fln_handler *h);

/* What the engine and SINGLE_WINDOW use where options say 0.  Return: 0 or -EINVAL. */
int fln_handler_window_defaults(uint32_t *first, uint32_t *max);

#endif
