/* SPDX-License-Identifier: MIT */
/*
 * The shards of a guest's in-context regions.
 */
#ifndef FLN_ENGINE_CONTEXT_SHARDS_H
#define FLN_ENGINE_CONTEXT_SHARDS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;

/*
 * The shards of a guest's in-context regions.  All in its turn.
 * fln_context_open() makes them if there are none, and gives them to the workers if
 * the guest runs.  Return: 0; -EOPNOTSUPP, -EMFILE, -ENOMEM …
 */
int fln_context_open(struct fln_guest *guest);
int fln_context_attach(struct fln_guest *guest);
void fln_context_detach(struct fln_guest *guest);
void fln_context_close(struct fln_guest *guest);

/* Chunks have run out: let workers look for blocks that are whole. */
void fln_context_kick_all(const struct fln_guest *guest);

/* A short sleep that a signal handler may do; it is no cancellation point. */
void fln_context_nap(uint64_t ns);

#endif
