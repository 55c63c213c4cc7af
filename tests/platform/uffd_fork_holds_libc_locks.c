/* SPDX-License-Identifier: MIT */
/*
 * fork() of glibc holds the locks of malloc and stdio while it blocks on an
 * unread FORK event, so other threads' malloc() blocks as well (printed, for
 * another C library may do otherwise).  So whoever reads FORK events must get to
 * the read without malloc, stdio or pthread_create.  After the read all go on.
 */
#include "platform.h"

#include <sys/wait.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#endif

static _Atomic bool go;

static int do_fork(struct plt_task *task)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	task->arg = pid;
	return pid < 0 ? errno : 0;
}

static int do_malloc(struct plt_task *task)
{
	(void)task;
	while (!atomic_load(&go))
		plt_sleep_us(100);
	for (int i = 0; i < 100; i++) {
		void *volatile p = malloc(100000);

		free(p);
	}
	return 0;
}

int main(void)
{
	struct plt_task alloc = { .fn = do_malloc };
	struct plt_task task = { .fn = do_fork };
	struct uffd_msg msg = { .event = 0 };
	uint8_t *mem;
	bool blocked;
	int uffd;

	plt_init();
#ifdef UNDER_TSAN
	plt_skip("ThreadSanitizer's own fork() holds locks that the reader needs");
#endif
	uffd = plt_uffd(UFFD_FEATURE_EVENT_FORK);
	mem = plt_map(-1, PLT_BLOCK, MAP_PRIVATE | MAP_ANONYMOUS);
	plt_register(uffd, mem, PLT_BLOCK, PLT_MISSING);
	plt_task_start(&alloc);
	plt_sleep_us(1000);
	plt_task_start(&task);

	/* From here to the read: neither malloc nor stdio on this thread. */
	blocked = plt_poll(uffd, PLT_WAIT_MS);
	atomic_store(&go, true);
	blocked = blocked && !plt_task_ended(&alloc, PLT_QUIET_MS);
	if (read(uffd, &msg, sizeof(msg)) != (ssize_t)sizeof(msg))
		_exit(1);

	PLT_CHECK(msg.event == UFFD_EVENT_FORK, "expected a FORK message, saw %#x",
		  (unsigned int)msg.event);
	plt_expect_err(plt_task_wait(&task, "fork() after its event was read"), 0, "fork");
	plt_expect_err(plt_task_wait(&alloc, "malloc() after the event was read"), 0, "malloc");
	plt_note("malloc() in another thread while fork() waits for its event: %s",
		 blocked ? "blocks" : "goes on");
	close((int)msg.arg.fork.ufd);
	plt_wait_child(task.arg);
	plt_pass();
}
