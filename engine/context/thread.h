/* SPDX-License-Identifier: MIT */
/*
 * Threads that resolve their own faults: entering and leaving.
 */
#ifndef FLN_ENGINE_CONTEXT_THREAD_H
#define FLN_ENGINE_CONTEXT_THREAD_H

#include <stdbool.h>

/*
 * Does the caller run on the stack of its thread, which has entered, and not on an alternate one
 * for signals?  Async-signal-safe.
 */
bool fln_thread_on_own_stack(void);

#endif
