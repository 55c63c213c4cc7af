/* SPDX-License-Identifier: MIT */
/*
 * The shards of a guest's in-context regions.
 */
#ifndef FLN_ENGINE_CONTEXT_SHARDS_H
#define FLN_ENGINE_CONTEXT_SHARDS_H

#include <stdbool.h>
#include <stdint.h>

struct fln_block_round;
struct fln_guest;
struct fln_shard;

/*
 * The shards of a guest's in-context regions.  All in its turn.
 * fln_context_open() makes them if there are none, and gives them to the workers if
 * the guest runs.  Return: 0; -EOPNOTSUPP, -EMFILE, -ENOMEM …
 */
int fln_context_open(struct fln_guest *guest);
int fln_context_attach(struct fln_guest *guest);
void fln_context_detach(struct fln_guest *guest);
void fln_context_close(struct fln_guest *guest);

/* Note that a block may be whole, in a signal handler; and what a worker does with it. */
void fln_context_note_whole(const struct fln_block_round *b);
void fln_context_collapse(struct fln_shard *shard);

/* The same for those of a worker's @shards where it is time.  True: some are left. */
bool fln_context_collapse_due(struct fln_shard *shards, bool due);

/* Chunks have run out: let workers look for blocks that are whole. */
void fln_context_kick_all(const struct fln_guest *guest);

/* A short sleep that a signal handler may do; it is no cancellation point. */
void fln_context_nap(uint64_t ns);

/* A fault that was resolved in context has ended; with @begun it was counted before. */
struct fln_context_ending {
	bool poisoned, failed; /* else resumed */
	bool zero, waited;
};

void fln_context_begin_fault(struct fln_shard *shard);
void fln_context_end_fault(struct fln_shard *shard, struct fln_context_ending ending,
			   uint64_t t0_ns);

#endif
