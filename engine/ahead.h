/* SPDX-License-Identifier: MIT */
/*
 * Read-ahead: blocks are filled and mapped before a stream gets to them.
 */
#ifndef FLN_ENGINE_AHEAD_H
#define FLN_ENGINE_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/* Make what read-ahead needs.  In the guest's turn.  Return: 0; -ENOMEM. */
int fln_ahead_prepare(struct fln_guest *guest);
void fln_ahead_deinit(struct fln_guest *guest);

/* Forget streams in [addr, end), which is given up: the next touch there begins anew. */
void fln_ahead_forget(struct fln_guest *guest, uint64_t addr, uint64_t end);

/* A fault at @addr, in a range that is called sequential and ends at @end. */
void fln_ahead_fault(struct fln_guest *guest, uint64_t addr, uint64_t end);

#endif
