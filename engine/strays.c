/* SPDX-License-Identifier: MIT */
/*
 * Memory that leaves the place where it is served.
 *
 * Our own mappings are kept out of children (MADV_DONTFORK).  A process that hands its
 * userfaultfd over may fork all the same: with UFFD_FEATURE_EVENT_FORK its child has a
 * userfaultfd of its own, which comes with the event.  Children are not served.  Closed as it
 * is, that descriptor would have the child read zeros; kept, it would have it wait for ever.
 * So the guard poisons what the child lacks, which takes as long as the guest is large, and
 * closes the descriptor then.
 */
#include "engine/strays.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/plant.h"
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CHILD_PATIENCE_NS (200 * FLN_NS_PER_MS)
#define CHILD_NAP_NS (200 * FLN_NS_PER_US)

void fln_child_forked(struct fln_guest *guest, int fd)
{
	struct fln_engine *engine = guest->engine;
	uint32_t nr;

	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fln_lock(&guest->lock);
	nr = atomic_load_explicit(&guest->nr_children, memory_order_relaxed);
	if (nr < FLN_MAX_CHILDREN) {
		guest->children[nr] = fd;
		atomic_store_explicit(&guest->nr_children, nr + 1, memory_order_release);
	}
	fln_unlock(&guest->lock);
	if (nr < FLN_MAX_CHILDREN)
		fln_log_limited(&engine->log, &engine->guard.child_limit, FLN_LOG_WARNING,
				"guest %s: its process has forked; this guest does not follow "
				"forks: a child that touches what it has not got dies of SIGBUS; "
				"have it call exec()",
				guest->name);
	else /* kept open, and so its faults wait: closed, they would read zeros (I6) */
		fln_log_limited(&engine->log, &engine->guard.child_limit, FLN_LOG_ERROR,
				"guest %s: its process has more than %u children whose memory "
				"cannot be made unreadable yet; one more waits for ever where it "
				"touches what it has not got",
				guest->name, FLN_MAX_CHILDREN);
	fln_guard_call(&engine->guard);
}

/*
 * Has the process of a child gone?  Asked with an address that no userfaultfd
 * serves, this code's own: all other answers say that the process is there.
 */
static bool child_is_gone(struct fln_uffd *child)
{
	uint64_t addr = fln_align_down((uintptr_t)&fln_child_forked, FLN_PAGE_BYTES);

	return fln_uffd_unregister(child, addr, FLN_PAGE_BYTES) == -ENOMEM;
}

/* Nobody reads a child's messages: those that put installs off.  False: it has moved memory. */
static bool read_child(struct fln_guest *guest, struct fln_uffd *child)
{
	struct uffd_msg msgs[16];
	bool moved = false;
	ssize_t nr;

	while ((nr = fln_uffd_read(child, msgs, 16)) > 0) {
		for (ssize_t i = 0; i < nr; i++) {
			if (msgs[i].event == UFFD_EVENT_FORK)
				fln_child_forked(guest, (int)msgs[i].arg.fork.ufd);
			moved |= msgs[i].event == UFFD_EVENT_REMAP;
		}
	}
	return !moved;
}

/* Poison what is missing in [at, end) of a child.  False: not all of it could be. */
static bool poison_child(struct fln_guest *guest, struct fln_uffd *child, uint64_t at, uint64_t end,
			 uint64_t page_bytes)
{
	uint64_t until = fln_now_ns() + CHILD_PATIENCE_NS;
	bool by_page = false;

	while (at < end) {
		uint64_t stop = fln_align_down(at, FLN_BLOCK_BYTES) + FLN_BLOCK_BYTES, done;
		enum fln_uffd_result result;

		stop = by_page ? at + page_bytes : stop < end ? stop : end;
		result = fln_uffd_poison(child, at, stop - at, &done);
		at += done;
		by_page = by_page && at % FLN_BLOCK_BYTES != 0;
		if (result == FLN_UFFD_OK)
			continue;
		if (result == FLN_UFFD_PRESENT || (result == FLN_UFFD_GONE && by_page)) {
			at += page_bytes;
		} else if (result == FLN_UFFD_GONE) {
			if (atomic_load_explicit(&child->process_gone, memory_order_relaxed))
				return true;
			by_page = true; /* a part of the block is unmapped there */
		} else {
			if (result != FLN_UFFD_AGAIN || !read_child(guest, child) ||
			    fln_now_ns() > until)
				return false;
			fln_sleep_ns(CHILD_NAP_NS);
		}
	}
	return true;
}

/* May a child's userfaultfd be closed, so that it reads no zeros? */
static bool may_close(struct fln_guest *guest, int fd)
{
	bool done = true;
	struct fln_uffd child;

	fln_uffd_adopt(&child, fd);
	if (child_is_gone(&child) || fln_planted(FLN_BUG_STRAY_LEFT))
		return true;
	for (const struct fln_region *r = guest->regions; done && r; r = r->next)
		done = poison_child(guest, &child, r->addr, r->addr + r->len_bytes, r->page_bytes);
	return done || child_is_gone(&child);
}

void fln_children_close(struct fln_guest *guest)
{
	uint32_t nr_kept = 0, nr;
	int fd;

	/* Children of children come while it is done, at the end. */
	while (nr_kept < atomic_load_explicit(&guest->nr_children, memory_order_acquire)) {
		fln_lock(&guest->lock);
		fd = guest->children[nr_kept];
		fln_unlock(&guest->lock);
		if (!may_close(guest, fd)) {
			nr_kept++;
			continue;
		}
		fln_lock(&guest->lock);
		nr = atomic_load_explicit(&guest->nr_children, memory_order_relaxed) - 1;
		guest->children[nr_kept] = guest->children[nr];
		atomic_store_explicit(&guest->nr_children, nr, memory_order_release);
		fln_unlock(&guest->lock);
		(void)close(fd);
	}
}
