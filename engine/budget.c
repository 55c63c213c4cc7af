/* SPDX-License-Identifier: MIT */
/*
 * The engine's budget of stripes; see budget.h.
 */
#include "engine/budget.h"

#include "base/error.h"
#include "engine/state/engine.h"

#include <errno.h>
#include <stdatomic.h>

int fln_engine_take_stripes(struct fln_engine *engine, uint64_t nr)
{
	uint64_t used = atomic_load(&engine->nr_stripes);

	do {
		if (used + nr > engine->opts.max_stripes)
			return fln_fail(ENOMEM,
					"engine: %llu of max_stripes (%u) stripes are in use, and "
					"%llu more are needed; raise max_stripes, and "
					"vm.max_map_count with it",
					(unsigned long long)used, engine->opts.max_stripes,
					(unsigned long long)nr);
	} while (!atomic_compare_exchange_weak(&engine->nr_stripes, &used, used + nr));
	return 0;
}

void fln_engine_note_stripes(struct fln_engine *engine, uint64_t nr)
{
	(void)atomic_fetch_add(&engine->nr_stripes, nr);
}

void fln_engine_give_back_stripes(struct fln_engine *engine, uint64_t nr)
{
	uint64_t before = atomic_fetch_sub(&engine->nr_stripes, nr);

	FLN_ASSERT(before >= nr);
}

uint64_t fln_engine_stripes_left(struct fln_engine *engine)
{
	uint64_t used = atomic_load(&engine->nr_stripes);

	return used < engine->opts.max_stripes ? engine->opts.max_stripes - used : 0;
}
