/* SPDX-License-Identifier: MIT */
/*
 * Pins keep a guest from being destroyed while the engine or the ender stops it.  They are taken
 * by raising guest->nr_pins under engine->lock; fln_guest_destroy() waits until it is 0.
 */
#ifndef FLN_ENGINE_LIFE_PINS_H
#define FLN_ENGINE_LIFE_PINS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_guest;

/* Drop a pin, and wake fln_guest_destroy().  Takes engine->lock; the guest may be gone after. */
void fln_engine_unpin(struct fln_engine *engine, struct fln_guest *guest);

#endif
