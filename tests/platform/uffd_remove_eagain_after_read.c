/* SPDX-License-Identifier: MIT */
/*
 * Reading a REMOVE does not end EAGAIN: the thread that discards ends it, when
 * it runs again.  So a worker that spins on EAGAIN can keep that thread off its
 * own processor.  How long it lasts is printed, with the discarding thread on
 * another processor and on the reader's; that it ends is asserted.
 */
#include "platform.h"

#include <sched.h>

enum {
	ROUNDS = 100
};

static cpu_set_t all;

static int nth_cpu(int n)
{
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && n-- == 0)
			return (int)cpu;
	return -1;
}

static void pin(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	PLT_CHECK(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity: %s",
		  strerror(errno));
}

static int discard(struct plt_task *task)
{
	pin(task->arg);
	return madvise(task->addr, task->len, MADV_DONTNEED) == 0 ? 0 : errno;
}

static void rounds(const char *where, int uffd, uint8_t *mem, int cpu, bool yield)
{
	unsigned int nr_again = 0;
	uint64_t sum_ns = 0;
	uint64_t max_ns = 0;

	for (int i = 0; i < ROUNDS; i++) {
		struct plt_task task = { .fn = discard, .addr = mem, .len = PLT_PAGE, .arg = cpu };
		uint64_t begin;
		uint64_t ns;
		int calls = 0;
		int err;

		plt_task_start(&task);
		PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "waited 8 s for a REMOVE message");
		plt_sleep_us(200); /* the discarding thread is asleep by now */
		plt_expect_event(uffd, UFFD_EVENT_REMOVE, "discard");
		begin = plt_now_ns();
		for (;;) {
			err = plt_continue(uffd, mem + PLT_PAGE, PLT_PAGE, 0, NULL);
			if (err != EAGAIN)
				break;
			calls++;
			PLT_CHECK(plt_now_ns() - begin < UINT64_C(8000000000),
				  "%s: EAGAIN for 8 s after the REMOVE was read", where);
			if (yield)
				sched_yield();
		}
		ns = plt_now_ns() - begin;
		PLT_CHECK(err == 0 || err == EEXIST, "%s: CONTINUE after REMOVE: %s", where,
			  strerror(err));
		if (calls) {
			nr_again++;
			sum_ns += ns;
			max_ns = ns > max_ns ? ns : max_ns;
		}
		plt_expect_err(plt_task_wait(&task, "madvise"), 0, "madvise");
		plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), EEXIST,
			       "CONTINUE of a mapped page when the discard is over");
	}
	plt_note("%s: EAGAIN after the read in %u of %d rounds, mean %.1f us, longest %.1f us",
		 where, nr_again, ROUNDS, nr_again ? (double)sum_ns / 1e3 / nr_again : 0.0,
		 (double)max_ns / 1e3);
}

int main(void)
{
	uint8_t *mem;
	int fd;
	int uffd;

	plt_init();
	PLT_CHECK(sched_getaffinity(0, sizeof(all), &all) == 0, "sched_getaffinity: %s",
		  strerror(errno));
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x53);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_continue(uffd, mem + 2 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "CONTINUE");
	pin(nth_cpu(0));
	rounds("same processor, spinning", uffd, mem, nth_cpu(0), false);
	rounds("same processor, sched_yield", uffd, mem, nth_cpu(0), true);
	if (nth_cpu(1) >= 0)
		rounds("another processor", uffd, mem, nth_cpu(1), false);
	plt_pass();
}
