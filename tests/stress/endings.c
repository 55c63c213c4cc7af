/* SPDX-License-Identifier: MIT */
/*
 * Ends under load: stop, destroy, a source that dies, a worker that fails, each again and
 * again under 200 threads with faults in flight.  Every touch verifies what it reads, all
 * of a page of it: contents, or a signal, as declared; and when all is over so does a look
 * at every page.  Never zeros, of which the image has none.
 *
 * Each round has one of eight kinds of region: queued or in context, shared or private, with
 * POISON or as on a kernel that has none.
 */
#include "engine/command.h"
#include "engine/events.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"
#include "tests/integration/harness.h"
#include "tests/integration/place.h"

#include <errno.h>
#include <faultlane/context.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/source.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_THREADS 200u
#define NR_PAGES 6000u
#define NR_SHARDS 8u
#define BEFORE 200u    /* touches of each thread at full speed */
#define AFTERWARDS 24u /* touches of each thread when it has happened */

enum ending {
	BY_STOP,
	BY_DESTROY,
	SOURCE_DIES,   /* every read fails from then on */
	SOURCE_HANGS,  /* no read comes back, until the guest has been stopped */
	WORKER_LOSES,  /* its epoll set is closed: it makes a new one */
	WORKER_SCANS,  /* the same, and none can be made */
	WORKER_UNREAD, /* some userfaultfds cannot be read: the guard stops the guest */
	NR_ENDINGS
};

static const char *const names[NR_ENDINGS] = {
	[BY_STOP] = "stop",
	[BY_DESTROY] = "destroy",
	[SOURCE_DIES] = "source dies",
	[SOURCE_HANGS] = "source hangs",
	[WORKER_LOSES] = "worker without its epoll set",
	[WORKER_SCANS] = "worker without any",
	[WORKER_UNREAD] = "worker that cannot read",
};

static struct tally {
	uint32_t nr_rounds;
	_Atomic uint64_t nr_verified, nr_sigbus, nr_sigsegv;
} tallies[NR_ENDINGS];

struct round {
	struct bed bed;
	enum ending ending;
	bool in_context, is_private, no_poison;
	int epoll_fds[64]; /* of each worker, noted before its thread is there to change it */
	struct tally *tally;
	_Atomic uint32_t nr_touches; /* of all threads, before */
	_Atomic bool happened, source_dead;
};

/* A source of the bed's contents that can die. */
static int64_t mortal_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct round *r = ctx;
	struct maker *m = &r->bed.maker;

	atomic_fetch_add(&m->nr_reads, 1);
	if (m->delay_ns)
		(void)usleep((useconds_t)(m->delay_ns / 1000));
	while (atomic_load(&m->gate_closed))
		sleep_ms(1);
	if (atomic_load(&r->source_dead))
		return -EIO;
	for (uint64_t at = 0; at < len_bytes; at += PAGE)
		contents_of(m->salt, (offset_bytes + at) / PAGE, (char *)buf + at);
	return (int64_t)len_bytes;
}

/* Userfaultfds that cannot be read any more. */
static const struct fln_uffd_ops *kernel_ops;
static struct fln_uffd_ops failing_ops; /* the kernel's, but for the read */
static _Atomic bool unreadable;

static ssize_t read_or_not(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr)
{
	return atomic_load(&unreadable) ? -EIO : kernel_ops->read(u, msgs, nr);
}

/*
 * In context nobody reads but for events, so there must be some; their threads wait for the
 * end.  One page of each userfaultfd that cannot be read, which may be anything then: giving
 * a page up takes the poison off it.
 */
static bool is_given_up(const struct round *r, uint64_t page)
{
	return r->ending == WORKER_UNREAD && page % 1024 == 0 && page < (uint64_t)NR_SHARDS * 512;
}

static void judge(struct round *r, uint64_t page, enum touch end, bool right)
{
	CHECK(end != TOUCH_OK || right || is_given_up(r, page),
	      "%s (%s, %s%s): page %llu holds something else", names[r->ending],
	      r->in_context ? "in context" : "queued", r->is_private ? "private" : "shared",
	      r->no_poison ? ", no POISON" : "", (unsigned long long)page);
	if (end == TOUCH_OK && !right)
		return;
	atomic_fetch_add(end == TOUCH_OK       ? &r->tally->nr_verified
			 : end == TOUCH_SIGBUS ? &r->tally->nr_sigbus
					       : &r->tally->nr_sigsegv,
			 1);
}

/* A worker that fails, and nobody is to notice. */
static bool serves_on(const struct round *r)
{
	return r->ending == WORKER_LOSES || r->ending == WORKER_SCANS;
}

static void touch_random(void *arg, uint32_t index)
{
	struct round *r = arg;
	uint64_t random = index + 1;
	uint32_t left = AFTERWARDS, nr = 0;

	if (r->in_context)
		OK(fln_thread_enter());
	while (left > 0) {
		uint64_t page = next_random(&random) % NR_PAGES;
		bool right = false, after = atomic_load(&r->happened);
		enum touch end = touch_page(bed_page(&r->bed, page), 1, page, &right);

		judge(r, page, end, right);
		CHECK(end == TOUCH_OK || !serves_on(r), "%s: page %llu: the thread %s",
		      names[r->ending], (unsigned long long)page, touch_name(end));
		atomic_fetch_add(&r->nr_touches, 1);
		left -= after;
		/* Leave the processors to those with something left to wait for. */
		if (end != TOUCH_OK || nr++ > BEFORE)
			(void)usleep(500);
	}
	if (r->in_context)
		fln_thread_leave();
}

static void hide_poison(struct fln_shard *shards, uint32_t nr)
{
	for (uint32_t i = 0; shards && i < nr; i++)
		shards[i].uffd.range_ioctls &= ~(UINT64_C(1) << _UFFDIO_POISON);
}

static void set_up(struct round *r, uint32_t number)
{
	static const struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "mortal",
		.concurrency = FLN_SOURCE_PARALLEL,
		.read = mortal_read,
	};
	struct bed *b = &r->bed;
	struct fln_guest *g;

	bed_init(b, NR_PAGES);
	b->engine_opts.fill_pages = 4;
	b->engine_opts.source_retries = UINT32_MAX;
	b->engine_opts.stall_report_ms = 40;
	b->guest_opts.nr_shards = NR_SHARDS;
	b->maker.delay_ns = number % 3 ? MS / 4 : 0;
	b->region_opts.discard = FLN_DISCARD_IMAGE; /* a discard that nobody hears of is none */
	b->region_opts.delivery = r->in_context ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
	b->region_opts.sharing = r->is_private ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
	OK(fln_engine_create(&b->engine_opts, &b->engine));
	b->engine->close_patience_ns = 50 * MS;
	for (uint32_t i = 0; r->ending == WORKER_SCANS && i < b->engine->opts.nr_workers; i++)
		b->engine->workers[i].nr_renewed = 1000;
	CHECK(b->engine->opts.nr_workers <= 64, "%u workers", b->engine->opts.nr_workers);
	for (uint32_t i = 0; i < b->engine->opts.nr_workers; i++)
		r->epoll_fds[i] = b->engine->workers[i].epoll_fd;
	OK(fln_engine_start(b->engine));
	OK(fln_source_create(&ops, r, &b->source));
	b->image_opts.source = b->source;
	OK(fln_image_create(b->engine, &b->image_opts, &b->image));
	b->region_opts.image = b->image;
	OK(fln_guest_create(b->engine, &b->guest_opts, &b->guest));
	g = b->guest;
	OK(fln_region_add(g, &b->region_opts, &b->region));
	if (r->no_poison) {
		hide_poison(g->shards, NR_SHARDS);
		hide_poison(fln_context_shards(g), NR_SHARDS);
	}
	atomic_store(&unreadable, false);
	kernel_ops = g->shards[0].uffd.ops;
	failing_ops = *kernel_ops;
	failing_ops.read = read_or_not;
	for (uint32_t i = 0; r->ending == WORKER_UNREAD && i < NR_SHARDS; i += 2) {
		g->shards[i].uffd.ops = &failing_ops;
		if (r->in_context)
			fln_context_shards(g)[i].uffd.ops = &failing_ops;
	}
	bed_up(b);
}

/* The descriptor that a worker waits on is closed behind its back: not by a call that is watched. */
static void close_epoll(struct round *r)
{
	struct fln_engine *e = r->bed.engine;

	for (uint32_t i = 0; i < e->opts.nr_workers; i += 2)
		CHECK(syscall(SYS_close, r->epoll_fds[i]) == 0, "close: %s", strerror(errno));
	/* A thread that sleeps there finds out when it waits the next time. */
	for (uint32_t i = 0; i < e->opts.nr_workers; i++)
		fln_worker_kick(&e->workers[i]);
}

static void discard_one(void *arg, uint32_t index)
{
	struct round *r = arg;

	(void)madvise(bed_page(&r->bed, 2 * (uint64_t)index * 512), PAGE, MADV_DONTNEED);
}

/* Waits until an event of @kind has come; others are read over. */
static void wait_event(struct round *r, uint32_t kind, const char *what)
{
	struct fln_event e = FLN_EVENT_INIT;

	for (uint64_t t0 = now_ns();; sleep_ms(1)) {
		while (fln_engine_next_event(r->bed.engine, &e) == 1) {
			if (e.kind == kind)
				return;
		}
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "%s: no event of kind %u", what, kind);
	}
}

/* The guest has been stopped for it, whether all of it could be made unreadable or not. */
static void wait_stopped(struct test_log *log)
{
	for (uint64_t t0 = now_ns(); !log_names(log, FLN_LOG_WARNING, "been stopped") &&
				     !log_names(log, FLN_LOG_ERROR, "been stopped");
	     sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "the guest is not stopped");
}

static void happen(struct round *r, struct crew *discards)
{
	struct bed *b = &r->bed;

	switch (r->ending) {
	case BY_STOP:
		OK(fln_guest_stop(b->guest));
		break;
	case BY_DESTROY:
		/* In context it is told that nobody touches what will be gone: see below. */
		OK(fln_guest_destroy(b->guest));
		b->guest = NULL;
		break;
	case SOURCE_DIES:
		atomic_store(&r->source_dead, true);
		break;
	case SOURCE_HANGS:
		atomic_store(&b->maker.gate_closed, true);
		sleep_ms(2);
		OK(fln_guest_stop(b->guest));
		break;
	case WORKER_LOSES:
	case WORKER_SCANS:
		close_epoll(r);
		wait_event(r, FLN_EVENT_WORKER_FAILED, "a worker whose epoll set is closed");
		wait_log(&r->bed.log, FLN_LOG_ERROR, "epoll_wait()");
		break;
	case WORKER_UNREAD:
	default:
		atomic_store(&unreadable, true);
		crew_start(discards, NR_SHARDS / 2, discard_one, r);
		wait_event(r, FLN_EVENT_GUEST_FAILED, "userfaultfds that cannot be read");
		wait_stopped(&r->bed.log);
		break;
	}
	atomic_store(&r->happened, true);
}

/* Every page, when nothing is under way any more. */
static void look_at_all(struct round *r)
{
	if (r->in_context)
		OK(fln_thread_enter());
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		bool right = false;
		enum touch end = touch_page(bed_page(&r->bed, page), 1, page, &right);

		judge(r, page, end, right);
	}
	if (r->in_context)
		fln_thread_leave();
}

static void take_down(struct round *r)
{
	struct bed *b = &r->bed;

	atomic_store(&b->maker.gate_closed, false);
	if (b->guest) {
		OK(fln_guest_stop(b->guest));
		check_stats(b->guest, true, NULL);
		look_at_all(r);
		STEP("fln_guest_destroy");
		OK(fln_guest_destroy(b->guest));
	}
	place_give_back();
	STEP("taking down the image and the engine");
	OK(fln_image_destroy(b->image));
	fln_source_destroy(b->source);
	OK(fln_engine_destroy(b->engine));
	(void)pthread_mutex_destroy(&b->log.lock);
}

static void one_round(enum ending ending, uint32_t number)
{
	static struct round r;
	struct crew crew, discards = { .nr = 0 };
	uint64_t seed = number * NR_ENDINGS + ending;
	uint32_t kind = number * 5; /* few rounds have some of everything */

	memset(&r, 0, sizeof(r));
	r.ending = ending;
	r.tally = &tallies[ending];
	r.in_context = kind & 1;
	r.is_private = kind & 2;
	r.no_poison = kind & 4;
	STEP("%s, round %u: setting up", names[ending], number);
	set_up(&r, number);
	place_keep(bed_page(&r.bed, 0), NR_PAGES * PAGE);
	crew_start(&crew, NR_THREADS, touch_random, &r);
	wait_count(&r.nr_touches, 100, WAIT_S, "the first touches");
	sleep_ms((uint32_t)(next_random(&seed) % 6));
	STEP("%s, round %u: it happens", names[ending], number);
	happen(&r, &discards);
	STEP("%s, round %u: threads end", names[ending], number);
	crew_wait(&crew, 60, names[ending]);
	if (discards.nr > 0)
		crew_wait(&discards, 60, "a discard that nobody heard of");
	STEP("%s, round %u: taking down", names[ending], number);
	take_down(&r);
	r.tally->nr_rounds++;
}

static uint32_t nr_rounds;

/* Eight of each, which is one for each kind of region, or fewer if time is up. */
static void with_faults_in_flight(void)
{
	static uint64_t until;

	if (until == 0)
		until = now_ns() + test_scale(2500, 11000, 3600 * 1000) * MS;
	do {
		for (enum ending e = 0; e < NR_ENDINGS; e++)
			one_round(e, nr_rounds);
		nr_rounds++;
	} while (nr_rounds % 8 && now_ns() < until);
}

static void counts(void)
{
	for (enum ending e = 0; e < NR_ENDINGS; e++) {
		const struct tally *t = &tallies[e];

		test_note(
			"%s: %u rounds, %llu touches verified, %llu SIGBUS, %llu SIGSEGV, 0 wrong",
			names[e], t->nr_rounds, (unsigned long long)t->nr_verified,
			(unsigned long long)t->nr_sigbus, (unsigned long long)t->nr_sigsegv);
	}
}

int main(void)
{
	test_init();
	OK(fln_sigbus_install());
	/* 100 rounds of each at long scale, else as many as there is time for. */
	do {
		RUN(with_faults_in_flight);
	} while (nr_rounds % 8 == 0 && nr_rounds < test_scale(8, 16, 104));
	RUN(counts);
	return 0;
}
