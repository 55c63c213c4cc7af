/* SPDX-License-Identifier: MIT */
/*
 * Failed pages: what is done about them, by the guest's on_failure policy.
 *
 * A page has failed if its source failed to read it (the image says FAILED) or is late.  Its
 * fault is held while the page is requested again, or while the embedder wants to wait; how
 * often, and until when, is kept in the fault.  Unless stated otherwise the calls are made by the
 * shard's worker, and none of them blocks.
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
 * A faulting page is unfilled: request its fill (@fill_pages: as in struct fln_image_want), or
 * decide by the policy if it has failed.  True: it must be poisoned, because of *error.  False:
 * the fault is to be held for *reason.  RCU read lock held.
 */
bool fln_failure_must_poison(struct fln_worker *w, struct fln_region *region,
			     struct fln_fault *fault, uint64_t image_page, uint32_t fill_pages,
			     uint64_t now_ns, enum fln_held_reason *reason, int *error);

/*
 * The guest has failed: post the event, once, and kick the workers, which poison what they hold
 * for it.  Any thread; async-signal-safe.  True if it had not failed before.
 */
bool fln_guest_fail(struct fln_guest *guest, int error);

/* Post the event of a page that was poisoned because of @error.  Async-signal-safe. */
void fln_failure_tell(const struct fln_region *region, uint64_t addr, int error);

/* The same for a page that is in no region. */
void fln_failure_tell_stray(struct fln_guest *guest, uint64_t addr);

/*
 * The kernel refuses to map a page that is filled, and retrying will not help: stop the guest if
 * its policy says so.  The caller poisons the page.
 */
void fln_failure_refused(struct fln_worker *w, const struct fln_region *region, uint64_t addr);

/*
 * Has a fault waited longer than source_timeout_ns?  At the time w->looked_ns, and not now: the
 * process may have been stopped since, and no fault has been credited with that yet.
 */
bool fln_fault_is_late(const struct fln_worker *w, const struct fln_fault *fault);

/*
 * A fault must be retried because of an unread event, another thread's claim (@claimed) or lack of
 * memory (@no_memory).  Sets how long it pauses, logs what it waits for once that takes long, and
 * returns the reason to hold it for.
 */
enum fln_held_reason fln_fault_again(struct fln_worker *w, struct fln_shard *shard,
				     struct fln_fault *fault, bool no_memory, bool claimed,
				     uint64_t now_ns);

/* Check the options of the policy.  Any thread.  Return: 0; -EINVAL. */
int fln_failure_check_opts(const struct fln_guest_opts *o);

/*
 * A shard of the guest has become unreadable, with @error: fail the guest and have the ender stop
 * it.  No lock held.
 */
void fln_guard_end_guest(struct fln_guest *guest, int error);

#endif
