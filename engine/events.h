/* SPDX-License-Identifier: MIT */
/*
 * Userfaultfd events: what the guest's process does to its mappings.
 */
#ifndef FLN_ENGINE_EVENTS_H
#define FLN_ENGINE_EVENTS_H

struct fln_shard;
struct fln_worker;
struct uffd_msg;

/*
 * Act on one message of a shard.  To be called by the thread that reads the shard's events: its
 * worker @w; or, with @w NULL, the thread that has the guest's turn if no worker has the shard.
 * In that case no fault is held for the shard, and UNMAP events and faults are ignored.  May
 * wait for a grace period, so not in a read section.
 */
void fln_shard_event(struct fln_shard *shard, struct fln_worker *w, const struct uffd_msg *msg);

#endif
