/* SPDX-License-Identifier: MIT */
/*
 * Turns: life-cycle calls on one object go one after the other.
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

void fln_turn_take(struct fln_turn *turn, struct fln_lock *lock) FLN_REQUIRES(lock);

void fln_turn_give(struct fln_turn *turn, struct fln_lock *lock) FLN_REQUIRES(lock);

/* Life-cycle calls on one guest and its regions go one after the other. */
void fln_guest_take_turn(struct fln_guest *guest);

void fln_guest_give_turn(struct fln_guest *guest);

/* By the thread that has the guest's turn: as long as it has, nobody else changes that. */
void fln_guest_assert_turn(const struct fln_guest *guest);

#endif
