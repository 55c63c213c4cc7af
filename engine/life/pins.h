/* SPDX-License-Identifier: MIT */
/*
 * Pins keep a guest from being destroyed while the engine or the ender stops it.  They count in
 * guest->nr_pins, guarded by engine->lock; fln_guest_destroy() waits until it is 0.
 */
#ifndef FLN_ENGINE_LIFE_PINS_H
#define FLN_ENGINE_LIFE_PINS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_guest;

/*
 * Pin the first guest of the list for which @is_wanted is true, the newest guest being the first.
 * Takes engine->lock, under which @is_wanted is called.
 * Return: the guest; NULL: none is wanted.
 */
struct fln_guest *fln_engine_pin(struct fln_engine *engine,
				 bool (*is_wanted)(struct fln_guest *guest, void *ctx), void *ctx);

/* Drop a pin, and wake fln_guest_destroy().  Takes engine->lock; the guest may be gone after. */
void fln_engine_unpin(struct fln_engine *engine, struct fln_guest *guest);

#endif
