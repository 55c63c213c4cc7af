/* SPDX-License-Identifier: MIT */
/*
 * How a worker waits for its shards.
 *
 * It sleeps on an epoll set of its shards' userfaultfds and its eventfd.  When the set fails,
 * because its descriptor was closed, the worker makes a new one.  Where no set can be made, or
 * sets fail again and again (a seccomp filter refuses the calls), it polls all its shards every
 * millisecond: slow, but no fault is lost.
 *
 * Tested by unit.guard.
 */
#include "engine/waiting.h"

#include "base/clock.h"
#include "engine/serve.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/watch.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_ROUND 64
#define POLL_NS ((int64_t)FLN_NS_PER_MS)

/*
 * Has epoll_pwait2() itself been refused, by an old seccomp filter or kernel?  With EBADF or
 * EINVAL it was made, and epoll_fd is not an epoll set.
 */
static bool is_refused(int err)
{
	return err != EINTR && err != EBADF && err != EINVAL;
}

/* Where epoll_pwait2() is refused, falls back to epoll_wait() and timeouts of milliseconds. */
static int wait_events(struct fln_worker *w, struct epoll_event *events, int64_t timeout_ns)
{
	int64_t ms = (int64_t)FLN_NS_PER_MS;
	struct timespec timeout = { .tv_sec = timeout_ns / (int64_t)FLN_NS_PER_S,
				    .tv_nsec = timeout_ns % (int64_t)FLN_NS_PER_S };
	int nr = -1;

	if (!w->only_ms) {
		/* glibc before 2.35 has no wrapper. */
		nr = (int)syscall(SYS_epoll_pwait2, w->epoll_fd, events, EVENTS_PER_ROUND,
				  timeout_ns < 0 ? NULL : &timeout, NULL, 0);
		w->only_ms = nr < 0 && is_refused(errno);
	}
	if (w->only_ms)
		nr = epoll_wait(w->epoll_fd, events, EVENTS_PER_ROUND,
				timeout_ns < 0 ? -1 : (int)((timeout_ns + ms - 1) / ms));
	if (nr < 0 && errno != EINTR)
		fln_worker_lose_epoll(w, errno);
	return nr;
}

/*
 * The heartbeat that the guard watches: even while the worker waits, odd while it is in a
 * round.  The worker reads no clock for it.
 */
static void beat(struct fln_worker *w)
{
	atomic_store_explicit(&w->beat, atomic_load_explicit(&w->beat, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* Without epoll: sleep briefly, then serve every shard. */
static bool poll_all(struct fln_worker *w, int64_t timeout_ns, bool *rung)
{
	int64_t ns = timeout_ns < 0 || timeout_ns > POLL_NS ? POLL_NS : timeout_ns;

	if (ns > 0)
		fln_sleep_ns((uint64_t)ns);
	beat(w);
	*rung = true; /* unknown without epoll: always drain the eventfd */
	/* fln_serve_shard() may unwatch a shard: fln_worker_unwatch() then moves the cursor on. */
	for (w->cursor = w->shards; w->cursor;) {
		struct fln_shard *shard = w->cursor;

		w->cursor = shard->next_of_worker;
		fln_serve_shard(w, shard);
	}
	return false;
}

bool fln_worker_wait(struct fln_worker *w, int64_t timeout_ns, bool *rung, bool *served)
{
	struct epoll_event events[EVENTS_PER_ROUND];
	int nr;

	beat(w);
	if (w->polls)
		return poll_all(w, timeout_ns, rung);
	nr = wait_events(w, events, timeout_ns);
	beat(w);
	for (int i = 0; i < nr; i++) {
		if (events[i].data.ptr) {
			fln_serve_shard(w, events[i].data.ptr);
			*served = true;
		} else {
			*rung = true; /* data.ptr is NULL: the worker's eventfd */
		}
	}
	return nr > 0;
}
