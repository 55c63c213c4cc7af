/* SPDX-License-Identifier: MIT */
/*
 * C from C++: the baselines' headers, and what old ones of the C library lack.
 */
#ifndef BENCH_C_H
#define BENCH_C_H

#include <sys/mman.h>

/* A function may have the name of a struct there. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#include "baselines/handler.h"
#include "baselines/handover.h"
#include "baselines/probe.h"
#include "baselines/shmem.h"
}
#pragma GCC diagnostic pop

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#endif
