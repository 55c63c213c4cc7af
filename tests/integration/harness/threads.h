/* SPDX-License-Identifier: MIT */
/* Threads that touch, and threads by the hundred, with an end to every wait. */
#ifndef FLN_TESTS_HARNESS_THREADS_H
#define FLN_TESTS_HARNESS_THREADS_H

#include "tests/integration/harness/touch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A thread of its own for one touch. */
struct toucher {
	pthread_t thread;
	void *addr;
	bool write;
	uint64_t value; /* to write, or what was read */
	uint64_t took_ns;
	_Atomic int end;
};

void toucher_read(struct toucher *t, void *addr);
void toucher_write(struct toucher *t, void *addr, uint64_t value);
/* Waits and joins; ends the test, saying @what was waited for, after WAIT_S. */
enum touch toucher_wait(struct toucher *t, const char *what);
void toucher_expect(struct toucher *t, enum touch end, const char *what);
void toucher_expect_value(struct toucher *t, uint64_t value, const char *what);
void toucher_expect_asleep(struct toucher *t, uint32_t ms, const char *what);

/* Many threads that run one function. */
struct crew {
	uint32_t nr;
	void (*fn)(void *arg, uint32_t index);
	void *arg;
	_Atomic uint32_t nr_begun, nr_ended;
	struct crew_member {
		struct crew *crew;
		uint32_t index;
		pthread_t thread;
		_Atomic bool ended;
	} * members;
};

void crew_start(struct crew *c, uint32_t nr, void (*fn)(void *arg, uint32_t index), void *arg);
void crew_wait(struct crew *c, uint32_t seconds, const char *what);

/* Waits until *@counter is at least @want. */
void wait_count(_Atomic uint32_t *counter, uint32_t want, uint32_t seconds, const char *what);

#endif
