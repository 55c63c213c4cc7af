/* SPDX-License-Identifier: MIT */
/*
 * The threads that touch: each picks pages at random, reads and verifies them whole,
 * or writes them.  A signal in a touch (a page that cannot be had) brings the thread
 * back to where it began.
 */
#include "stress/stress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

static _Thread_local struct guard *my_guard;
static bool resolves; /* set once, before threads are there */
static struct stress *counted_for;

void guard_set(struct guard *g)
{
	my_guard = g;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	if (resolves && fln_resolve(info) == FLN_RESOLVED)
		return;
	if (my_guard && my_guard->armed) {
		my_guard->armed = 0;
		/* ThreadSanitizer runs handlers with all signals blocked, SIGBUS too. */
		(void)pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(my_guard->jump, signo);
	}
	(void)sigaction(signo, &dfl, NULL); /* and the access is tried again */
}

static void on_storm(int signo)
{
	(void)signo;
	atomic_fetch_add_explicit(&counted_for->nr_signals, 1, memory_order_relaxed);
}

int guard_install(struct stress *s)
{
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct sigaction storm = { .sa_handler = on_storm, .sa_flags = SA_RESTART };

	resolves = s->opts.in_context;
	counted_for = s;
	return sigaction(SIGBUS, &fault, NULL) || sigaction(SIGSEGV, &fault, NULL) ||
			       sigaction(SIGUSR1, &storm, NULL)
		       ? -errno
		       : 0;
}

/* A touch ended in a signal: was that what was declared? */
static void after_signal(struct toucher *t, uint64_t page, int signo)
{
	struct stress *s = t->s;
	char buf[128];

	if (atomic_load(&s->closing))
		return;
	if (page == s->source.dead_page ||
	    (s->opts.huge && page / HUGE_PAGES == s->source.dead_page / HUGE_PAGES)) {
		atomic_fetch_add_explicit(&t->nr_declared, 1, memory_order_relaxed);
		return;
	}
	complain(s, "page %llu: signal %d (%s), where %s is due", (unsigned long long)page, signo,
		 strsignal(signo), model_describe(&s->model, page, buf, sizeof(buf)));
}

static void describe_wrong(struct toucher *t, uint64_t page)
{
	struct stress *s = t->s;
	char buf[128];
	uint32_t i = 0;

	while (i + 1 < PAGE_WORDS && t->copy[i + 1] == t->copy[i] + (t->copy[0] ? 2 : 0))
		i++;
	complain(s, "page %llu reads %016llx … %016llx (alike up to word %u), where %s is due",
		 (unsigned long long)page, (unsigned long long)t->copy[0],
		 (unsigned long long)t->copy[PAGE_WORDS - 1], i,
		 model_describe(&s->model, page, buf, sizeof(buf)));
}

static void read_page(struct toucher *t, uint64_t page)
{
	struct stress *s = t->s;
	volatile uint64_t word = 0; /* both survive the jump */
	uint64_t begun;
	int signo;

	if (!model_begin_read(&s->model, page, &begun))
		return;
	word = begun;
	signo = sigsetjmp(t->guard.jump, 0);
	if (signo) {
		(void)model_end_read(&s->model, page, word, NULL);
		after_signal(t, page, signo);
		return;
	}
	t->guard.armed = 1;
	memcpy(t->copy, atomic_load_explicit(&s->base, memory_order_relaxed) + page * PAGE_BYTES,
	       PAGE_BYTES);
	t->guard.armed = 0;
	atomic_fetch_add_explicit(&t->nr_verified, 1, memory_order_relaxed);
	if (model_end_read(&s->model, page, word, t->copy))
		return;
	describe_wrong(t, page);
}

static void write_page(struct toucher *t, uint64_t page)
{
	struct stress *s = t->s;
	uint64_t stamp;
	int signo;

	if (!model_begin_write(&s->model, page, &stamp))
		return;
	signo = sigsetjmp(t->guard.jump, 0);
	if (signo) {
		model_end_write(&s->model, page, false);
		after_signal(t, page, signo);
		return;
	}
	t->guard.armed = 1;
	page_write((uint64_t *)(void *)(atomic_load_explicit(&s->base, memory_order_relaxed) +
					page * PAGE_BYTES),
		   stamp);
	t->guard.armed = 0;
	model_end_write(&s->model, page, true);
}

/* The gate is closed, but not for a crowd's threads. */
static bool belongs_to_crowd(const struct toucher *t)
{
	const struct stress *s = t->s;

	return atomic_load(&s->alone) &&
	       (atomic_load(&s->hot) || atomic_load(&s->stampede) != atomic_load(&t->stampede));
}

/* Through the gate; false: the run is over. */
static bool enter(struct toucher *t)
{
	struct stress *s = t->s;

	for (;;) {
		if (atomic_load_explicit(&s->stop, memory_order_relaxed))
			return false;
		atomic_store(&t->inside, true);
		if (!atomic_load(&s->gate) || belongs_to_crowd(t))
			return true;
		atomic_store(&t->inside, false);
		sleep_ms(1);
	}
}

static uint64_t pick_page(struct toucher *t)
{
	struct stress *s = t->s;
	uint64_t stampede = atomic_load_explicit(&s->stampede, memory_order_relaxed);
	uint64_t hot = atomic_load_explicit(&s->hot, memory_order_relaxed);

	if (stampede != atomic_load_explicit(&t->stampede, memory_order_relaxed)) {
		atomic_store(&t->stampede, stampede);
		return stampede & ((UINT64_C(1) << 40) - 1);
	}
	if (hot)
		return (hot - 1 + rng_below(&t->rng, 4)) % s->nr_pages;
	/* Some look often where a page cannot be had: its neighbours must notice nothing. */
	if (t->index % 32 == 0 && s->source.dead_page != UINT64_MAX && rng_below(&t->rng, 64) == 0)
		return (s->source.dead_page + rng_below(&t->rng, 8)) % s->nr_pages;
	return rng_below(&t->rng, s->nr_pages);
}

/* A touch of ours has ended. */
static void note_touch(struct toucher *t, uint64_t begin_ns)
{
	uint64_t took_ns = now_ns() - begin_ns;

	if (took_ns > atomic_load_explicit(&t->longest_ns, memory_order_relaxed))
		atomic_store_explicit(&t->longest_ns, took_ns, memory_order_relaxed);
	atomic_store_explicit(&t->since_ns, 0, memory_order_relaxed);
}

static void *toucher_main(void *arg)
{
	struct toucher *t = arg;
	struct stress *s = t->s;
	uint64_t limit = s->opts.nr_touches / s->opts.nr_threads +
			 (t->index < s->opts.nr_touches % s->opts.nr_threads);
	uint64_t n = 0;
	int rc = s->opts.in_context ? fln_thread_enter() : 0;

	if (rc)
		complain(s, "thread %u: %s", t->index, fln_last_error());
	guard_set(&t->guard);
	while (rc == 0 && (s->opts.nr_touches == 0 || n < limit) && enter(t)) {
		uint64_t stampede = atomic_load_explicit(&t->stampede, memory_order_relaxed);
		uint64_t page = pick_page(t), begin_ns = now_ns();

		atomic_store_explicit(&t->page, page, memory_order_relaxed);
		atomic_store_explicit(&t->since_ns, begin_ns, memory_order_relaxed);
		/* A stampede reads: a writer would have the page to itself. */
		if (rng_below(&t->rng, 4) == 0 && page != s->source.dead_page &&
		    stampede == atomic_load_explicit(&t->stampede, memory_order_relaxed))
			write_page(t, page);
		else
			read_page(t, page);
		note_touch(t, begin_ns);
		atomic_store(&t->inside, false);
		atomic_store_explicit(&t->nr_touches, ++n, memory_order_relaxed);
	}
	guard_set(NULL);
	atomic_store(&t->gone, true);
	if (rc == 0 && s->opts.in_context)
		fln_thread_leave();
	return NULL;
}

int touchers_start(struct stress *s)
{
	pthread_attr_t attr;
	int rc = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, 256 * 1024);
	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		struct toucher *t = &s->touchers[i];

		t->s = s;
		t->index = i;
		t->rng.state = mix(s->opts.seed ^ mix(i + 1));
		t->copy = aligned_alloc(64, PAGE_BYTES);
		rc = t->copy ? pthread_create(&t->thread, &attr, toucher_main, t) : ENOMEM;
		if (rc) {
			(void)fprintf(stderr, "faultlane-stress: thread %u: %s\n", i, strerror(rc));
			atomic_store(&s->stop, true);
			s->opts.nr_threads = i;
			touchers_join(s);
			break;
		}
	}
	(void)pthread_attr_destroy(&attr);
	return -rc;
}

void touchers_join(struct stress *s)
{
	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		(void)pthread_join(s->touchers[i].thread, NULL);
		free(s->touchers[i].copy);
		s->touchers[i].copy = NULL;
	}
}
