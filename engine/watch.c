/* SPDX-License-Identifier: MIT */
/*
 * The shards that a worker watches: with an epoll set, or by polling where it has none.
 *
 * Tested by unit.guard.
 */
#include "engine/watch.h"

#include "base/fd.h"
#include "base/log.h"
#include "engine/event_queue.h"
#include "engine/release.h"
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

	if (!w->polls && epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, shard->uffd.fd, &ev) != 0)
		return -errno;
	shard->next_of_worker = w->shards;
	w->shards = shard;
	fln_release_enter(shard);
	return 0;
}

/*
 * Make a set of everything that the old one held.  The old descriptor is not closed: its
 * number may belong to another file by now.
 */
static bool renew_epoll(struct fln_worker *w)
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

static void report_failed(struct fln_worker *w, int err)
{
	struct fln_event event = FLN_EVENT_INIT;

	event.kind = FLN_EVENT_WORKER_FAILED;
	event.error = -err;
	event.value = w->opts.index;
	if (w->opts.events)
		fln_event_post(w->opts.events, &event);
	fln_log(&w->opts.log, FLN_LOG_ERROR,
		"worker %u: its epoll set has failed (errno %d); it %s; do not close descriptors "
		"of the engine, and allow epoll_wait() in the seccomp filter",
		w->opts.index, err,
		w->polls ? "polls its shards every millisecond" : "has made a new one");
}

void fln_worker_lose_epoll(struct fln_worker *w, int err)
{
	w->polls = !renew_epoll(w);
	if (w->polls)
		w->epoll_fd = -1;
	report_failed(w, err);
}

void fln_worker_unwatch(struct fln_worker *w, struct fln_shard *shard)
{
	struct fln_shard **at = &w->shards;

	if (w->cursor == shard)
		w->cursor = shard->next_of_worker;
	while (*at && *at != shard)
		at = &(*at)->next_of_worker;
	if (!*at)
		return; /* unwatched when it could not be read */
	fln_release_forget(w, shard);
	*at = shard->next_of_worker;
	if (w->polls || epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, shard->uffd.fd, NULL) == 0)
		return;
	/*
	 * The embedder has closed the userfaultfd.  A duplicate of it, perhaps in a forked
	 * child, keeps it in the set, whose events would name a shard that is freed: so the set
	 * is replaced.
	 */
	fln_worker_lose_epoll(w, errno);
}
