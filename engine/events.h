/* SPDX-License-Identifier: MIT */
/*
 * Events: what the guest's process does to its mappings.
 */
#ifndef FLN_ENGINE_EVENTS_H
#define FLN_ENGINE_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_shard;
struct fln_worker;
struct uffd_msg;

/*
 * The guest gave [start, end) up.  By who reads the shard's events: its
 * worker, or in the guest's turn when it has none.  Not in a read section.
 */
void fln_shard_removed(struct fln_shard *shard, uint64_t start, uint64_t end);

/*
 * mremap() has moved [from, from + len_bytes) to @to.  As fln_shard_removed().
 */
void fln_shard_moved(struct fln_shard *shard, uint64_t from, uint64_t to, uint64_t len_bytes);

/* Act on a message that is no page fault. */
void fln_event(struct fln_worker *w, struct fln_shard *shard, const struct uffd_msg *msg);

#endif
