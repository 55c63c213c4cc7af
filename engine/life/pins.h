/* SPDX-License-Identifier: MIT */
/*
 * Pins: what keeps a guest from going while another thread uses it.
 */
#ifndef FLN_ENGINE_LIFE_PINS_H
#define FLN_ENGINE_LIFE_PINS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;
struct fln_guest;

/* The end of a pin: until then, a guest whose nr_pins was counted up does not go. */
void fln_engine_unpin(struct fln_engine *engine, struct fln_guest *guest);

#endif
