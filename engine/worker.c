/* SPDX-License-Identifier: MIT */
/*
 * A worker's life: wait, serve what is ready, obey commands.
 *
 * The worker sleeps in epoll_wait() on the userfaultfds of its shards and one
 * eventfd.  Before it sleeps it polls for a while, when faults have lately come
 * more densely than that while: a wake-up from another processor costs far more
 * than a few empty polls.  When it holds faults it looks at the clock now and
 * then, so that a source that never answers does not hold a thread for ever.
 *
 * A kick says that states have changed, not which: kicked is set by the first
 * kicker, which also writes the eventfd, and cleared by the worker before it looks
 * at the states.  A change that comes after the look finds it cleared, and writes.
 */
#include "engine/worker.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/plant.h"
#include "base/rcu.h"
#include "base/thread.h"
#include "engine/command.h"
#include "engine/held.h"
#include "engine/oldest.h"
#include "engine/populate.h"
#include "engine/serve.h"
#include "engine/serve_block.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/unpoison.h"
#include "engine/waiting.h"
#include "engine/wanted.h"
#include "engine/watch.h"
#include "engine/whole.h"
#include "numa/placement.h"
#include "sources/filler.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HELD_TICK_NS (50 * (int64_t)FLN_NS_PER_MS) /* held faults against their deadline */
/*
 * How much of what was left for later is mapped between two looks at the faults that wait.
 * While faults come in, more: each costs as much as mapping some 30 pages, and
 * windows that stay unmapped for long cost further faults.
 */
#define LATER_PAGES_BUSY 4096u
#define LATER_PAGES_IDLE 1024u
/* The same for jobs; while faults come in they wait for their turn so many rounds. */
#define JOB_PAGES 512u
#define JOB_ROUNDS_BUSY 4u
#define DEFAULT_NICE (-20)
#define AGAIN_SHORT_NS (50 * (int64_t)FLN_NS_PER_US)
#define AGAIN_LONG_NS ((int64_t)FLN_NS_PER_MS)
#define AGAIN_SHORT_ROUNDS 20u

static size_t held_bytes(const struct fln_worker *w)
{
	return (size_t)w->opts.held_max * sizeof(struct fln_held);
}

static size_t index_bytes(const struct fln_worker *w)
{
	return (size_t)w->opts.held_max * 2 * sizeof(*w->held_index);
}

static void free_tables(struct fln_worker *w)
{
	const struct fln_allocator *a = &w->opts.alloc;

	fln_free(a, w->held, held_bytes(w), w->opts.node);
	fln_free(a, w->held_spare, held_bytes(w), w->opts.node);
	fln_free(a, w->held_index, index_bytes(w), w->opts.node);
	fln_free(a, w->later, FLN_NR_LATER * sizeof(*w->later), w->opts.node);
	fln_free(a, w->later_queue, FLN_NR_LATER * sizeof(*w->later_queue), w->opts.node);
	fln_free(a, w->msgs, FLN_BATCH_LIMIT * sizeof(*w->msgs), w->opts.node);
	fln_free(a, w->faults, FLN_BATCH_LIMIT * sizeof(*w->faults), w->opts.node);
}

/*
 * A table whose entries are written before they are read.  Reserved now, because nothing is
 * allocated on the way of a fault (I5), and not touched: the kernel gives pages to what is used.
 */
static void *untouched(const struct fln_worker *w, size_t bytes)
{
	const struct fln_allocator *a = &w->opts.alloc;

	return a->alloc(a->ctx, bytes, alignof(max_align_t), w->opts.node);
}

int fln_worker_init(struct fln_worker *w, const struct fln_worker_opts *opts)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

	FLN_ASSERT(opts->batch_max > 0 && opts->batch_max <= FLN_BATCH_LIMIT);
	FLN_ASSERT(opts->held_max >= opts->batch_max);
	memset(w, 0, sizeof(*w));
	w->opts = *opts;
	w->next_due_ns = UINT64_MAX;
	atomic_store(&w->beat, 1); /* its thread has not come to its loop */
	w->held = untouched(w, held_bytes(w));
	w->held_spare = untouched(w, held_bytes(w));
	w->msgs = fln_zalloc(&opts->alloc, FLN_BATCH_LIMIT * sizeof(*w->msgs), opts->node);
	w->faults = fln_zalloc(&opts->alloc, FLN_BATCH_LIMIT * sizeof(*w->faults), opts->node);
	w->held_index = fln_zalloc(&opts->alloc, index_bytes(w), opts->node);
	w->later = fln_zalloc(&opts->alloc, FLN_NR_LATER * sizeof(*w->later), opts->node);
	w->later_queue =
		fln_zalloc(&opts->alloc, FLN_NR_LATER * sizeof(*w->later_queue), opts->node);
	if (!w->held || !w->held_spare || !w->held_index || !w->msgs || !w->faults || !w->later ||
	    !w->later_queue) {
		free_tables(w);
		return fln_fail(ENOMEM, "no memory for worker %u with room for %u held faults",
				opts->index, opts->held_max);
	}
	w->epoll_fd = fln_fd_keep(epoll_create1(EPOLL_CLOEXEC));
	w->event_fd = fln_fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (w->epoll_fd < 0 || w->event_fd < 0 ||
	    epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->event_fd, &ev) != 0) {
		int err = errno;

		if (w->epoll_fd >= 0)
			(void)close(w->epoll_fd);
		if (w->event_fd >= 0)
			(void)close(w->event_fd);
		free_tables(w);
		return fln_fail(err, "worker %u: epoll or eventfd: %s%s", opts->index,
				strerror(err), err == EMFILE ? "; raise RLIMIT_NOFILE" : "");
	}
	fln_lock_init(&w->lock, FLN_RANK_WORKER);
	fln_cond_init(&w->done);
	return 0;
}

void fln_worker_deinit(struct fln_worker *w)
{
	(void)close(w->epoll_fd);
	(void)close(w->event_fd);
	(void)pthread_cond_destroy(&w->done);
	fln_lock_deinit(&w->lock);
	free_tables(w);
}

static void forget_in_context(struct fln_worker *w, const struct fln_shard *shard)
{
	for (struct fln_shard **at = &w->in_context; *at; at = &(*at)->next_in_context) {
		if (*at == shard) {
			*at = shard->next_in_context;
			break;
		}
	}
}

/* How many guests there are to share its table of held faults. */
static void count_guest(struct fln_worker *w, struct fln_guest *guest, bool comes)
{
	uint32_t *nr_shards = &guest->at[w->opts.index].nr_shards;

	if (comes) {
		w->nr_guests += (*nr_shards)++ == 0;
		return;
	}
	FLN_ASSERT(*nr_shards > 0);
	w->nr_guests -= --*nr_shards == 0;
}

static int obey(struct fln_worker *w, const struct fln_command *cmd)
{
	int rc;

	switch (cmd->kind) {
	case FLN_COMMAND_ATTACH:
		rc = fln_worker_watch(w, cmd->shard);
		if (rc)
			return rc;
		cmd->shard->worker = w;
		count_guest(w, cmd->shard->guest, true);
		if (cmd->shard->in_context) {
			cmd->shard->next_in_context = w->in_context;
			w->in_context = cmd->shard;
		}
		return 0;
	case FLN_COMMAND_DETACH:
		forget_in_context(w, cmd->shard);
		fln_worker_unwatch(w, cmd->shard);
		fln_drop_held(w, cmd->shard);
		fln_oldest_forget(w, cmd->shard);
		count_guest(w, cmd->shard->guest, false);
		cmd->shard->worker = NULL;
		return 0;
	case FLN_COMMAND_END_JOBS:
		fln_populate_end(w, cmd->shard->guest);
		return 0;
	case FLN_COMMAND_PASS:
		return 0;
	case FLN_COMMAND_STOP:
	default:
		w->stopping = true;
		return 0;
	}
}

static void obey_all(struct fln_worker *w)
{
	struct fln_command *cmd;

	fln_lock(&w->lock);
	cmd = w->commands;
	w->commands = NULL;
	fln_unlock(&w->lock);
	/* With nothing left for later, the shard or region in question is nowhere any more. */
	if (cmd) {
		fln_serve_later(w, UINT32_MAX);
		fln_serve_wanted(w);
	}
	while (cmd) {
		struct fln_command *next = cmd->next;
		int result = obey(w, cmd);

		fln_lock(&w->lock);
		cmd->result = result;
		cmd->done = true; /* from here on it is not ours */
		(void)pthread_cond_broadcast(&w->done);
		fln_unlock(&w->lock);
		cmd = next;
	}
}

/* Populate, advice, read-ahead: when the faults that wait have been served (I7). */
static void work_on_jobs(struct fln_worker *w, bool served, bool kicked)
{
	uint64_t now;
	bool tick;

	if (fln_populate_need(w) == FLN_POPULATE_IDLE &&
	    !atomic_load_explicit(&w->given, memory_order_relaxed)) {
		w->nr_jobs_put_off = 0; /* they have been ended: patience() asks */
		return;
	}
	now = fln_now_ns();
	tick = now - w->last_jobs_ns > HELD_TICK_NS;
	if (tick) {
		fln_populate_tick(w, now);
		w->last_jobs_ns = now;
	}
	if (kicked || tick)
		fln_populate_kicked(w);
	if ((served || w->nr_later > 0) && w->nr_jobs_put_off < JOB_ROUNDS_BUSY) {
		w->nr_jobs_put_off++;
		return;
	}
	w->nr_jobs_put_off = 0;
	fln_populate_slice(w, JOB_PAGES);
}

/*
 * Blocks that threads have mapped wholly in their own context: many at a time, because
 * each look costs them a kick, but not never, because somebody waits to be told.
 */
static void collapse_whole(struct fln_worker *w)
{
	uint64_t now;
	bool due;

	w->has_whole = false;
	if (!w->in_context)
		return;
	now = fln_now_ns();
	due = now - w->last_whole_ns > HELD_TICK_NS;
	w->has_whole = fln_context_collapse_due(w->in_context, due);
	if (due)
		w->last_whole_ns = now;
}

/* By the clock too: other faults without a pause must not put deadlines off. */
static bool held_are_due(const struct fln_worker *w)
{
	uint64_t now = fln_now_ns();

	return now >= w->next_due_ns || now - w->last_held_ns > HELD_TICK_NS;
}

/* What waits is noted for callers that ask: when it has just been looked at, or has gone. */
static void note_oldest(struct fln_worker *w)
{
	bool none = w->nr_held == 0 && !w->wanted && !w->overflowed;

	if (none ? !w->noted : w->last_held_ns - w->last_note_ns <= HELD_TICK_NS)
		return;
	fln_oldest_note(w);
	w->last_note_ns = w->last_held_ns;
}

/*
 * While anything waits the worker looks every HELD_TICK_NS.  If much more has passed the
 * process was stopped, or this thread had no processor: no source is late for that.  It may
 * be stopped again at any moment, so lateness is judged by the time of this look.  The slack
 * counts, so that a worker that is never in time waits longer, but not for ever.
 */
static void credit_stopped(struct fln_worker *w)
{
	uint64_t before_ns = w->looked_ns, stopped_ns;

	w->looked_ns = 0;
	if (w->nr_held == 0 && !w->wanted && !w->overflowed &&
	    fln_populate_need(w) == FLN_POPULATE_IDLE)
		return;
	w->looked_ns = fln_now_ns();
	if (before_ns == 0 || fln_planted(FLN_BUG_STOPPED_COUNTS))
		return;
	stopped_ns = fln_stopped_ns(w->looked_ns - before_ns, (uint64_t)HELD_TICK_NS);
	if (stopped_ns == 0)
		return;
	fln_held_credit(w, stopped_ns);
	fln_wanted_credit(w, stopped_ns);
	fln_populate_credit(w, stopped_ns);
}

void fln_worker_round(struct fln_worker *w, int64_t timeout_ns)
{
	bool rung = false, served = false, kicked;
	bool idle = !fln_worker_wait(w, timeout_ns, &rung, &served);

	if (rung) {
		uint64_t count;

		(void)!read(w->event_fd, &count, sizeof(count));
	}
	credit_stopped(w);
	kicked = atomic_exchange_explicit(&w->kicked, false, memory_order_acq_rel);
	if ((w->nr_held > 0 || w->wanted) &&
	    (kicked || w->nr_again > 0 || idle || held_are_due(w))) {
		if (w->nr_held > 0)
			fln_serve_held(w);
		fln_serve_wanted(w);
		w->last_held_ns = fln_now_ns();
	} else if (kicked) {
		fln_serve_wanted(w);
	}
	if (kicked || w->has_whole)
		collapse_whole(w);
	fln_wake_overflowed(w);
	note_oldest(w);
	fln_unpoison_round(w);
	fln_serve_later(w, served ? LATER_PAGES_BUSY : LATER_PAGES_IDLE);
	work_on_jobs(w, served, kicked);
	/* Last: a shard that is let go of may not turn up in this round any more. */
	if (rung)
		obey_all(w);
	if (served) {
		uint64_t now = fln_now_ns();

		w->gap_ns += (now - w->last_arrival_ns) / 8 - w->gap_ns / 8;
		w->last_arrival_ns = now;
		w->nr_idle_rounds = 0;
	} else {
		w->nr_idle_rounds++;
	}
}

static int64_t until_held_are_due(const struct fln_worker *w)
{
	uint64_t now = fln_now_ns();

	if (w->next_due_ns >= now + HELD_TICK_NS)
		return HELD_TICK_NS;
	/* What is due and could not be done is not tried all the time. */
	return w->next_due_ns > now + AGAIN_LONG_NS ? (int64_t)(w->next_due_ns - now)
						    : AGAIN_LONG_NS;
}

/* How long the next round may wait, in nanoseconds; -1: for ever. */
static int64_t patience(const struct fln_worker *w)
{
	enum fln_populate_need jobs = fln_populate_need(w);

	if (w->nr_later > 0 || jobs == FLN_POPULATE_BUSY || w->nr_jobs_put_off > 0)
		return 0;
	/* Most often a thread must run before it can go on: leave it the processor. */
	if (w->nr_again > 0 || jobs == FLN_POPULATE_AGAIN || w->lifts_left)
		return w->nr_idle_rounds < AGAIN_SHORT_ROUNDS ? AGAIN_SHORT_NS : AGAIN_LONG_NS;
	if (w->opts.spin_ns > 0 && w->gap_ns < w->opts.spin_ns &&
	    fln_now_ns() - w->last_arrival_ns < w->opts.spin_ns)
		return 0;
	return w->nr_held > 0 || w->wanted || w->has_whole || jobs == FLN_POPULATE_WAITS
		       ? until_held_are_due(w)
		       : -1;
}

/*
 * Threads that wait for a fault and threads that have theirs compete for the
 * worker's processor; without precedence the worker gets one share of many.
 */
static void take_precedence(const struct fln_worker *w)
{
	int nice = w->opts.nice ? w->opts.nice : DEFAULT_NICE;

	if (w->opts.nice == FLN_NICE_KEEP)
		return;
	if (setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) != 0 &&
	    !(w->opts.said_nice && atomic_exchange(w->opts.said_nice, true)))
		fln_log(&w->opts.log, w->opts.nice ? FLN_LOG_WARNING : FLN_LOG_INFO,
			"worker %u keeps its nice value, perhaps others too, %d is not permitted: "
			"give CAP_SYS_NICE or raise RLIMIT_NICE",
			w->opts.index, nice);
}

/*
 * To a processor of its own where vCPUs have theirs; else to its node: the scheduler
 * then tends to run it where it was woken, beside the thread that faults and sleeps,
 * and a wake on the same processor costs a fraction of one across.
 */
static void pin(const struct fln_worker *w)
{
	int rc = w->opts.pu >= 0 ? fln_pin_thread((uint32_t)w->opts.pu)
		 : w->opts.cpus  ? fln_pin_thread_to(w->opts.cpus)
				 : 0;

	if (rc && !(w->opts.said_unpinned && atomic_exchange(w->opts.said_unpinned, true)))
		fln_log(&w->opts.log, FLN_LOG_WARNING,
			"worker %u cannot be pinned and runs anywhere, perhaps others too: %s",
			w->opts.index, fln_last_error());
}

static void *worker_main(void *arg)
{
	struct fln_worker *w = arg;
	struct fln_thread_before before;
	bool entered;

	fln_thread_begin(&before, FLN_THREAD_WORKER, w->opts.index);
	entered = fln_rcu_enter();
	pin(w);
	take_precedence(w);
	w->gap_ns = UINT32_MAX;
	while (!w->stopping)
		fln_worker_round(w, patience(w));
	fln_rcu_leave(entered);
	fln_thread_end(&before);
	return NULL;
}

int fln_worker_start(struct fln_worker *w)
{
	int rc;

	w->stopping = false;
	fln_lock(&w->lock);
	w->ended = false;
	fln_unlock(&w->lock);
	rc = fln_thread_create(&w->thread, w->opts.hooks, FLN_THREAD_WORKER, w->opts.index,
			       worker_main, w);
	if (rc == 0)
		return 0;
	/* No thread: there is nobody to obey. */
	fln_lock(&w->lock);
	w->ended = true;
	fln_unlock(&w->lock);
	return rc;
}

void fln_worker_stop(struct fln_worker *w)
{
	(void)fln_worker_command(w, FLN_COMMAND_STOP, NULL);
	fln_thread_join(&w->thread);
}
