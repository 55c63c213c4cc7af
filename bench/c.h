/* SPDX-License-Identifier: MIT */
/*
 * C from C++: the baselines' headers, and options structs, whose _INIT macros are C.
 */
#ifndef BENCH_C_H
#define BENCH_C_H

/* A function may have the name of a struct there. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#include "baselines/handler.h"
#include "baselines/probe.h"
#include "baselines/shmem.h"
}
#pragma GCC diagnostic pop

namespace bench {

/* All defaults, as FLN_..._INIT. */
template <class T> T sized()
{
	T o = {};

	o.size = sizeof(o);
	return o;
}

} /* namespace bench */

#endif
