/* SPDX-License-Identifier: MIT */
/*
 * Cases, their steps and their verdicts.
 *
 * A check that fails prints what was expected and ends the process: threads that hang
 * cannot be joined.  Behind calls that have no end of their own stands a watchdog, which
 * prints the step that was under way.
 */
#ifndef FLN_TESTS_HARNESS_VERDICT_H
#define FLN_TESTS_HARNESS_VERDICT_H

#include <errno.h>
#include <faultlane/base.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PAGE ((uint64_t)4096)
#define BLOCK ((uint64_t)2 << 20)
#define MS ((uint64_t)1000000)
#define WAIT_S 20u /* how long something that must happen may take */

#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif

/* Ends the process with a message when @cond does not hold. */
#define CHECK(cond, ...)                                                   \
	do {                                                               \
		if (!(cond))                                               \
			test_fail(__FILE__, __LINE__, #cond, __VA_ARGS__); \
	} while (0)

/* A call of the library that must succeed. */
#define OK(call)                                                                        \
	do {                                                                            \
		int ok_rc_ = (call);                                                    \
		if (ok_rc_ != 0)                                                        \
			test_fail(__FILE__, __LINE__, #call, "returned %d: %s", ok_rc_, \
				  fln_last_error());                                    \
	} while (0)

/*
 * A call that must fail with @want (negative), and whose sentence names the values @names: as for
 * names_all().
 */
#define REFUSED(call, want, names) test_refused(__FILE__, __LINE__, #call, (call), (want), (names))

/* Names what goes on from here, for the watchdog. */
#define STEP(...) test_step(__VA_ARGS__)

/* Runs one case: void fn(void).  Prints its name and time. */
#define RUN(fn) test_run(#fn, fn)

_Noreturn void test_fail(const char *file, int line, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void test_refused(const char *file, int line, const char *call, int rc, int want,
		  const char *names);
/* An address as sentences have it; of the last four calls. */
const char *test_hex(uint64_t addr);
void test_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void test_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void test_run(const char *name, void (*fn)(void));
_Noreturn void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* For signal handlers: to standard error, and which case is under way, at which step. */
void test_say(const char *text);
void test_say_step(const char *between);
/* Steps that hang end the process. */
void test_watch(void);

/* FAULTLANE_TEST_SCALE: quick, normal or long. */
uint32_t test_scale(uint32_t quick, uint32_t normal, uint32_t many);

uint64_t now_ns(void);
uint64_t cpu_ns(void); /* of the process, all its threads */
void sleep_ms(uint32_t ms);

#endif
