/* SPDX-License-Identifier: MIT */
/*
 * A guest's userfaultfds: opened, given to workers, closed.  In the guest's turn, or before any
 * other thread can find the guest.
 */
#ifndef FLN_ENGINE_LIFE_GUEST_SHARDS_H
#define FLN_ENGINE_LIFE_GUEST_SHARDS_H

#include <stdbool.h>

struct fln_guest;
struct fln_shard;

/*
 * Open the userfaultfds of the guest's shards, but not of in-context ones; a foreign guest adopts
 * @foreign_uffd.  Return: 0; as fln_uffd_open(), and none is open.
 */
int fln_guest_open_shards(struct fln_guest *guest, int foreign_uffd);

/*
 * Attach all shards, in-context ones too, to the workers of their nodes, round-robin; all or none.
 * Return: 0; -errno.
 */
int fln_guest_attach_shards(struct fln_guest *guest);

/* Close a shard's userfaultfd.  True: it stays open for good, as unfilled pages depend on it. */
bool fln_shard_close(struct fln_shard *shard);

#endif
