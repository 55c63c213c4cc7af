/* SPDX-License-Identifier: MIT */
/*
 * The budget of mappings: stripes of all guests together.
 */
#ifndef FLN_ENGINE_LIFE_BUDGET_H
#define FLN_ENGINE_LIFE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct fln_engine;

/* Set a share of the budget of mappings aside; give_back undoes it. */
int fln_engine_take_stripes(struct fln_engine *engine, uint64_t nr);

void fln_engine_give_back_stripes(struct fln_engine *engine, uint64_t nr);

uint64_t fln_engine_stripes_left(struct fln_engine *engine);

#endif
