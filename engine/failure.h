/* SPDX-License-Identifier: MIT */
/*
 * Pages that have failed: what the guest's on_failure says is done about them.
 *
 * A page fails when its source has (the image says FAILED), or is late.  The fault is
 * held while the page is asked for again, or while the embedder wants to wait; how
 * often, and until when, is kept in the fault.
 */
#ifndef FLN_ENGINE_FAILURE_H
#define FLN_ENGINE_FAILURE_H

#include "engine/state/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct fln_guest;
struct fln_guest_opts;
struct fln_region;
struct fln_shard;

/*
 * A faulting page that is not there: ask for it (as struct fln_image_want says of
 * @fill_pages), or decide.  True when it is to be
 * poisoned, with *error; else the fault is to be held for *reason.  The worker's
 * thread, RCU read lock held.
 */
bool fln_failure_must_poison(struct fln_worker *w, struct fln_region *region,
			     struct fln_fault *fault, uint64_t image_page, uint32_t fill_pages,
			     uint64_t now_ns, enum fln_held_reason *reason, int *error);

/*
 * The guest has failed: say so, once, and have what is held for it poisoned.
 * Async-signal-safe.  True when it had not failed before.
 */
bool fln_guest_fail(struct fln_guest *guest, int error);

/* Tell the embedder of a page that was poisoned because of @error.  Async-signal-safe. */
void fln_failure_tell(const struct fln_region *region, uint64_t addr, int error);

/* The same of a page where no region is. */
void fln_failure_tell_stray(struct fln_guest *guest, uint64_t addr);

/*
 * The kernel refuses to map a page whose contents are there, and will: what on_failure
 * says of the guest is done; the page is poisoned by the caller.
 */
void fln_failure_refused(struct fln_worker *w, const struct fln_region *region, uint64_t addr);

/*
 * Has a fault waited for its source as long as it may?  By w->looked_ns and not by the clock:
 * the process may have been stopped since, and nothing has been credited with that yet.
 */
bool fln_fault_is_late(const struct fln_worker *w, const struct fln_fault *fault);

/*
 * A fault that is to be tried again because of an event, a claim or want of memory:
 * how long to leave it alone (MEMORY), and what it waits for, in the log, when that
 * takes long.  Returns the reason to hold it for.
 */
enum fln_held_reason fln_fault_again(struct fln_worker *w, struct fln_shard *shard,
				     struct fln_fault *fault, bool no_memory, bool claimed,
				     uint64_t now_ns);

/* The options' part of it.  Return: 0; -EINVAL. */
int fln_failure_check_opts(const struct fln_guest_opts *o);

/*
 * A shard of the guest cannot be read any more, because of @error: the guest fails, and
 * the ender stops it.  By the shard's worker, no lock held.
 */
void fln_guard_end_guest(struct fln_guest *guest, int error);

#endif
