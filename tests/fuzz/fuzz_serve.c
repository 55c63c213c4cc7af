/* SPDX-License-Identifier: MIT */
/* The worker on the fake kernel, for libFuzzer and the corpus; see serve_game.h. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/serve_game.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	game_play(data, size, false);
	return 0;
}
