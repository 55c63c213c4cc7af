/* SPDX-License-Identifier: MIT */
/*
 * Events: a queue of notifications for the embedder, with a descriptor to poll.
 */
#ifndef FAULTLANE_EVENT_H
#define FAULTLANE_EVENT_H

#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <faultlane/guest.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fln_event_kind {
	FLN_EVENT_NONE,
	FLN_EVENT_PAGE_POISONED,   /* a page of a guest has failed, and is inaccessible */
	FLN_EVENT_GUEST_FAILED,    /* FLN_ON_FAILURE_STOP: end the virtual machine */
	FLN_EVENT_IMAGE_FILLED,    /* every page of an image is filled or zero; once */
	FLN_EVENT_GUEST_WHOLE,     /* every page of a guest's regions is mapped or released; once */
	FLN_EVENT_OVERFLOW,        /* the queue was full: @value events were lost */
	FLN_EVENT_FAULT_STALLED,   /* a guest's oldest fault has stalled; once for each fault */
	FLN_EVENT_WORKER_STALLED,  /* a worker has not finished its round; once for each round */
	FLN_EVENT_WORKER_FAILED,   /* a worker's epoll set has failed; it serves on */
	FLN_EVENT_MEMORY_MOVED,    /* mremap() has moved guest memory, which is inaccessible now */
	FLN_EVENT_GUEST_DESTROYED, /* fln_guest_destroy_async() has completed */
	FLN_EVENT_GUEST_RELEASED,  /* all of a guest's memory is released: fln_guest_release() */
	FLN_EVENT_NR
};

/**
 * struct fln_event - One event
 * @size:  sizeof(struct fln_event), set by the caller
 * @kind:  enum fln_event_kind
 * @error: negative errno where there is one, else 0; PAGE_POISONED: -ENOENT outside of any
 *         region; GUEST_DESTROYED: the result of fln_guest_stop()
 * @guest: the guest, or NULL; compare it only, it may have been destroyed since
 * @image: the image, or NULL; compare it only, it may have been destroyed since
 * @value: PAGE_POISONED, FAULT_STALLED: the address; MEMORY_MOVED: the old address; OVERFLOW: how
 *         many events were lost; WORKER_STALLED, WORKER_FAILED: the worker's index;
 *         GUEST_DESTROYED: the cookie; else 0
 *
 * FAULT_STALLED, WORKER_STALLED: fln_engine_opts.stall_report_ms sets the time;
 * fln_guest_oldest_fault() tells what the fault waits for.
 *
 * GUEST_FAILED also comes, whatever on_failure says, when a userfaultfd of the guest can no longer
 * be read; the engine then stops the guest as fln_guest_stop() does.  After WORKER_FAILED the
 * worker serves on with a new epoll set, or polls every millisecond if it cannot create one.
 *
 * MEMORY_MOVED: the engine does not follow memory that mremap() moves.  At its new address it is
 * inaccessible in this process; in a foreign guest only its unmapped pages are.  The rest of the
 * guest is served on.
 *
 * GUEST_RELEASED: the guest's userfaultfds are closed, and no worker serves any part of it.  If
 * regions are added later, it is posted again when they have been released, too.  For a foreign
 * guest it is posted only after fln_guest_release(), and only once.
 *
 * Pages made inaccessible because a guest or region ends are not reported.  OVERFLOW comes before
 * the events left in the queue.  PAGE_POISONED and MEMORY_MOVED cannot take the room that is kept
 * for the other kinds.
 */
struct fln_event {
	size_t size;
	uint32_t kind;
	int32_t error;
	struct fln_guest *guest;
	struct fln_image *image;
	uint64_t value;
};

#define FLN_EVENT_INIT FLN_SIZED(struct fln_event)

/**
 * fln_engine_event_fd() - A descriptor that is readable while events are queued
 *
 * For poll() and epoll, level-triggered.  The engine owns it: do not read or close it.
 *
 * Return:  the descriptor
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_engine_event_fd(const struct fln_engine *engine);

/**
 * fln_engine_next_event() - Take the oldest event
 * @out: its size field must be set, see FLN_EVENT_INIT
 *
 * Return:  1: *@out is an event; 0: the queue is empty; -EINVAL
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_engine_next_event(struct fln_engine *engine, struct fln_event *out);

#ifdef __cplusplus
}
#endif

#endif
