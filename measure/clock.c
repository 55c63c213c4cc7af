/* SPDX-License-Identifier: MIT */
/* Calibration of the touch clock. */
#include "measure/clock.h"

#include <stdio.h>
#include <string.h>

bool measure_clock_is_counter;
double measure_clock_ns_per_tick = 1.0;

#if defined(__x86_64__)
#define CALIBRATION_NS 20000000u

static uint64_t raw_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The kernel monitors the counter since boot and uses it only if its rate is constant. */
static bool counter_is_constant(void)
{
	char name[32] = "";
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f))
		name[0] = '\0';
	(void)fclose(f);
	return strcmp(name, "tsc\n") == 0 || strcmp(name, "kvm-clock\n") == 0;
}

/* Read both clocks at once: of 16 tries, keep the one with the shortest interval. */
static void read_pair(uint64_t *ns, uint64_t *ticks)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 16; i++) {
		uint64_t before = __rdtsc();
		uint64_t now_ns = raw_ns();
		uint64_t after = __rdtsc();

		if (after - before < best) {
			best = after - before;
			*ns = now_ns;
			*ticks = before + (after - before) / 2;
		}
	}
}

void measure_clock_init(void)
{
	uint64_t ns0 = 0, ns1 = 0, ticks0 = 0, ticks1 = 0;

	if (!counter_is_constant())
		return;
	read_pair(&ns0, &ticks0);
	while (raw_ns() - ns0 < CALIBRATION_NS)
		;
	read_pair(&ns1, &ticks1);
	if (ticks1 <= ticks0)
		return;
	measure_clock_ns_per_tick = (double)(ns1 - ns0) / (double)(ticks1 - ticks0);
	measure_clock_is_counter = true;
}
#else
void measure_clock_init(void)
{
}
#endif
