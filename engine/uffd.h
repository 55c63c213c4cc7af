/* SPDX-License-Identifier: MIT */
/*
 * The kernel's userfaultfd calls: each is made in one place, uffd.c, and its errno becomes one of a
 * few results.  They go through a table of functions, so that unit tests can put a fake kernel
 * there.
 *
 * A struct fln_uffd has one owner at a time; other threads may make calls that change nothing but
 * its atomics.  Install calls sleep, so no lock may be held.
 */
#ifndef FLN_ENGINE_UFFD_H
#define FLN_ENGINE_UFFD_H

#include "engine/uffd_compat.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct uffd_msg;

struct fln_uffd;

struct fln_uffd_ops {
	/* Reads at most @nr messages without waiting.  Return: how many, or a negative errno. */
	ssize_t (*read)(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr);
	/* Return: 0 or a negative errno. */
	int (*ioctl)(struct fln_uffd *u, unsigned long request, void *arg);
	void (*close)(struct fln_uffd *u);
	/* Is the PTE at @addr of this process empty, not even poisoned?  False if unknown. */
	bool (*is_empty)(struct fln_uffd *u, uint64_t addr);
	/* PROT_NONE for a range of this process.  Return: 0 or a negative errno. */
	int (*deny)(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);
};

/* The features that userfaultfds of our own guests ask for; those the kernel lacks are left out. */
#define FLN_UFFD_GUEST_FEATURES                                                                   \
	(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS | \
	 UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |    \
	 UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_POISON)

struct fln_uffd {
	int fd;
	bool user_mode_only;
	bool shared;       /* another process has the file description, and may change its flags */
	bool no_nowait;    /* preadv2() with RWF_NOWAIT is not supported; the reader's field */
	uint64_t features; /* enabled ones, UFFD_FEATURE_* */
	/* Of the last UFFDIO_REGISTER; atomic, as workers read it while regions are added. */
	_Atomic uint64_t range_ioctls;
	const struct fln_uffd_ops *ops;
	_Atomic uint64_t nr_calls; /* install calls */
	_Atomic uint64_t nr_wakes; /* explicit wake calls */
	_Atomic bool process_gone; /* an install failed with ESRCH: its process has ended */
	_Atomic bool is_open;      /* for statistics */
};

/* The result of an install call; the data plane knows no other errors. */
enum fln_uffd_result {
	FLN_UFFD_OK,      /* all of it is mapped */
	FLN_UFFD_PRESENT, /* the page at addr + done is mapped already; no waiter was woken */
	FLN_UFFD_AGAIN,   /* an event is unread, or the thread that caused it has not resumed */
	FLN_UFFD_NO_PAGE, /* the page cache has no page at addr + done */
	FLN_UFFD_GONE,    /* the range is not registered (any more), or its process has ended */
	FLN_UFFD_NO_MEMORY,
	FLN_UFFD_ERROR,
	FLN_UFFD_NR_RESULTS
};

extern const struct fln_uffd_ops fln_uffd_kernel_ops;

const char *fln_uffd_result_name(enum fln_uffd_result result);

/* What is mapped at an address. */
enum fln_uffd_place {
	FLN_UFFD_PLACE_UNKNOWN, /* cannot be told: an event is unread, say */
	FLN_UFFD_PLACE_SMALL,   /* registered, pages of 4 KiB */
	FLN_UFFD_PLACE_HUGE,    /* registered, hugetlb: no page of 4 KiB can be copied there */
	FLN_UFFD_PLACE_LARGE,   /* a transparent huge page is mapped there */
	FLN_UFFD_PLACE_NONE,    /* not registered (yet) */
	FLN_UFFD_PLACE_GONE,    /* the userfaultfd's process has ended */
};

/* Find out what is mapped at @addr, by a copy that cannot succeed.  Changes nothing there. */
enum fln_uffd_place fln_uffd_place(struct fln_uffd *u, uint64_t addr);

void fln_uffd_close(struct fln_uffd *u);

/* Register [addr, addr + len_bytes) with @modes; sets u->range_ioctls.  Return: 0 or -errno. */
int fln_uffd_register(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes, uint64_t modes);
int fln_uffd_unregister(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/* As in struct fln_uffd_ops; so are the next two. */
ssize_t fln_uffd_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr);

/* Async-signal-safe. */
bool fln_uffd_is_empty(struct fln_uffd *u, uint64_t addr);

/* Wakes no thread. */
int fln_uffd_deny(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/*
 * Map [addr, addr + len_bytes); with @wake, wake the threads that wait there.  If the kernel has
 * done a part the call is repeated for the rest.  *done_bytes: how far it came; what lies before is
 * mapped (and with @wake its waiters are woken), whatever the result.
 */
enum fln_uffd_result fln_uffd_continue(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				       bool wake, uint64_t *done_bytes);
enum fln_uffd_result fln_uffd_copy(struct fln_uffd *u, uint64_t addr, const void *from,
				   uint64_t len_bytes, bool wake, uint64_t *done_bytes);
enum fln_uffd_result fln_uffd_zeropage(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				       bool wake, uint64_t *done_bytes);

/*
 * Poison [addr, addr + len_bytes), so that touching it raises SIGBUS, and wake the threads that
 * wait there.  For a page that is mapped the result is PRESENT.
 */
enum fln_uffd_result fln_uffd_poison(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				     uint64_t *done_bytes);

/*
 * The kernel has refused to poison the 4 KiB at @addr: poison the huge page that they are part of.
 * ERROR if the pages there are small: nothing is poisoned then, because other pages of the block
 * may have contents.
 */
enum fln_uffd_result fln_uffd_poison_huge(struct fln_uffd *u, uint64_t addr);

/*
 * Write-protect [addr, addr + len_bytes), which is registered with UFFDIO_REGISTER_MODE_WP: threads
 * that write to it wait.
 */
enum fln_uffd_result fln_uffd_protect(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/* Lift the write protection of [addr, addr + len_bytes), and wake the threads that wait there. */
enum fln_uffd_result fln_uffd_unprotect(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/* Wake the threads that wait in the range: they repeat their access. */
void fln_uffd_wake(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

static inline bool fln_uffd_can_poison(const struct fln_uffd *u)
{
	return u->range_ioctls & (UINT64_C(1) << _UFFDIO_POISON);
}

#endif
