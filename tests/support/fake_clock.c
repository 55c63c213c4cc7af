/* SPDX-License-Identifier: MIT */
/* The clock of tests that have their own. */
#include "tests/support/fake_clock.h"

#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

#define LOOK_NS 100u

int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

static _Atomic uint64_t now_ns;

void fake_clock_set(uint64_t ns)
{
	atomic_store(&now_ns, ns);
}

void fake_clock_pass(uint64_t ns)
{
	atomic_fetch_add(&now_ns, ns);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t ns;

	if (atomic_load(&now_ns) == 0)
		return __real_clock_gettime(clock, ts);
	ns = atomic_fetch_add(&now_ns, LOOK_NS);
	ts->tv_sec = (time_t)(ns / FLN_NS_PER_S);
	ts->tv_nsec = (long)(ns % FLN_NS_PER_S);
	return 0;
}
