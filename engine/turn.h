/* SPDX-License-Identifier: MIT */
/*
 * Turns: life-cycle calls on one object (an engine, a guest) run one after the other.
 *
 * A turn is a flag under the object's lock.  Its holder may make system calls, wait for workers
 * and write to the log, which no thread may do with the lock held.
 */
#ifndef FLN_ENGINE_TURN_H
#define FLN_ENGINE_TURN_H

#include "base/lock.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_turn;

void fln_turn_init(struct fln_turn *turn);

void fln_turn_deinit(struct fln_turn *turn);

/* Blocks until no other thread has the turn; @lock is released meanwhile. */
void fln_turn_take(struct fln_turn *turn, struct fln_lock *lock) FLN_REQUIRES(lock);

void fln_turn_give(struct fln_turn *turn, struct fln_lock *lock) FLN_REQUIRES(lock);

/* The turn for a guest and its regions.  Taken with no lock held; blocks. */
void fln_guest_take_turn(struct fln_guest *guest);

void fln_guest_give_turn(struct fln_guest *guest);

/* Assert that the guest's turn is taken.  To be called by the thread that has it. */
void fln_guest_assert_turn(const struct fln_guest *guest);

#endif
