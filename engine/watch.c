/* SPDX-License-Identifier: MIT */
/*
 * Which shards a worker watches: its epoll set, as long as there is one.
 */
#include "engine/watch.h"

#include "base/fd.h"
#include "base/log.h"
#include "engine/event_queue.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "sources/filler.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/event.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_RENEWED 8u

int fln_worker_watch(struct fln_worker *w, struct fln_shard *shard)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = shard };

	if (!w->scans && epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, shard->uffd.fd, &ev) != 0)
		return -errno;
	shard->next_of_worker = w->shards;
	w->shards = shard;
	return 0;
}

/* A new set of all that the old one had; the old number may be somebody else's by now. */
static bool renew(struct fln_worker *w)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
	int fd = w->nr_renewed++ < MAX_RENEWED ? fln_fd_keep(epoll_create1(EPOLL_CLOEXEC)) : -1;
	bool done;

	if (fd < 0)
		return false;
	done = epoll_ctl(fd, EPOLL_CTL_ADD, w->event_fd, &ev) == 0;
	for (struct fln_shard *s = w->shards; s && done; s = s->next_of_worker) {
		ev.data.ptr = s;
		done = epoll_ctl(fd, EPOLL_CTL_ADD, s->uffd.fd, &ev) == 0;
	}
	if (!done) {
		(void)close(fd);
		return false;
	}
	w->epoll_fd = fd;
	return true;
}

static void tell_failed(struct fln_worker *w, int err)
{
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_WORKER_FAILED;
	event.error = -err;
	event.value = w->opts.index;
	if (w->opts.events)
		fln_event_post(w->opts.events, &event);
	fln_log(&w->opts.log, FLN_LOG_ERROR,
		"worker %u cannot wait for its shards (errno %d)%s; leave the engine's descriptors "
		"alone, and allow epoll_wait in the seccomp filter",
		w->opts.index, err,
		w->scans ? " and looks at all of them each millisecond" : " and begins anew");
}

void fln_worker_lose_epoll(struct fln_worker *w, int err)
{
	w->scans = !renew(w);
	if (w->scans)
		w->epoll_fd = -1;
	tell_failed(w, err);
}

void fln_worker_unwatch(struct fln_worker *w, struct fln_shard *shard)
{
	struct fln_shard **at = &w->shards;

	if (w->scan == shard)
		w->scan = shard->next_of_worker;
	while (*at && *at != shard)
		at = &(*at)->next_of_worker;
	if (!*at)
		return; /* it has been given up */
	*at = shard->next_of_worker;
	if (w->scans || epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, shard->uffd.fd, NULL) == 0)
		return;
	/*
	 * Somebody has closed the descriptor.  A copy of it, in a forked child perhaps, would
	 * keep it in the set, which would name a shard that is not there any more.
	 */
	fln_worker_lose_epoll(w, errno);
}
