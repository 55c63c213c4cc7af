/* SPDX-License-Identifier: MIT */
/*
 * How a worker waits for its shards.
 *
 * In an epoll set, as long as there is one.  A set that fails (somebody has closed its
 * descriptor) gives way to a new one.  Where that cannot be had, or fails again and again
 * (a filter that refuses the calls), the worker looks at all its shards each millisecond:
 * slow, and no fault is left alone.
 */
#include "engine/waiting.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "engine/events.h"
#include "engine/serve.h"
#include "engine/worker.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_ROUND 64
#define MAX_RENEWED 8u
#define SCAN_NS ((int64_t)FLN_NS_PER_MS)

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

static void lose_epoll(struct fln_worker *w, int err)
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
	lose_epoll(w, errno);
}

/* Seccomp filters that are older than epoll_pwait2() refuse it: then milliseconds must do. */
static int wait_events(struct fln_worker *w, struct epoll_event *events, int64_t timeout_ns)
{
	int64_t ms = (int64_t)FLN_NS_PER_MS;
	struct timespec timeout = { .tv_sec = timeout_ns / (int64_t)FLN_NS_PER_S,
				    .tv_nsec = timeout_ns % (int64_t)FLN_NS_PER_S };
	int nr;

	if (!w->only_ms) {
		/* Not every C library has a function for it. */
		nr = (int)syscall(SYS_epoll_pwait2, w->epoll_fd, events, EVENTS_PER_ROUND,
				  timeout_ns < 0 ? NULL : &timeout, NULL, 0);
		if (nr >= 0 || errno == EINTR)
			return nr;
		w->only_ms = true;
	}
	nr = epoll_wait(w->epoll_fd, events, EVENTS_PER_ROUND,
			timeout_ns < 0 ? -1 : (int)((timeout_ns + ms - 1) / ms));
	if (nr < 0 && errno != EINTR)
		lose_epoll(w, errno);
	return nr;
}

/* The guard sees by it whether the worker comes back; no clock is read for that. */
static void beat(struct fln_worker *w)
{
	atomic_store_explicit(&w->beat, atomic_load_explicit(&w->beat, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* Without epoll: a nap, and a look at everything. */
static bool scan(struct fln_worker *w, int64_t timeout_ns, bool *rung)
{
	int64_t ns = timeout_ns < 0 || timeout_ns > SCAN_NS ? SCAN_NS : timeout_ns;

	if (ns > 0)
		fln_sleep_ns((uint64_t)ns);
	beat(w);
	*rung = true; /* who knows */
	/* Shards come and go meanwhile: fln_worker_unwatch(). */
	for (w->scan = w->shards; w->scan;) {
		struct fln_shard *shard = w->scan;

		w->scan = shard->next_of_worker;
		fln_serve_shard(w, shard);
	}
	return false;
}

bool fln_worker_wait(struct fln_worker *w, int64_t timeout_ns, bool *rung, bool *served)
{
	struct epoll_event events[EVENTS_PER_ROUND];
	int nr;

	beat(w);
	if (w->scans)
		return scan(w, timeout_ns, rung);
	nr = wait_events(w, events, timeout_ns);
	beat(w);
	for (int i = 0; i < nr; i++) {
		if (events[i].data.ptr) {
			fln_serve_shard(w, events[i].data.ptr);
			*served = true;
		} else {
			*rung = true;
		}
	}
	return nr > 0;
}
