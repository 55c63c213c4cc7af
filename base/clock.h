/* SPDX-License-Identifier: MIT */
/* Time, in nanoseconds of CLOCK_MONOTONIC. */
#ifndef FLN_BASE_CLOCK_H
#define FLN_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define FLN_NS_PER_US 1000ull
#define FLN_NS_PER_MS 1000000ull
#define FLN_NS_PER_S 1000000000ull

static inline uint64_t fln_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * FLN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/*
 * Estimate how long the process did not run.  A thread that planned to run again after
 * @planned_ns and finds that much more has passed was not scheduled: the process was stopped,
 * its container frozen or its machine suspended.  Timeouts for other threads exclude that time.
 * Return: the excess beyond @planned_ns and the slack that a busy machine needs; 0: none.
 */
#define FLN_STOPPED_SLACK_NS (250 * FLN_NS_PER_MS)

static inline uint64_t fln_stopped_ns(uint64_t passed_ns, uint64_t planned_ns)
{
	uint64_t due_ns = planned_ns + FLN_STOPPED_SLACK_NS;

	return passed_ns > due_ns ? passed_ns - due_ns : 0;
}

/*
 * Is @since_ns more than @limit_ns ago?  @since_ns may lie in the future: a wait that began
 * while the process was stopped is credited with all of that time (fln_stopped_ns()).
 */
static inline bool fln_is_over(uint64_t since_ns, uint64_t now_ns, uint64_t limit_ns)
{
	return now_ns > since_ns && now_ns - since_ns > limit_ns;
}

/* Sleep for at least @ns, or until a signal handler has run. */
static inline void fln_sleep_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / FLN_NS_PER_S),
			       .tv_nsec = (long)(ns % FLN_NS_PER_S) };

	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

#endif
