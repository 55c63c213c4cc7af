/* SPDX-License-Identifier: MIT */
/*
 * The touching threads: each picks pages at random, and reads and verifies them whole, or
 * writes them.  A signal during a touch (a failed page) returns the thread to before the touch.
 */
#include "stress/toucher.h"

#include "stress/complain.h"
#include "stress/gate.h"
#include "stress/guard.h"
#include "stress/stress.h"
#include "stress/touch.h"
#include "stress/vcpus.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static void read_page(struct toucher *t, uint64_t page)
{
	struct stress *s = t->s;
	volatile uint64_t word = 0; /* volatile: read after the jump */
	volatile bool settled = false;
	uint64_t begun;
	int signo;

	if (!model_begin_read(&s->model, page, &begun))
		return;
	word = begun;
	settled = model_is_settled(&s->model, page);
	signo = sigsetjmp(t->guard.jump, 0);
	if (signo) {
		(void)model_end_read(&s->model, page, word, NULL);
		touch_after_signal(t, page, signo, settled);
		return;
	}
	t->guard.armed = 1;
	memcpy(t->copy, atomic_load_explicit(&s->base, memory_order_relaxed) + page * PAGE_BYTES,
	       PAGE_BYTES);
	t->guard.armed = 0;
	atomic_fetch_add_explicit(&t->nr_verified, 1, memory_order_relaxed);
	if (model_end_read(&s->model, page, word, t->copy))
		return;
	touch_describe_wrong(t, page);
}

static void write_page(struct toucher *t, uint64_t page)
{
	struct stress *s = t->s;
	volatile bool settled = false;
	uint64_t stamp;
	int signo;

	if (!model_begin_write(&s->model, page, &stamp))
		return;
	settled = model_is_settled(&s->model, page);
	signo = sigsetjmp(t->guard.jump, 0);
	if (signo) {
		model_end_write(&s->model, page, false);
		touch_after_signal(t, page, signo, settled);
		return;
	}
	t->guard.armed = 1;
	page_write((uint64_t *)(void *)(atomic_load_explicit(&s->base, memory_order_relaxed) +
					page * PAGE_BYTES),
		   stamp);
	t->guard.armed = 0;
	model_end_write(&s->model, page, true);
}

/* Through the gate; false: the run is over. */
static bool enter(struct toucher *t)
{
	while (!atomic_load_explicit(&t->s->stop, memory_order_relaxed)) {
		if (touch_enter(t))
			return true;
		gate_wait(t);
	}
	return false;
}

static void *toucher_main(void *arg)
{
	struct toucher *t = arg;
	struct stress *s = t->s;
	int rc = s->opts.in_context ? fln_thread_enter() : 0;

	if (rc)
		complain(s, "thread %u: %s", t->index, fln_last_error());
	atomic_store(&t->tid, gettid());
	guard_set(&t->guard);
	while (rc == 0 && touch_has_next(t) && enter(t)) {
		uint64_t now = now_ns();
		struct touch touch = touch_begin(t, now);

		if (touch.writes)
			write_page(t, touch.page);
		else
			read_page(t, touch.page);
		touch_end(t, now_ns() - now);
	}
	guard_set(NULL);
	atomic_store(&t->gone, true);
	if (rc == 0 && s->opts.in_context)
		fln_thread_leave();
	return NULL;
}

static uint64_t limit_of(const struct stress *s, uint32_t index)
{
	if (s->opts.nr_touches == 0)
		return UINT64_MAX;
	return s->opts.nr_touches / s->opts.nr_threads +
	       (index < s->opts.nr_touches % s->opts.nr_threads);
}

/* Allocate the touchers, and behind them a page for each, in whole pages, so that vCPUs can map them. */
int touchers_alloc(struct stress *s)
{
	uint32_t nr = s->opts.nr_threads;
	size_t own = nr * sizeof(struct toucher);
	size_t copies_at = (own + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
	size_t bytes = copies_at + (size_t)nr * PAGE_BYTES;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	s->touchers = (struct toucher *)(void *)p;
	s->touchers_bytes = bytes;
	for (uint32_t i = 0; i < nr; i++)
		s->touchers[i].copy = (uint64_t *)(void *)(p + copies_at + (size_t)i * PAGE_BYTES);
	return 0;
}

void touchers_free(struct stress *s)
{
	(void)munmap(s->touchers, s->touchers_bytes);
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
		t->limit = limit_of(s, i);
		rc = pthread_create(&t->thread, &attr,
				    s->opts.kvm ? vcpu_toucher_main : toucher_main, t);
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
	for (uint32_t i = 0; i < s->opts.nr_threads; i++)
		(void)pthread_join(s->touchers[i].thread, NULL);
}
