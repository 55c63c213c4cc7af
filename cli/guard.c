/* SPDX-License-Identifier: MIT */
/* Handles SIGBUS and SIGSEGV of guest memory, with async-signal-safe calls only. */
#include "cli/guard.h"

#include "cli/cli.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static char *const *guard_addrs;
static uint32_t guard_nr;
static uint64_t guard_len_bytes;

static void put(const char *text, size_t len)
{
	ssize_t n = write(STDERR_FILENO, text, len);

	(void)n; /* nothing can be done about a failure here */
}

static void put_number(uint64_t n)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	put(digits + at, sizeof(digits) - at);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	static const char before[] = "\nfaultlane: page ";
	static const char after[] =
		" could not be filled, so the thread that touched it got a signal instead of zeros; "
		"check whether the image file was truncated or is unreadable there\n";
	uint64_t offset_bytes = UINT64_MAX;

	(void)context;
	for (uint32_t i = 0; i < guard_nr && offset_bytes >= guard_len_bytes; i++)
		offset_bytes = (uintptr_t)info->si_addr - (uintptr_t)guard_addrs[i];
	if (info->si_code <= 0 || offset_bytes >= guard_len_bytes) {
		(void)signal(sig, SIG_DFL); /* not ours: the retried access kills the program */
		return;
	}
	put(before, sizeof(before) - 1);
	put_number(offset_bytes / 4096);
	put(after, sizeof(after) - 1);
	_exit(CLI_FAILED);
}

void cli_guard_install(char *const *addrs, uint32_t nr, uint64_t len_bytes)
{
	struct sigaction action;

	guard_addrs = addrs;
	guard_nr = nr;
	guard_len_bytes = len_bytes;
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_signal;
	action.sa_flags = SA_SIGINFO;
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, NULL);
	(void)sigaction(SIGSEGV, &action, NULL);
}

void cli_guard_remove(void)
{
	(void)signal(SIGBUS, SIG_DFL);
	(void)signal(SIGSEGV, SIG_DFL);
}
