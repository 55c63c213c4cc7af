/* SPDX-License-Identifier: MIT */
/* Events as the embedder takes them. */

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
	size_t size;

	if (fln_forked)
		return fln_fork_refused("fln_engine_next_event");
	if (!engine || !out)
		return fln_fail(EINVAL, "fln_engine_next_event: an argument is NULL");
	size = out->size;
	if (size < sizeof(size) || size > 4096)
		return fln_fail(EINVAL, "fln_event: size is %zu; start from FLN_EVENT_INIT", size);
	if (!fln_event_take(&engine->events, &event))
		return 0;
	if (size > sizeof(event))
		memset((char *)out + sizeof(event), 0, size - sizeof(event));
	memcpy(out, &event, size < sizeof(event) ? size : sizeof(event));
	out->size = size;
	return 1;
}
