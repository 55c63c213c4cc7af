/* SPDX-License-Identifier: MIT */
/*
 * A worker's life: wait, serve what is ready, obey commands.
 *
 * The worker sleeps on the userfaultfds of its shards and one eventfd (waiting.c).  If faults
 * have lately come less than spin_ns apart it spins for that long before it sleeps: a wakeup
 * from another CPU costs far more than a few empty polls.  While it holds faults it wakes at
 * least every HELD_TICK_NS, so that a source that never answers cannot block a thread for ever.
 *
 * A kick says that page states have changed, not which.  The first kicker sets `kicked` and
 * writes the eventfd; the worker clears `kicked` before it looks at the states.  A change that
 * comes after that look finds `kicked` cleared, and so writes the eventfd again.
 *
 * Tested by unit.guard, unit.populate, integration.life_calls.
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
#include "engine/job_parts.h"
#include "engine/oldest.h"
#include "engine/populate.h"
#include "engine/release.h"
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

#define HELD_TICK_NS (50 * (int64_t)FLN_NS_PER_MS) /* held faults are checked so often */
/*
 * How many pages of postponed windows (serve_block.c) are mapped before the worker looks at
 * waiting faults again.  More while faults come in: a fault costs as much as mapping some 30
 * pages, and windows that stay unmapped for long cause further faults.
 */
#define LATER_PAGES_BUSY 4096u
#define LATER_PAGES_IDLE 1024u
/* The same for jobs, and how many rounds jobs yield while faults come in. */
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
	fln_free(a, w->job_blocks, FLN_NR_IMAGE_SETS * sizeof(struct fln_job_block *),
		 w->opts.node);
	fln_free(a, w->later_queue, FLN_NR_LATER * sizeof(*w->later_queue), w->opts.node);
	fln_free(a, w->msgs, FLN_BATCH_LIMIT * sizeof(*w->msgs), w->opts.node);
	fln_free(a, w->faults, FLN_BATCH_LIMIT * sizeof(*w->faults), w->opts.node);
}

/*
 * Allocate a table whose entries are written before they are read.  It is reserved now, because
 * nothing may be allocated on the fault path (I5), and not zeroed, so that only the part that
 * is used takes memory.
 */
static void *alloc_unzeroed(const struct fln_worker *w, size_t bytes)
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
	fln_job_parts_init(w);
	fln_release_init(w);
	atomic_store(&w->beat, 1); /* odd: busy until its thread has reached its loop */
	w->held = alloc_unzeroed(w, held_bytes(w));
	w->held_spare = alloc_unzeroed(w, held_bytes(w));
	w->msgs = fln_zalloc(&opts->alloc, FLN_BATCH_LIMIT * sizeof(*w->msgs), opts->node);
	w->faults = fln_zalloc(&opts->alloc, FLN_BATCH_LIMIT * sizeof(*w->faults), opts->node);
	w->held_index = fln_zalloc(&opts->alloc, index_bytes(w), opts->node);
	w->later = fln_zalloc(&opts->alloc, FLN_NR_LATER * sizeof(*w->later), opts->node);
	w->later_queue =
		fln_zalloc(&opts->alloc, FLN_NR_LATER * sizeof(*w->later_queue), opts->node);
	w->job_blocks = fln_zalloc(&opts->alloc, FLN_NR_IMAGE_SETS * sizeof(struct fln_job_block *),
				   opts->node);
	if (!w->held || !w->held_spare || !w->held_index || !w->msgs || !w->faults || !w->later ||
	    !w->later_queue || !w->job_blocks) {
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

/* Count the guests that have shards here: they share the table of held faults. */
static void count_guest(struct fln_worker *w, struct fln_guest *guest, bool attached)
{
	uint32_t *nr_shards = &guest->at[w->opts.index].nr_shards;

	if (attached) {
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
		/* Of a shard: does it hold no fault for which a region is still to come? */
		return cmd->shard && cmd->shard->nr_outside > 0 ? -EBUSY : 0;
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
	/* After this nothing that was postponed names the shard or region of a command. */
	if (cmd) {
		fln_serve_later(w, UINT32_MAX);
		fln_serve_wanted(w);
	}
	while (cmd) {
		struct fln_command *next = cmd->next;
		int result = obey(w, cmd);

		fln_lock(&w->lock);
		cmd->result = result;
		cmd->done = true; /* its caller, whose stack it is on, may return from here on */
		(void)pthread_cond_broadcast(&w->done);
		fln_unlock(&w->lock);
		cmd = next;
	}
}

/* Work on jobs (populate, advice, read-ahead): after the faults that wait (I7). */
static void work_on_jobs(struct fln_worker *w, bool served, bool kicked)
{
	uint64_t now;
	bool tick;

	if (fln_populate_need(w) == FLN_POPULATE_IDLE &&
	    !atomic_load_explicit(&w->given, memory_order_relaxed)) {
		w->nr_jobs_put_off = 0; /* their jobs have ended: patience() must not spin */
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
 * Collapse blocks that threads have mapped wholly in their own context.  Many at a time, because
 * each pass costs those threads a kick; but at least every HELD_TICK_NS, because the embedder
 * waits for FLN_EVENT_GUEST_WHOLE.
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

/* Also by the clock: a steady stream of other faults must not postpone deadlines. */
static bool held_are_due(const struct fln_worker *w)
{
	uint64_t now = fln_now_ns();

	return now >= w->next_due_ns || now - w->last_held_ns > HELD_TICK_NS;
}

/*
 * Publish the oldest faults for fln_guest_oldest_fault(): after held faults have been looked at,
 * and once more when none waits any longer.
 */
static void note_oldest(struct fln_worker *w)
{
	bool none = w->nr_held == 0 && !w->wanted && !w->overflowed;

	if (none ? !w->noted : w->last_held_ns - w->last_note_ns <= HELD_TICK_NS)
		return;
	fln_oldest_note(w);
	w->last_note_ns = w->last_held_ns;
}

/* Is there anything with a limit of time? */
static bool anything_waits(struct fln_worker *w)
{
	return w->nr_held > 0 || w->wanted || w->overflowed ||
	       fln_populate_need(w) != FLN_POPULATE_IDLE;
}

/*
 * While anything waits, the worker comes here at least every HELD_TICK_NS.  If much more time has
 * passed, the process was stopped or this thread had no CPU: that time must not make a source
 * late.  It may be stopped again at any moment, so lateness is judged by the time of this look.
 * fln_stopped_ns() leaves out a slack, which does count, so that the deadlines of a worker that is
 * late every time are extended, but not for ever.
 */
static void credit_stopped(struct fln_worker *w)
{
	uint64_t before_ns = w->looked_ns, stopped_ns;

	w->looked_ns = 0;
	if (!anything_waits(w))
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
	bool rung = false, served = false, kicked, idle;

	/* How long the worker now sleeps is no time in which the process was stopped. */
	if (!anything_waits(w))
		w->looked_ns = 0;
	idle = !fln_worker_wait(w, timeout_ns, &rung, &served);
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
	fln_release_round(w, served, kicked);
	/* Last: after DETACH nothing in this round may name the shard. */
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

static int64_t ns_until_held_are_due(const struct fln_worker *w)
{
	uint64_t now = fln_now_ns();

	if (w->next_due_ns >= now + HELD_TICK_NS)
		return HELD_TICK_NS;
	/* A fault that is overdue, but could not be resolved, is retried at this pace. */
	return w->next_due_ns > now + AGAIN_LONG_NS ? (int64_t)(w->next_due_ns - now)
						    : AGAIN_LONG_NS;
}

/* For how many nanoseconds the next round may wait; -1: without limit. */
static int64_t patience(const struct fln_worker *w)
{
	enum fln_populate_need jobs = fln_populate_need(w);

	if (w->nr_later > 0 || jobs == FLN_POPULATE_BUSY || w->nr_jobs_put_off > 0)
		return 0;
	/* Mostly another thread must run first: leave the CPU to it. */
	if (w->nr_again > 0 || jobs == FLN_POPULATE_AGAIN || w->lifts_left)
		return w->nr_idle_rounds < AGAIN_SHORT_ROUNDS ? AGAIN_SHORT_NS : AGAIN_LONG_NS;
	if (w->opts.spin_ns > 0 && w->gap_ns < w->opts.spin_ns &&
	    fln_now_ns() - w->last_arrival_ns < w->opts.spin_ns)
		return 0;
	return w->nr_held > 0 || w->wanted || w->has_whole || jobs == FLN_POPULATE_WAITS
		       ? ns_until_held_are_due(w)
		       : -1;
}

/*
 * The guest's threads compete with the worker for its CPU; at the same nice value it would get
 * one share among many.
 */
static void raise_priority(const struct fln_worker *w)
{
	int nice = w->opts.nice ? w->opts.nice : DEFAULT_NICE;

	if (w->opts.nice == FLN_NICE_KEEP)
		return;
	if (setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) != 0 &&
	    !(w->opts.said_nice && atomic_exchange(w->opts.said_nice, true)))
		fln_log(&w->opts.log, w->opts.nice ? FLN_LOG_WARNING : FLN_LOG_INFO,
			"worker %u, and perhaps others, may not set its nice value to %d and keeps "
			"the one it has; grant CAP_SYS_NICE or raise RLIMIT_NICE",
			w->opts.index, nice);
}

/*
 * Pin the worker to a CPU of its own if the plan has one for it, else to the CPUs of its node:
 * the scheduler then tends to run it where it was woken, on the CPU of the faulting thread, which
 * now sleeps, and a wakeup on the same CPU costs a fraction of one across CPUs.
 */
static void pin(const struct fln_worker *w)
{
	int rc = w->opts.pu >= 0 ? fln_pin_thread((uint32_t)w->opts.pu)
		 : w->opts.cpus  ? fln_pin_thread_to(w->opts.cpus)
				 : 0;

	if (rc && !(w->opts.said_unpinned && atomic_exchange(w->opts.said_unpinned, true)))
		fln_log(&w->opts.log, FLN_LOG_WARNING,
			"worker %u, and perhaps others, cannot be pinned and may run on any CPU: "
			"%s",
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
	raise_priority(w);
	w->gap_ns = UINT32_MAX;
	while (!w->stopping)
		fln_worker_round(w, fln_release_patience(w, patience(w)));
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
	/* Without a thread commands must be refused, or their callers would wait for ever. */
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
