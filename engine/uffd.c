/* SPDX-License-Identifier: MIT */
/*
 * The kernel's userfaultfd calls, each made here and nowhere else.
 *
 * Install calls (CONTINUE, COPY, ZEROPAGE, POISON) share one loop: the kernel does a prefix of
 * the range and reports its length; the rest is repeated until a call makes no progress, whose
 * errno becomes one of enum fln_uffd_result.  A call without progress wakes no thread, so after
 * PRESENT the caller must wake the waiters: the thread that mapped the page may not have.
 */
#include "engine/uffd.h"

#include "base/lock.h"
#include "base/page.h"
#include "engine/pagemap.h"
#include "engine/uffd_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

/*
 * O_NONBLOCK belongs to the file description: the process that handed it over can clear the flag
 * at any moment and read the messages itself, so that a read() here would block the worker for
 * ever.  So the call itself asks not to wait (RWF_NOWAIT).  Linux before 6.10 does not support that
 * for userfaultfds: there the flag is set again and the descriptor polled just before the read,
 * which leaves that process a race of a microsecond.
 */
static ssize_t read_shared(struct fln_uffd *u, void *to, size_t len_bytes)
{
	struct pollfd p = { .fd = u->fd, .events = POLLIN };
	struct iovec v = { .iov_base = to, .iov_len = len_bytes };
	ssize_t got;
	int flags;

	if (!u->no_nowait) {
		/* Not every C library has a wrapper; position -1: none. */
		got = syscall(SYS_preadv2, u->fd, &v, 1, -1L, -1L, RWF_NOWAIT);
		if (got >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM))
			return got;
		u->no_nowait = true;
	}
	flags = fcntl(u->fd, F_GETFL);
	if (flags >= 0 && !(flags & O_NONBLOCK))
		(void)fcntl(u->fd, F_SETFL, flags | O_NONBLOCK);
	if (poll(&p, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return read(u->fd, to, len_bytes);
}

static ssize_t kernel_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr)
{
	size_t len = (size_t)nr * sizeof(*msgs);
	ssize_t got = u->shared ? read_shared(u, msgs, len) : read(u->fd, msgs, len);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	/* End of file or a partial message: this is no userfaultfd. */
	if (got == 0 || got % (ssize_t)sizeof(*msgs) != 0)
		return -EPROTO;
	return got / (ssize_t)sizeof(*msgs);
}

static int kernel_ioctl(struct fln_uffd *u, unsigned long request, void *arg)
{
	return ioctl(u->fd, request, arg) == 0 ? 0 : -errno;
}

static void kernel_close(struct fln_uffd *u)
{
	(void)close(u->fd);
}

static bool kernel_is_empty(struct fln_uffd *u, uint64_t addr)
{
	(void)u;
	return fln_pagemap_is_empty(addr);
}

static int kernel_deny(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	(void)u;
	return mprotect((void *)(uintptr_t)addr, (size_t)len_bytes, PROT_NONE) == 0 ? 0 : -errno;
}

const struct fln_uffd_ops fln_uffd_kernel_ops = {
	.read = kernel_read,
	.ioctl = kernel_ioctl,
	.close = kernel_close,
	.is_empty = kernel_is_empty,
	.deny = kernel_deny,
};

static const char *const result_names[] = {
	[FLN_UFFD_OK] = "done",
	[FLN_UFFD_PRESENT] = "present already",
	[FLN_UFFD_AGAIN] = "put off by an event",
	[FLN_UFFD_NO_PAGE] = "no page in the cache",
	[FLN_UFFD_GONE] = "range is gone",
	[FLN_UFFD_NO_MEMORY] = "out of memory",
	[FLN_UFFD_ERROR] = "error",
};

_Static_assert(sizeof(result_names) / sizeof(result_names[0]) == FLN_UFFD_NR_RESULTS,
	       "every result has a name");

const char *fln_uffd_result_name(enum fln_uffd_result result)
{
	FLN_ASSERT(result < FLN_UFFD_NR_RESULTS);
	return result_names[result];
}

enum fln_uffd_place fln_uffd_place(struct fln_uffd *u, uint64_t addr)
{
	/* Copy from a page that cannot be read: the kernel checks all else before it reads that. */
	void *from = mmap(NULL, FLN_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_copy arg = { .dst = addr,
				   .src = (uint64_t)(uintptr_t)from,
				   .len = FLN_PAGE_BYTES,
				   .mode = UFFDIO_COPY_MODE_DONTWAKE };
	int rc;

	if (from == MAP_FAILED)
		return FLN_UFFD_PLACE_UNKNOWN;
	rc = u->ops->ioctl(u, UFFDIO_COPY, &arg);
	(void)munmap(from, FLN_PAGE_BYTES);
	switch (rc) {
	case -EFAULT:
		return FLN_UFFD_PLACE_SMALL;
	case -EINVAL:
		return FLN_UFFD_PLACE_HUGE;
	case -EEXIST:
		return FLN_UFFD_PLACE_LARGE;
	case -ENOENT:
		return FLN_UFFD_PLACE_NONE;
	case -ESRCH:
		return FLN_UFFD_PLACE_GONE;
	default:
		return FLN_UFFD_PLACE_UNKNOWN;
	}
}

void fln_uffd_close(struct fln_uffd *u)
{
	if (u->fd >= 0)
		u->ops->close(u);
	u->fd = -1;
	atomic_store_explicit(&u->is_open, false, memory_order_relaxed);
}

int fln_uffd_register(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes, uint64_t modes)
{
	struct uffdio_register arg = { .range = { .start = addr, .len = len_bytes },
				       .mode = modes };
	int rc = u->ops->ioctl(u, UFFDIO_REGISTER, &arg);

	if (rc == 0)
		u->range_ioctls = arg.ioctls;
	return rc;
}

int fln_uffd_unregister(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	struct uffdio_range arg = { .start = addr, .len = len_bytes };

	return u->ops->ioctl(u, UFFDIO_UNREGISTER, &arg);
}

ssize_t fln_uffd_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr)
{
	return u->ops->read(u, msgs, nr);
}

bool fln_uffd_is_empty(struct fln_uffd *u, uint64_t addr)
{
	return u->ops->is_empty(u, addr);
}

int fln_uffd_deny(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	return u->ops->deny(u, addr, len_bytes);
}

void fln_uffd_wake(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	struct uffdio_range arg = { .start = addr, .len = len_bytes };

	atomic_fetch_add_explicit(&u->nr_wakes, 1, memory_order_relaxed);
	/* Fails only if the range or its process is gone, and its waiters with it. */
	(void)u->ops->ioctl(u, UFFDIO_WAKE, &arg);
}

/* The one place where the errno of an install call is interpreted. */
static enum fln_uffd_result classify(int rc)
{
	switch (rc) {
	case 0:
		return FLN_UFFD_OK;
	case -EEXIST:
		return FLN_UFFD_PRESENT;
	case -EAGAIN:
		return FLN_UFFD_AGAIN;
	case -EFAULT:
		return FLN_UFFD_NO_PAGE;
	case -ENOENT:
	case -ESRCH:
		return FLN_UFFD_GONE;
	case -ENOMEM:
		return FLN_UFFD_NO_MEMORY;
	default:
		return FLN_UFFD_ERROR;
	}
}

enum fln_uffd_result fln_uffd_protect(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	struct uffdio_writeprotect arg = { .range = { .start = addr, .len = len_bytes },
					   .mode = UFFDIO_WRITEPROTECT_MODE_WP };

	fln_lock_assert_none(); /* I2 */
	atomic_fetch_add_explicit(&u->nr_calls, 1, memory_order_relaxed);
	return classify(u->ops->ioctl(u, UFFDIO_WRITEPROTECT, &arg));
}

enum fln_uffd_result fln_uffd_unprotect(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	struct uffdio_writeprotect arg = { .range = { .start = addr, .len = len_bytes } };

	fln_lock_assert_none(); /* I2 */
	atomic_fetch_add_explicit(&u->nr_calls, 1, memory_order_relaxed);
	return classify(u->ops->ioctl(u, UFFDIO_WRITEPROTECT, &arg));
}

enum install_call {
	CALL_CONTINUE,
	CALL_COPY,
	CALL_ZEROPAGE,
	CALL_POISON
};

/* One call.  *part: the number of bytes that it did, 0 if it failed outright. */
static int install_once(struct fln_uffd *u, enum install_call call, uint64_t addr, uint64_t from,
			uint64_t len_bytes, bool wake, int64_t *part)
{
	struct uffdio_range range = { .start = addr, .len = len_bytes };
	int rc;

	*part = 0;
	switch (call) {
	case CALL_CONTINUE: {
		struct uffdio_continue arg = { .range = range,
					       .mode = wake ? 0 : UFFDIO_CONTINUE_MODE_DONTWAKE };

		rc = u->ops->ioctl(u, UFFDIO_CONTINUE, &arg);
		*part = arg.mapped;
		break;
	}
	case CALL_COPY: {
		struct uffdio_copy arg = { .dst = addr,
					   .src = from,
					   .len = len_bytes,
					   .mode = wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE };

		rc = u->ops->ioctl(u, UFFDIO_COPY, &arg);
		*part = arg.copy;
		break;
	}
	case CALL_ZEROPAGE: {
		struct uffdio_zeropage arg = { .range = range,
					       .mode = wake ? 0 : UFFDIO_ZEROPAGE_MODE_DONTWAKE };

		rc = u->ops->ioctl(u, UFFDIO_ZEROPAGE, &arg);
		*part = arg.zeropage;
		break;
	}
	case CALL_POISON:
	default: {
		struct uffdio_poison arg = { .range = range,
					     .mode = wake ? 0 : UFFDIO_POISON_MODE_DONTWAKE };

		rc = u->ops->ioctl(u, UFFDIO_POISON, &arg);
		*part = arg.updated;
		break;
	}
	}
	if (*part < 0)
		*part = 0; /* the kernel reports its errno there too */
	return rc;
}

static enum fln_uffd_result install(struct fln_uffd *u, enum install_call call, uint64_t addr,
				    uint64_t from, uint64_t len_bytes, bool wake,
				    uint64_t *done_bytes)
{
	uint64_t done = 0;
	int rc = 0;

	FLN_DEBUG_ASSERT(fln_is_aligned(addr, FLN_PAGE_BYTES));
	FLN_DEBUG_ASSERT(len_bytes && fln_is_aligned(len_bytes, FLN_PAGE_BYTES));
	fln_lock_assert_none(); /* I2: these ioctls sleep */

	while (done < len_bytes) {
		int64_t part;

		atomic_fetch_add_explicit(&u->nr_calls, 1, memory_order_relaxed);
		rc = install_once(u, call, addr + done, from + done, len_bytes - done, wake, &part);
		done += (uint64_t)part;
		if (part == 0)
			break;
	}
	FLN_ASSERT(done <= len_bytes);
	*done_bytes = done;
	if (done == len_bytes)
		return FLN_UFFD_OK;
	if (rc == -ESRCH)
		atomic_store_explicit(&u->process_gone, true, memory_order_relaxed);
	return rc == 0 ? FLN_UFFD_ERROR : classify(rc);
}

enum fln_uffd_result fln_uffd_continue(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				       bool wake, uint64_t *done_bytes)
{
	return install(u, CALL_CONTINUE, addr, 0, len_bytes, wake, done_bytes);
}

enum fln_uffd_result fln_uffd_copy(struct fln_uffd *u, uint64_t addr, const void *from,
				   uint64_t len_bytes, bool wake, uint64_t *done_bytes)
{
	return install(u, CALL_COPY, addr, (uint64_t)(uintptr_t)from, len_bytes, wake, done_bytes);
}

enum fln_uffd_result fln_uffd_zeropage(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				       bool wake, uint64_t *done_bytes)
{
	return install(u, CALL_ZEROPAGE, addr, 0, len_bytes, wake, done_bytes);
}

enum fln_uffd_result fln_uffd_poison(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				     uint64_t *done_bytes)
{
	return install(u, CALL_POISON, addr, 0, len_bytes, true, done_bytes);
}

enum fln_uffd_result fln_uffd_poison_huge(struct fln_uffd *u, uint64_t addr)
{
	uint64_t done;

	switch (fln_uffd_place(u, addr)) {
	case FLN_UFFD_PLACE_HUGE:
		return fln_uffd_poison(u, fln_align_down(addr, FLN_BLOCK_BYTES), FLN_BLOCK_BYTES,
				       &done);
	case FLN_UFFD_PLACE_LARGE:
		return FLN_UFFD_PRESENT;
	case FLN_UFFD_PLACE_UNKNOWN:
		return FLN_UFFD_AGAIN;
	case FLN_UFFD_PLACE_NONE:
	case FLN_UFFD_PLACE_GONE:
		return FLN_UFFD_GONE;
	case FLN_UFFD_PLACE_SMALL:
	default:
		return FLN_UFFD_ERROR;
	}
}
