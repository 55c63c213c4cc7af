/* SPDX-License-Identifier: MIT */
/* Cases, their steps and their verdicts. */
#include "tests/integration/harness/verdict.h"

#include "tests/support/names.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define CASE_LIMIT_S 120u

static char current_step[256] = "start-up";
static const char *current_case = "main";

void test_fail(const char *file, int line, const char *what, const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "%s:%d: %s (step: %s)\n    %s: ", file, line, current_case,
		      current_step, what);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	(void)fflush(stdout);
	_exit(1);
}

const char *test_hex(uint64_t addr)
{
	static _Thread_local char text[4][24];
	static _Thread_local uint32_t next;
	char *into = text[next++ % 4];

	(void)snprintf(into, sizeof(text[0]), "0x%llx", (unsigned long long)addr);
	return into;
}

void test_refused(const char *file, int line, const char *call, int rc, int want, const char *names)
{
	if (rc != want)
		test_fail(file, line, call, "returned %d and not %d (%s)", rc, want,
			  fln_last_error());
	if (!names_all(fln_last_error(), names))
		test_fail(file, line, call, "'%s' does not name '%s'", fln_last_error(),
			  names ? names : "anything");
}

void test_step(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(current_step, sizeof(current_step), fmt, ap);
	va_end(ap);
}

void test_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("    ", stdout);
	(void)vprintf(fmt, ap);
	(void)fputc('\n', stdout);
	va_end(ap);
	(void)fflush(stdout);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("SKIP: ", stdout);
	(void)vprintf(fmt, ap);
	(void)fputc('\n', stdout);
	va_end(ap);
	(void)fflush(stdout);
	_exit(77);
}

void test_run(const char *name, void (*fn)(void))
{
	uint64_t t0 = now_ns();

	current_case = name;
	test_step("begin");
	(void)alarm(CASE_LIMIT_S * (TEST_TSAN || TEST_ASAN ? 4 : 1));
	fn();
	(void)alarm(0);
	(void)printf("%s: ok, %u ms\n", name, (unsigned int)((now_ns() - t0) / MS));
	(void)fflush(stdout);
}

void test_say(const char *text)
{
	(void)!write(STDERR_FILENO, text, strlen(text));
}

void test_say_step(const char *between)
{
	test_say(current_case);
	test_say(between);
	test_say(current_step);
	test_say("\n");
}

static void on_alarm(int sig)
{
	(void)sig;
	test_say("watchdog: ");
	test_say_step(" hangs at: ");
	_exit(1);
}

void test_watch(void)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_NODEFER };

	(void)sigaction(SIGALRM, &sa, NULL);
}

uint32_t test_scale(uint32_t quick, uint32_t normal, uint32_t many)
{
	const char *scale = getenv("FAULTLANE_TEST_SCALE");

	if (scale && strcmp(scale, "quick") == 0)
		return quick;
	if (scale && strcmp(scale, "long") == 0)
		return many;
	return normal;
}

uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t cpu_ns(void)
{
	struct rusage u;

	CHECK(getrusage(RUSAGE_SELF, &u) == 0, "%s", strerror(errno));
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 * MS +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

void sleep_ms(uint32_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
		;
}
