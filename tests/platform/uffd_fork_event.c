/* SPDX-License-Identifier: MIT */
/*
 * EVENT_FORK: fork() blocks until the event of every userfaultfd is read; each
 * event brings a descriptor for the child's copy of the range, and the child's
 * faults arrive there and are served from there.
 */
#include "platform.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static uint8_t *volatile mem;
static uint8_t page[4096];

/*
 * Not fork(): the C library holds the locks of malloc and stdio around it, so
 * that while it blocks no other thread may need them, this test's main thread
 * included.  (The engine's reader of FORK events must not either.)
 */
static int do_fork(struct plt_task *task)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(*(volatile uint8_t *)mem);
	task->arg = pid;
	return pid < 0 ? errno : 0;
}

int main(void)
{
	struct plt_task task = { .fn = do_fork };
	struct uffd_msg msg;
	int child[2];
	int uffd[2];
	int status;

	plt_init();
	memset(page, 0x86, sizeof(page));
	mem = plt_map(-1, 2 * PLT_BLOCK, MAP_PRIVATE | MAP_ANONYMOUS);
	for (int i = 0; i < 2; i++) {
		uffd[i] = plt_uffd(UFFD_FEATURE_EVENT_FORK);
		plt_register(uffd[i], mem + (uint64_t)i * PLT_BLOCK, PLT_BLOCK, PLT_MISSING);
	}
	plt_task_start(&task);
	for (int i = 0; i < 2; i++) {
		plt_task_expect_asleep(&task, "fork() while an event is unread");
		msg = plt_expect_event(uffd[i], UFFD_EVENT_FORK, "fork()");
		child[i] = (int)msg.arg.fork.ufd;
		PLT_CHECK(fcntl(child[i], F_GETFD) >= 0, "expected FORK to bring a descriptor");
		fcntl(child[i], F_SETFL, fcntl(child[i], F_GETFL) | O_NONBLOCK);
	}
	plt_expect_err(plt_task_wait(&task, "fork() after both events were read"), 0, "fork");
	plt_expect_fault(child[0], mem, false, "the child's touch");
	plt_expect_no_message(uffd[0], "the parent's userfaultfd, when the child faults");
	plt_expect_err(plt_copy(child[0], mem, page, PLT_PAGE, 0, NULL), 0, "COPY to the child");
	status = plt_wait_child(task.arg);
	PLT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0x86,
		  "expected the child to read 0x86, saw status %#x", (unsigned int)status);
	plt_touch_read(mem);
	plt_expect_fault(uffd[0], mem, false, "the parent's page, which is still missing");
	plt_pass();
}
