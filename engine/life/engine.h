/* SPDX-License-Identifier: MIT */
/*
 * The engine and the life cycle of what belongs to it, seen from inside.
 */
#ifndef FLN_ENGINE_LIFE_ENGINE_H
#define FLN_ENGINE_LIFE_ENGINE_H

#include <faultlane/engine.h>
#include <stdint.h>

struct fln_engine;

/* engine.c: until when a read of a source that has begun is waited for, from now on. */
uint64_t fln_engine_source_deadline(const struct fln_engine *engine);

#endif
