/* SPDX-License-Identifier: MIT */
/*
 * Letting go of a guest whose memory has all been released: its userfaultfds are closed.
 */
#ifndef FLN_ENGINE_LIFE_LET_GO_H
#define FLN_ENGINE_LIFE_LET_GO_H

#include <stdbool.h>

struct fln_engine;
struct fln_guest;

/*
 * If all memory of the guest is released, take its shards from the workers, close its userfaultfds
 * and post FLN_EVENT_GUEST_RELEASED, once until another region is added.  In the guest's turn.
 * Blocks for the workers' rounds.  Return: true: nothing is left to do, because that was done or
 * because the guest is not one to let go of; false: it cannot be done for now, try again.
 */
bool fln_guest_let_go(struct fln_guest *guest);

/*
 * A region is to be added to a running guest: open its userfaultfds again if they were closed so.
 * In the guest's turn.  Return: 0; -EINVAL in a foreign guest; as fln_uffd_open(); -ENOMEM.
 */
int fln_guest_take_back(struct fln_guest *guest);

/* Let go of all guests of which a worker has released the last block.  By the ender. */
void fln_guests_let_go(struct fln_engine *engine);

#endif
