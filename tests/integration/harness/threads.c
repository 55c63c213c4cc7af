/* SPDX-License-Identifier: MIT */
/* Threads that touch, and threads by the hundred, with an end to every wait. */
#include "tests/integration/harness/threads.h"

#include "tests/integration/harness/verdict.h"

#include <stdlib.h>
#include <string.h>

#define STACK_BYTES ((size_t)256 << 10)

static void start_thread(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	int rc;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	rc = pthread_create(thread, &attr, fn, arg);
	(void)pthread_attr_destroy(&attr);
	CHECK(rc == 0, "pthread_create: %s", strerror(rc));
}

static void *toucher_main(void *arg)
{
	struct toucher *t = arg;
	uint64_t t0 = now_ns(), value = t->value;
	enum touch end = t->write ? touch_write(t->addr, value) : touch_read(t->addr, &value);

	t->took_ns = now_ns() - t0;
	t->value = value;
	atomic_store(&t->end, (int)end);
	return NULL;
}

static void toucher_start(struct toucher *t, void *addr, bool write, uint64_t value)
{
	t->addr = addr;
	t->write = write;
	t->value = value;
	atomic_store(&t->end, TOUCH_PENDING);
	start_thread(&t->thread, toucher_main, t);
}

void toucher_read(struct toucher *t, void *addr)
{
	toucher_start(t, addr, false, 0);
}

void toucher_write(struct toucher *t, void *addr, uint64_t value)
{
	toucher_start(t, addr, true, value);
}

enum touch toucher_wait(struct toucher *t, const char *what)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;

	while (atomic_load(&t->end) == TOUCH_PENDING) {
		CHECK(now_ns() < until, "a thread at %p waited for %u s: %s", t->addr, WAIT_S,
		      what);
		sleep_ms(1);
	}
	(void)pthread_join(t->thread, NULL);
	return (enum touch)atomic_load(&t->end);
}

void toucher_expect(struct toucher *t, enum touch end, const char *what)
{
	enum touch got = toucher_wait(t, what);

	CHECK(got == end, "%s: the thread %s (0x%llx), where one that %s was expected", what,
	      touch_name(got), (unsigned long long)t->value, touch_name(end));
}

void toucher_expect_value(struct toucher *t, uint64_t value, const char *what)
{
	toucher_expect(t, TOUCH_OK, what);
	CHECK(t->value == value, "%s: read 0x%llx, expected 0x%llx", what,
	      (unsigned long long)t->value, (unsigned long long)value);
}

void toucher_expect_asleep(struct toucher *t, uint32_t ms, const char *what)
{
	sleep_ms(ms);
	CHECK(atomic_load(&t->end) == TOUCH_PENDING, "%s: the thread %s (0x%llx)", what,
	      touch_name((enum touch)atomic_load(&t->end)), (unsigned long long)t->value);
}

static void *crew_main(void *arg)
{
	struct crew_member *m = arg;
	struct crew *c = m->crew;

	atomic_fetch_add(&c->nr_begun, 1);
	c->fn(c->arg, m->index);
	atomic_store(&m->ended, true);
	atomic_fetch_add(&c->nr_ended, 1);
	return NULL;
}

void crew_start(struct crew *c, uint32_t nr, void (*fn)(void *arg, uint32_t index), void *arg)
{
	memset(c, 0, sizeof(*c));
	c->nr = nr;
	c->fn = fn;
	c->arg = arg;
	c->members = calloc(nr, sizeof(*c->members));
	CHECK(c->members, "no memory for %u threads", nr);
	for (uint32_t i = 0; i < nr; i++) {
		c->members[i].crew = c;
		c->members[i].index = i;
		start_thread(&c->members[i].thread, crew_main, &c->members[i]);
	}
}

void crew_wait(struct crew *c, uint32_t seconds, const char *what)
{
	uint64_t until = now_ns() + seconds * 1000 * MS * (TEST_TSAN || TEST_ASAN ? 4 : 1);

	while (atomic_load(&c->nr_ended) < c->nr) {
		if (now_ns() > until) {
			uint32_t i = 0;

			while (i < c->nr && atomic_load(&c->members[i].ended))
				i++;
			test_fail(__FILE__, __LINE__, what,
				  "%u of %u threads have not ended after %u s; the first is %u",
				  c->nr - atomic_load(&c->nr_ended), c->nr, seconds, i);
		}
		sleep_ms(1);
	}
	for (uint32_t i = 0; i < c->nr; i++)
		(void)pthread_join(c->members[i].thread, NULL);
	free(c->members);
	c->members = NULL;
}

void wait_count(_Atomic uint32_t *counter, uint32_t want, uint32_t seconds, const char *what)
{
	uint64_t until = now_ns() + seconds * 1000 * MS * (TEST_TSAN || TEST_ASAN ? 4 : 1);

	while (atomic_load(counter) < want) {
		CHECK(now_ns() < until, "%s: waited for %u, it is %u after %u s", what, want,
		      atomic_load(counter), seconds);
		sleep_ms(1);
	}
}
