/* SPDX-License-Identifier: MIT */
/*
 * Turns: life-cycle calls on one object (an engine, a guest) run one after the other.
 */
#include "engine/turn.h"

#include "base/error.h"
#include "base/lock.h"
#include "engine/state/guest.h"

#include <pthread.h>

void fln_turn_init(struct fln_turn *turn)
{
	turn->taken = false;
	fln_cond_init(&turn->given);
}

void fln_turn_deinit(struct fln_turn *turn)
{
	(void)pthread_cond_destroy(&turn->given);
}

void fln_turn_take(struct fln_turn *turn, struct fln_lock *lock)
{
	while (turn->taken)
		fln_cond_wait(&turn->given, lock);
	turn->taken = true;
}

void fln_turn_give(struct fln_turn *turn, struct fln_lock *lock)
{
	(void)lock;
	turn->taken = false;
	(void)pthread_cond_signal(&turn->given);
}

void fln_guest_take_turn(struct fln_guest *guest)
{
	fln_lock(&guest->lock);
	fln_turn_take(&guest->turn, &guest->lock);
	fln_unlock(&guest->lock);
}

void fln_guest_give_turn(struct fln_guest *guest)
{
	fln_lock(&guest->lock);
	fln_turn_give(&guest->turn, &guest->lock);
	fln_unlock(&guest->lock);
}

void fln_guest_assert_turn(const struct fln_guest *guest)
{
	FLN_ASSERT(guest->turn.taken);
}
