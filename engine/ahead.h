/* SPDX-License-Identifier: MIT */
/*
 * Read-ahead: blocks are filled and mapped before a sequential stream of touches reaches them.
 *
 * Streams are guarded by the guest's jobs.lock, which fln_ahead_fault() and fln_ahead_forget()
 * take.  They block on nothing else.
 */
#ifndef FLN_ENGINE_AHEAD_H
#define FLN_ENGINE_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* Allocate the streams and their jobs, once.  In the guest's turn.  Return: 0; -ENOMEM. */
int fln_ahead_prepare(struct fln_guest *guest);

/* Free them.  By the thread that destroys the guest, when nothing else uses it any more. */
void fln_ahead_deinit(struct fln_guest *guest);

/* Forget streams in [addr, end), which is being discarded: the next touch begins a new one. */
void fln_ahead_forget(struct fln_guest *guest, uint64_t addr, uint64_t end);

/*
 * A new fault at @addr, in a range that was advised SEQUENTIAL; @end is the end of the range or of
 * the region, whichever comes first.  On the thread of the worker that serves the fault.
 */
void fln_ahead_fault(struct fln_guest *guest, uint64_t addr, uint64_t end);

#endif
