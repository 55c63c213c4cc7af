/* SPDX-License-Identifier: MIT */
/*
 * The region directory of a guest: which region an address belongs to.
 *
 * Readers look it up under RCU, without a lock.  Threads that have the guest's turn replace it.
 */
#ifndef FLN_ENGINE_DIRECTORY_H
#define FLN_ENGINE_DIRECTORY_H

#include "base/lock.h"
#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Allocate room for one more region before guest->lock is taken for fln_directory_publish().
 * Allocating with that lock held could deadlock: a thread inside the allocator may wait for a
 * worker, which may wait for guest->lock.  In the guest's turn.  Return: 0; -ENOMEM.
 */
int fln_directory_prepare(struct fln_guest *guest);

/*
 * Publish a new directory of the guest's regions, without @without.  Leaving one region out
 * cannot fail if fln_directory_reap() was called after the last publishing.  Return: 0; -ENOMEM.
 */
int fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
	FLN_REQUIRES(guest->lock);

/* Free retired directories, after a grace period.  Blocks; no lock held, not in a read section. */
void fln_directory_reap(struct fln_guest *guest);

/* Remove the directory, and free all memory.  Blocks likewise. */
void fln_directory_destroy(struct fln_guest *guest);

/* The region at @addr, or NULL.  RCU read lock held. */
struct fln_region *fln_directory_find(const struct fln_guest *guest, uint64_t addr);

/* The first region that ends above @addr, or NULL.  RCU read lock held. */
struct fln_region *fln_directory_next(const struct fln_guest *guest, uint64_t addr);

#endif
