/* SPDX-License-Identifier: MIT */
/* What a target is for libFuzzer, or for replay.c where there is none. */
#ifndef FLN_TESTS_FUZZ_H
#define FLN_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
