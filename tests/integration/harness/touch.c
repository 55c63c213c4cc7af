/* SPDX-License-Identifier: MIT */
/* Contents that tell whose they are, and touches that may end in a signal. */
#include "tests/integration/harness/touch.h"

#include "tests/integration/harness/verdict.h"

#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

/* ThreadSanitizer calls handlers with every signal blocked. */
#define SAVE_MASK TEST_TSAN

static _Thread_local sigjmp_buf touch_env;
static _Thread_local volatile sig_atomic_t touching;

static void say_hex(const char *what, uint64_t value)
{
	char text[19] = "0x";

	for (uint32_t i = 0; i < 16; i++)
		text[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
	test_say(what);
	test_say(text);
}

/* Where, as there may be no core file. */
static void say_where(const siginfo_t *info)
{
	void *frames[32];

	say_hex("address ", (uint64_t)(uintptr_t)info->si_addr);
	say_hex(", code ", (uint64_t)info->si_code);
	test_say("; called by\n");
	backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!touching) {
		test_say(sig == SIGBUS ? "SIGBUS" : "SIGSEGV");
		test_say(" outside a touch, in ");
		test_say_step(": ");
		(void)signal(sig, SIG_DFL);
		say_where(info);
		return;
	}
	touching = 0;
	siglongjmp(touch_env, sig);
}

void touch_signals(void)
{
	struct sigaction sa = { .sa_flags = SA_NODEFER | SA_SIGINFO };

	sa.sa_sigaction = on_fault;
	(void)sigaction(SIGBUS, &sa, NULL);
	(void)sigaction(SIGSEGV, &sa, NULL);
}

/* SplitMix64. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t next_random(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state);
}

uint64_t word_of(uint64_t salt, uint64_t page, uint32_t word)
{
	return (mix((salt << 48) + page + 1) + 2 * (uint64_t)word) | 1;
}

void contents_of(uint64_t salt, uint64_t page, void *buf)
{
	uint64_t *words = buf;
	uint64_t first = word_of(salt, page, 0);

	for (uint32_t i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = (first + 2 * (uint64_t)i) | 1;
}

enum touch touch_read(const void *addr, uint64_t *value)
{
	int sig = sigsetjmp(touch_env, SAVE_MASK);

	if (sig)
		return sig == SIGBUS ? TOUCH_SIGBUS : TOUCH_SIGSEGV;
	touching = 1;
	*value = *(const volatile uint64_t *)addr;
	touching = 0;
	return TOUCH_OK;
}

enum touch touch_write(void *addr, uint64_t value)
{
	int sig = sigsetjmp(touch_env, SAVE_MASK);

	if (sig)
		return sig == SIGBUS ? TOUCH_SIGBUS : TOUCH_SIGSEGV;
	touching = 1;
	*(volatile uint64_t *)addr = value;
	touching = 0;
	return TOUCH_OK;
}

enum touch touch_page(const void *addr, uint64_t salt, uint64_t page, bool *right)
{
	const volatile uint64_t *words = addr;
	uint64_t first = word_of(salt, page, 0);
	int sig = sigsetjmp(touch_env, SAVE_MASK);
	bool same = true;

	if (sig)
		return sig == SIGBUS ? TOUCH_SIGBUS : TOUCH_SIGSEGV;
	touching = 1;
	for (uint32_t i = 0; i < PAGE / sizeof(*words); i++)
		same &= words[i] == ((first + 2 * (uint64_t)i) | 1);
	touching = 0;
	*right = same;
	return TOUCH_OK;
}

const char *touch_name(enum touch t)
{
	static const char *const names[] = { "still waits", "went through", "got SIGBUS",
					     "got SIGSEGV" };

	return names[t];
}
