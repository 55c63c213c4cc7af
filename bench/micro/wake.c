/* SPDX-License-Identifier: MIT */
/* The cost of the scheduler and of signals: wake-ups, traps, system calls. */
#include "base/clock.h"
#include "bench/micro/subject.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASLEEP_US 200 /* enough for the other thread to be asleep */

struct micro_pair {
	_Alignas(64) _Atomic uint32_t turn; /* number of requested rounds */
	_Alignas(64) _Atomic uint32_t answer;
	int other_cpu;
	bool spin;
	_Atomic bool stop;
	pthread_t other;
};

static void futex_wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_while(_Atomic uint32_t *word, uint32_t value, bool spin)
{
	while (atomic_load(word) == value) {
		if (!spin)
			(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
	}
}

static void *other_main(void *arg)
{
	struct micro_pair *p = arg;

	(void)micro_pin(p->other_cpu);
	for (uint32_t seen = 0; !atomic_load(&p->stop); seen++) {
		wait_while(&p->turn, seen, p->spin);
		atomic_store(&p->answer, seen + 1);
		if (!p->spin)
			futex_wake(&p->answer);
	}
	return NULL;
}

struct micro_pair *micro_pair_new(int cpu, int other_cpu, bool spin)
{
	struct micro_pair *p = aligned_alloc(64, sizeof(*p));

	if (!p || !micro_pin(cpu)) {
		free(p);
		return NULL;
	}
	*p = (struct micro_pair){ .other_cpu = other_cpu, .spin = spin };
	if (pthread_create(&p->other, NULL, other_main, p)) {
		free(p);
		return NULL;
	}
	return p;
}

void micro_pair_free(struct micro_pair *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	atomic_fetch_add(&p->turn, 1);
	futex_wake(&p->turn);
	(void)pthread_join(p->other, NULL);
	(void)micro_pin(-1);
	free(p);
}

void micro_pair_round(struct micro_pair *p)
{
	uint32_t turn = atomic_fetch_add(&p->turn, 1);

	if (!p->spin)
		futex_wake(&p->turn);
	wait_while(&p->answer, turn, p->spin);
}

double micro_pair_wake_ns(struct micro_pair *p)
{
	uint32_t turn;
	uint64_t t0, t1;

	(void)usleep(ASLEEP_US);
	turn = atomic_fetch_add(&p->turn, 1);
	t0 = fln_now_ns();
	futex_wake(&p->turn);
	t1 = fln_now_ns();
	wait_while(&p->answer, turn, p->spin);
	return (double)(t1 - t0);
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
}

bool micro_trap_prepare(void)
{
	struct sigaction act = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	return sigaction(SIGTRAP, &act, NULL) == 0;
}

void micro_trap(void)
{
#if defined(__x86_64__)
	/* Like SIGBUS of a fault: a synchronous exception. */
	__asm__ volatile("int3" ::: "memory");
#else
	(void)raise(SIGTRAP);
#endif
}

void micro_syscall(void)
{
	(void)syscall(SYS_getppid);
}
