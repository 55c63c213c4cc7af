/* SPDX-License-Identifier: MIT */
/*
 * UFFD_FEATURE_SIGBUS: nothing is queued; the thread that faults gets SIGBUS, can
 * CONTINUE the page in its own handler, and goes on when the handler returns.  A
 * system call that is handed such memory returns EFAULT.
 */
#include "platform.h"

#include <signal.h>

static int uffd;
static _Atomic int nr_signals;
static _Atomic int last_err;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr & ~(uintptr_t)(PLT_PAGE - 1);
	int err = plt_continue(uffd, (void *)at, PLT_PAGE, 0, NULL);

	(void)sig;
	(void)context;
	atomic_store(&last_err, err);
	if (atomic_fetch_add(&nr_signals, 1) > 10)
		_exit(1);
}

int main(void)
{
	struct sigaction sa;
	uint8_t *mem;
	ssize_t n;
	int fd;
	int sink;

	plt_init();
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_sigaction = on_sigbus;
	sa.sa_flags = SA_SIGINFO;
	sigaction(SIGBUS, &sa, NULL);
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_SIGBUS);
	fd = plt_memfd(4 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x8a);
	mem = plt_map(fd, 4 * PLT_PAGE, MAP_SHARED);
	plt_register(uffd, mem, 4 * PLT_PAGE, PLT_BOTH);

	plt_expect_read(mem, 0x8a, "a page resolved in the handler");
	plt_expect_err(atomic_load(&last_err), 0, "CONTINUE in the handler");
	PLT_CHECK(atomic_load(&nr_signals) == 1, "expected one SIGBUS, saw %d",
		  atomic_load(&nr_signals));

	sink = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);
	PLT_CHECK(sink >= 0, "open of /proc/self/comm: %s", strerror(errno));
	n = write(sink, mem + 2 * PLT_PAGE, 8);
	plt_expect_err(n < 0 ? errno : 0, EFAULT, "write() from memory in SIGBUS mode");
	PLT_CHECK(atomic_load(&nr_signals) == 1, "expected no SIGBUS from a system call, saw one");
	plt_expect_no_message(uffd, "SIGBUS mode");
	plt_pass();
}
