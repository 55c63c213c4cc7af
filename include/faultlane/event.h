/* SPDX-License-Identifier: MIT */
/*
 * Events: what an embedder wants to be told of, through a descriptor to wait on.
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
	FLN_EVENT_PAGE_POISONED,  /* a page of a guest has failed */
	FLN_EVENT_GUEST_FAILED,   /* FLN_ON_FAILURE_STOP: end the virtual machine */
	FLN_EVENT_IMAGE_FILLED,   /* the last page of an image was filled, or is zero; once */
	FLN_EVENT_GUEST_WHOLE,    /* every page of a guest's regions is mapped; once */
	FLN_EVENT_OVERFLOW,       /* more events than fit: @value of them are lost */
	FLN_EVENT_FAULT_STALLED,  /* a guest's oldest fault waits for long; once for each */
	FLN_EVENT_WORKER_STALLED, /* a worker has not come back for long; once each time */
	FLN_EVENT_WORKER_FAILED,  /* a worker cannot wait for faults as it should, and goes on */
	FLN_EVENT_MEMORY_MOVED, /* mremap() has moved a part of a guest, which is unreadable now */
	FLN_EVENT_GUEST_DESTROYED, /* what fln_guest_destroy_async() was asked for is done */
	FLN_EVENT_NR
};

/**
 * struct fln_event - Something that has happened
 * @size:  sizeof(struct fln_event), set by the caller
 * @kind:  enum fln_event_kind
 * @error: negative errno where there is one, else 0; PAGE_POISONED: -ENOENT where no
 *         region is; GUEST_DESTROYED: what fln_guest_stop() returned
 * @guest: whose, or NULL; compare it only, it may have been destroyed since
 * @image: whose, or NULL; the same
 * @value: PAGE_POISONED, FAULT_STALLED: the address; MEMORY_MOVED: where it was; OVERFLOW: how many are lost;
 *         WORKER_STALLED, WORKER_FAILED: the number of the worker; GUEST_DESTROYED: what was
 *         passed with it; else 0
 *
 * FAULT_STALLED: ask fln_guest_oldest_fault() what it waits for; how long is long says
 * fln_engine_opts.stall_report_ms.  A guest one of whose userfaultfds can not be read any
 * more is GUEST_FAILED whatever its on_failure says, and is stopped as by
 * fln_guest_stop().  A worker that is WORKER_FAILED serves on: by a new epoll set, or
 * without one by looking every millisecond.
 *
 * MEMORY_MOVED: mremap() has moved memory of a region, and that is not followed.  At its new
 * place nothing of it can be read in this process, and in a foreign guest nothing that was not
 * mapped; the rest of the guest is served on.
 *
 * Pages that are made unreadable because a guest is stopped are not told of.  An
 * OVERFLOW comes before what is left in the queue; events other than PAGE_POISONED and MEMORY_MOVED
 * have room that these cannot take.
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
 * fln_engine_event_fd() - A descriptor that is readable when there are events
 *
 * For poll() and epoll, level-triggered.  The engine's: do not read or close it.
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
 * Return:  1 and an event; 0 when there is none; -EINVAL
 * Threads: any
 * Blocks:  no
 */
FLN_API int fln_engine_next_event(struct fln_engine *engine, struct fln_event *out);

#ifdef __cplusplus
}
#endif

#endif
