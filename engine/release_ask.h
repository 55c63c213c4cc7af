/* SPDX-License-Identifier: MIT */
/*
 * Asking workers to look for blocks that can be released (release.c).
 */
#ifndef FLN_ENGINE_RELEASE_ASK_H
#define FLN_ENGINE_RELEASE_ASK_H

struct fln_guest;
struct fln_guest_release;
struct fln_shard;

void fln_guest_release_init(struct fln_guest_release *release);
void fln_guest_release_deinit(struct fln_guest_release *release);

/*
 * Blocks of the guest may have become ready otherwise than by a fill: a region was added, poison
 * was lifted, the last page was copied.  By the worker of the shard, which looks soon; any other
 * thread only while the shard has no worker, and then the next one to have it looks.
 */
void fln_release_note(struct fln_shard *shard);

/* The same for all shards, by a thread that has the guest's turn; the workers look now. */
void fln_release_look_now(struct fln_guest *guest);

/* The workers of the guest's shards look now.  In the guest's turn. */
void fln_release_ask_workers(struct fln_guest *guest);

#endif
