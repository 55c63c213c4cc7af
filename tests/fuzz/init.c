/* SPDX-License-Identifier: MIT */
/* cmocka's assertions outside of its tests: to end the process is how a fuzzer is told. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return setenv("CMOCKA_TEST_ABORT", "1", 1);
}
