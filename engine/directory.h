/* SPDX-License-Identifier: MIT */
/*
 * The region directory: which region an address belongs to.
 */
#ifndef FLN_ENGINE_DIRECTORY_H
#define FLN_ENGINE_DIRECTORY_H

#include "base/lock.h"
#include "engine/state/guest.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Memory for one region more, so that fln_directory_publish() needs none: a
 * worker may want guest->lock, and a thread with the allocator's the worker.  In the
 * guest's turn.  Return: 0; -ENOMEM.
 */
int fln_directory_prepare(struct fln_guest *guest);

/*
 * Publish the guest's list of regions anew, less @without.  To leave
 * one out cannot fail, if the one before was followed by fln_directory_reap().
 */
int fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
	FLN_REQUIRES(guest->lock);
/* Free what nobody can see any more; waits for a grace period, with no lock held. */
void fln_directory_reap(struct fln_guest *guest);
void fln_directory_destroy(struct fln_guest *guest);

/* The region at @addr, or NULL.  RCU read lock held. */
struct fln_region *fln_directory_find(const struct fln_guest *guest, uint64_t addr);

/* The first region that ends above @addr, or NULL.  RCU read lock held. */
struct fln_region *fln_directory_next(const struct fln_guest *guest, uint64_t addr);

#endif
