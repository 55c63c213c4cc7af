/* SPDX-License-Identifier: MIT */
/*
 * Random faults, events, fills, pushes and failures against a model: the game of
 * tests/fuzz/serve_game.h, played with random bytes.
 *
 * Each run prints its seed; give one as an argument to repeat it.
 */
#include "tests/fuzz/serve_game.h"
#include "tests/support/cm.h"
#include "tests/support/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NR_BYTES 8000u
#ifdef __SANITIZE_THREAD__ /* a single thread, ten times as long */
#define NR_RUNS 9u
#else
#define NR_RUNS 36u
#endif

static void one_run(uint64_t seed)
{
	struct rng rng = { .state = seed };
	uint8_t bytes[NR_BYTES];

	for (uint32_t i = 0; i < NR_BYTES; i++)
		bytes[i] = (uint8_t)rng_next(&rng);
	bytes[0] = (uint8_t)(seed % GAME_NR_KINDS); /* all kinds in turn */
	printf("seed %llu\n", (unsigned long long)seed);
	game_play(bytes, NR_BYTES, true);
}

static uint64_t first_seed;

/*
 * New ones each time in the long tier, which looks for what is not known yet; the others ask
 * whether what has passed still does.
 */
static uint64_t any_seed(void)
{
	const char *scale = getenv("FAULTLANE_TEST_SCALE");

	return scale && strcmp(scale, "long") == 0 ? (uint64_t)time(NULL) * 1000 : 20261130000;
}

/* Games in which the model has found something. */
static const uint64_t found_seeds[] = {
	1796009867953, /* foreign: a page that could not be poisoned took its block with it */
	1796009899629, /* given up, written, refused by the kernel, populated: poison is lifted */
	1796068455183, /* the same, by a job in the background, which maps no zeros: not forgotten */
	1796400000417, /* given up, and the kernel refuses zeros over its poison: it stays */
};

static void random_runs(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < NR_RUNS; i++)
		one_run(1 + i); /* always the same */
	for (uint32_t i = 0; i < sizeof(found_seeds) / sizeof(found_seeds[0]); i++)
		one_run(found_seeds[i]);
	for (uint64_t i = 0; i < NR_RUNS; i++)
		one_run(first_seed + i);
}

static void one_seed(void **state)
{
	(void)state;
	one_run(first_seed);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_runs) };
	const struct CMUnitTest again[] = { cmocka_unit_test(one_seed) };

	first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : any_seed();
	if (argc > 1)
		return cmocka_run_group_tests(again, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
