/* SPDX-License-Identifier: MIT */
/*
 * C headers for C++: those of the baselines, and constants that old C libraries lack.
 */
#ifndef BENCH_C_H
#define BENCH_C_H

#include <sys/mman.h>

/* In C a function and a struct may share a name. */
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
