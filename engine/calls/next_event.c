/* SPDX-License-Identifier: MIT */
/*
 * fln_engine_event_fd() and fln_engine_next_event(): the embedder's side of the event queue.
 * Any thread; never blocks.
 *
 * Tested by unit.event_queue.
 */
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "engine/event_queue.h"
#include "engine/state/engine.h"

#include <errno.h>
#include <faultlane/event.h>
#include <string.h>

int fln_engine_event_fd(const struct fln_engine *engine)
{
	return engine->events.fd;
}

int fln_engine_next_event(struct fln_engine *engine, struct fln_event *out)
{
	FLN_UNCANCELLABLE;
	struct fln_event event;
	int rc = FLN_CALL_REFUSED(engine, out);

	if (rc == 0)
		rc = fln_out_check(out, "fln_event");
	if (rc)
		return rc;
	if (!fln_event_take(&engine->events, &event))
		return 0;
	(void)fln_out_copy(out, &event, sizeof(event), "fln_event");
	return 1;
}
