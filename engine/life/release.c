/* SPDX-License-Identifier: MIT */
/*
 * fln_guest_release(), on the caller's thread and in the guest's turn: the workers look at all of
 * its blocks, and release those that can be (release.c).
 *
 * Tested by integration.release, integration.release_life.
 */
#include "engine/release.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "engine/life/let_go.h"
#include "engine/state/guest.h"
#include "engine/turn.h"

#include <errno.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>

static uint64_t found(struct fln_guest *guest, enum fln_fate fate)
{
	return atomic_load_explicit(&guest->release.bytes[fate], memory_order_relaxed);
}

static void look(struct fln_guest *guest, struct fln_release_report *full)
{
	fln_release_pass(guest);
	full->released_bytes = found(guest, FLN_FATE_DONE);
	full->unfilled_bytes = found(guest, FLN_FATE_UNFILLED);
	full->failed_bytes = found(guest, FLN_FATE_FAILED);
	full->kept_bytes = found(guest, FLN_FATE_KEPT);
	full->limited_bytes = found(guest, FLN_FATE_LIMITED);
	full->busy_bytes = found(guest, FLN_FATE_BUSY);
}

int fln_guest_release(struct fln_guest *guest, struct fln_release_report *out)
{
	FLN_UNCANCELLABLE;
	struct fln_release_report full = FLN_RELEASE_REPORT_INIT;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	fln_guest_take_turn(guest);
	if (!guest->running) {
		fln_guest_give_turn(guest);
		return fln_fail(ESHUTDOWN, "guest %s is not running; call fln_guest_start() first",
				guest->name);
	}
	/* Once it is closed no worker looks any more. */
	for (const struct fln_region *r = guest->regions; guest->release.closed && r; r = r->next)
		full.released_bytes += r->len_bytes;
	guest->release.is_complete = true; /* no region is to come: see let_go.c */
	if (!guest->release.closed)
		look(guest, &full);
	if (!fln_guest_let_go(guest))
		atomic_store(&guest->release.is_due, true); /* the ender tries again */
	fln_guest_give_turn(guest);
	return out ? fln_out_copy(out, &full, sizeof(full), "fln_release_report") : 0;
}
