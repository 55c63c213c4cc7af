/* SPDX-License-Identifier: MIT */
/*
 * The ender: a thread that ends guests.  It is created when the first guest is to end.
 *
 * It stops guests that can no longer be served, destroys those given to
 * fln_guest_destroy_async(), closes the userfaultfds of guests that are released (let_go.c), and
 * those of forked children (strays.c).  All of that blocks on workers, fillers and the kernel, with
 * no bound.  The guard (guard.h), which reports stalls, only wakes the ender, and so keeps
 * reporting while a guest's end hangs.
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

/* Accept guests from here on.  Creates no thread yet. */
void fln_ender_open(struct fln_ender *ender);

/* End every guest that was taken, then the thread.  Requires: the guard has stopped. */
void fln_ender_stop(struct fln_engine *engine);

/*
 * Queue @guest; the caller then calls the guard, which wakes the ender.  Requires engine->lock:
 * the guest exists at least until that is released.  False: the engine is not running, or is
 * stopping, and the guest was not taken.
 */
bool fln_ender_take(struct fln_ender *ender, struct fln_guest *guest, uint64_t cookie);

/*
 * Destroy a guest on this thread and post FLN_EVENT_GUEST_DESTROYED with @cookie.  Blocks.
 * Requires: no other call uses the guest.
 */
void fln_ender_end(struct fln_guest *guest, uint64_t cookie);

/*
 * On the guard's thread: if there is work, wake the ender, creating its thread first if need be.
 * If no thread can be created the guard does the work itself, and blocks for as long.
 */
void fln_ender_call(struct fln_engine *engine);

#endif
