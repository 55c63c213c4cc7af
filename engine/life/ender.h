/* SPDX-License-Identifier: MIT */
/*
 * The ender: a thread that ends guests, made when the first is to end.
 *
 * It stops guests that cannot be served any more, destroys those of
 * fln_guest_destroy_async(), and closes forked children (strays.c): all that waits for
 * workers, fillers and the kernel, for as long as those take.  The guard, which tells of
 * what does not come along, only wakes it, and so goes on looking while an end hangs.
 */
#ifndef FLN_ENGINE_LIFE_ENDER_H
#define FLN_ENGINE_LIFE_ENDER_H

#include <stdbool.h>
#include <stdint.h>

struct fln_ender;
struct fln_engine;
struct fln_guest;

void fln_ender_init(struct fln_ender *ender);
void fln_ender_deinit(struct fln_ender *ender);

/* From here on it takes guests.  No thread is made yet. */
void fln_ender_open(struct fln_ender *ender);

/* After the guard has stopped: end all that was taken, and the thread. */
void fln_ender_stop(struct fln_engine *engine);

/*
 * Have it end a guest; the guard is to be called after that.  engine->lock is held: the
 * guest is there until that is given up.  False: the engine does not run, or stops.
 */
bool fln_ender_take(struct fln_ender *ender, struct fln_guest *guest, uint64_t cookie);

/* Destroy a guest of which no other call knows, and tell with @cookie. */
void fln_ender_end(struct fln_guest *guest, uint64_t cookie);

/*
 * By the guard: wake it if there is something to do, and make its thread before if there is
 * none.  Where no thread can be made the guard does the work itself.
 */
void fln_ender_call(struct fln_engine *engine);

#endif
