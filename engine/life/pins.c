/* SPDX-License-Identifier: MIT */
/*
 * Pins on guests; see pins.h.
 */
#include "engine/life/pins.h"

#include "base/lock.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include <pthread.h>

struct fln_guest *fln_engine_pin(struct fln_engine *engine,
				 bool (*is_wanted)(struct fln_guest *guest, void *ctx), void *ctx)
{
	struct fln_guest *guest;

	fln_lock(&engine->lock);
	guest = engine->guests;
	while (guest && !is_wanted(guest, ctx))
		guest = guest->next;
	if (guest)
		guest->nr_pins++;
	fln_unlock(&engine->lock);
	return guest;
}

void fln_engine_unpin(struct fln_engine *engine, struct fln_guest *guest)
{
	fln_lock(&engine->lock);
	guest->nr_pins--;
	(void)pthread_cond_broadcast(&engine->unpinned);
	fln_unlock(&engine->lock);
}
