/* SPDX-License-Identifier: MIT */
/*
 * Events: what the guest's process does to its mappings.
 */
#ifndef FLN_ENGINE_EVENTS_H
#define FLN_ENGINE_EVENTS_H

struct fln_shard;
struct fln_worker;
struct uffd_msg;

/*
 * Act on a message of a shard; not in a read section.  By the thread that reads the shard's
 * events: its worker, or in the guest's turn another one, and @w is NULL.  Then nothing is
 * held for the shard, and what munmap() says and faults are left alone.
 */
void fln_shard_event(struct fln_shard *shard, struct fln_worker *w, const struct uffd_msg *msg);

#endif
