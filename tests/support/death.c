/* SPDX-License-Identifier: MIT */
/* Does a function abort?  Its last words go nowhere. */
#include "tests/support/death.h"

#include "base/error.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

bool aborts(void (*fn)(void *arg), void *arg)
{
	struct rlimit no_core = { 0, 0 };
	int status = 0, null;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	FLN_ASSERT(pid >= 0);
	if (pid == 0) {
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)dup2(null, STDERR_FILENO);
		(void)signal(SIGABRT, SIG_DFL); /* the test framework's is not wanted here */
		fn(arg);
		_exit(0);
	}
	FLN_ASSERT(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
