/* SPDX-License-Identifier: MIT */
/*
 * The gate that stops touches, and the turn of the step that may close it.
 *
 * Touching threads sleep at a closed gate until it opens; the threads of chaos, whose steps close
 * it, never pass it.  The sleepers do not poll: hundreds of polling threads, each of which enters
 * its vCPU to look, would leave no processor to the step for which the gate was closed.
 */
#include "stress/gate.h"

#include "stress/stage.h"
#include "stress/stress.h"
#include "stress/touch.h"

/* The end of the run is not signalled, so waiting threads look for it this often. */
#define LOOK_NS 100000000u

void gate_init(struct stress *s)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&s->gate_changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	(void)pthread_mutex_init(&s->gate_lock, NULL);
	(void)pthread_mutex_init(&s->turn, NULL);
}

/* Change what the threads at the gate wait for, and wake them. */
static void change(struct stress *s, _Atomic bool *what, bool to)
{
	(void)pthread_mutex_lock(&s->gate_lock);
	atomic_store(what, to);
	(void)pthread_cond_broadcast(&s->gate_changed);
	(void)pthread_mutex_unlock(&s->gate_lock);
}

void gate_close_begin(struct stress *s)
{
	atomic_store(&s->gate, true);
}

void gate_open(struct stress *s)
{
	change(s, &s->gate, false);
}

void gate_let_crowd(struct stress *s, bool in)
{
	change(s, &s->alone, in);
}

void gate_wait_outside(struct stress *s)
{
	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		while (atomic_load(&s->touchers[i].inside))
			sleep_ms(1);
	}
}

static bool is_shut(const struct toucher *t)
{
	return atomic_load(&t->s->gate) && !touch_belongs_to_crowd(t);
}

void gate_wait(struct toucher *t)
{
	struct stress *s = t->s;

	(void)pthread_mutex_lock(&s->gate_lock);
	while (is_shut(t) && !atomic_load(&s->stop)) {
		uint64_t until = now_ns() + LOOK_NS;
		struct timespec ts = { .tv_sec = (time_t)(until / 1000000000u),
				       .tv_nsec = (long)(until % 1000000000u) };

		(void)pthread_cond_timedwait(&s->gate_changed, &s->gate_lock, &ts);
	}
	(void)pthread_mutex_unlock(&s->gate_lock);
}

void turn_take(struct stress *s)
{
	stage_begin(stage_waits_turn);
	(void)pthread_mutex_lock(&s->turn);
	stage_begin("has its turn");
}

void turn_give(struct stress *s)
{
	(void)pthread_mutex_unlock(&s->turn);
}
