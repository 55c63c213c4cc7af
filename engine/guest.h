/* SPDX-License-Identifier: MIT */
/*
 * Guests: shards, start and stop.
 */
#ifndef FLN_ENGINE_GUEST_H
#define FLN_ENGINE_GUEST_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* Life-cycle calls on one guest and its regions go one after the other. */
void fln_guest_take_turn(struct fln_guest *guest);
void fln_guest_give_turn(struct fln_guest *guest);

/* All that workers were doing with the guest's regions is done. */
void fln_guest_pass_workers(struct fln_guest *guest);

#endif
