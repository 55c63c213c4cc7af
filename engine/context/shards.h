/* SPDX-License-Identifier: MIT */
/*
 * The shards of a guest's in-context regions, on the thread that has the guest's turn.  Attaching
 * and detaching block on the workers.
 */
#ifndef FLN_ENGINE_CONTEXT_SHARDS_H
#define FLN_ENGINE_CONTEXT_SHARDS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/*
 * fln_context_open() creates the shards if there are none, and attaches them to the workers if the
 * guest is running.  fln_context_close() frees them, and closes no userfaultfd.
 * Return: 0 or a negative errno.
 */
int fln_context_open(struct fln_guest *guest);
int fln_context_attach(struct fln_guest *guest);
void fln_context_detach(struct fln_guest *guest);
void fln_context_close(struct fln_guest *guest);

/* Open the userfaultfds of such shards again, if there are any; undo that. */
int fln_context_reopen(struct fln_guest *guest);
void fln_context_close_uffds(struct fln_guest *guest);

/*
 * Chunks have run out: have the workers give back those of wholly mapped blocks.  Any thread, also
 * in a signal handler; does not block.
 */
void fln_context_kick_all(const struct fln_guest *guest);

/* An async-signal-safe sleep that is not a cancellation point. */
void fln_context_nap(uint64_t ns);

#endif
