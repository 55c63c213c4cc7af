/* SPDX-License-Identifier: MIT */
/*
 * The engine's budget of stripes, which all its guests share: each stripe is a VMA, and
 * vm.max_map_count bounds those of the process.  Any thread; never blocks.
 */
#ifndef FLN_ENGINE_BUDGET_H
#define FLN_ENGINE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;

/* Reserve @nr stripes.  Return: 0; -ENOMEM if fewer are left. */
int fln_engine_take_stripes(struct fln_engine *engine, uint64_t nr);

/* Count @nr mappings that are there already, even beyond the budget. */
void fln_engine_note_stripes(struct fln_engine *engine, uint64_t nr);

/* Undo fln_engine_take_stripes(), or fln_engine_note_stripes(). */
void fln_engine_give_back_stripes(struct fln_engine *engine, uint64_t nr);

/* A snapshot: another thread may take stripes at any time. */
uint64_t fln_engine_stripes_left(struct fln_engine *engine);

#endif
