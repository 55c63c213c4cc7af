/* SPDX-License-Identifier: MIT */
/*
 * The kernel's userfaultfd calls: each is made in one place, uffd.c, and comes
 * back as one of few results.  A table stands between, so that unit tests put a
 * fake kernel there.
 *
 * A struct fln_uffd has one owner at a time; only its atomics may be read by
 * others.
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
	/* Whole messages, at most @nr; 0 when there are none, or a negative errno. */
	ssize_t (*read)(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr);
	/* 0 or a negative errno. */
	int (*ioctl)(struct fln_uffd *u, unsigned long request, void *arg);
	void (*close)(struct fln_uffd *u);
	/* Has the page of 4 KiB nothing in this process's page tables, not even poison? */
	bool (*is_empty)(struct fln_uffd *u, uint64_t addr);
	/* No access to the range of this process's memory: SIGSEGV.  0 or a negative errno. */
	int (*deny)(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);
};

/* What the userfaultfds of our own guests ask for, as far as the kernel has it. */
#define FLN_UFFD_GUEST_FEATURES                                                                   \
	(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS | \
	 UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |    \
	 UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_POISON)

struct fln_uffd {
	int fd;
	bool user_mode_only;
	bool shared;       /* another process has the same description, and may change its flags */
	bool no_nowait;    /* preadv2() cannot say RWF_NOWAIT for it here; the reader's */
	uint64_t features; /* enabled ones, UFFD_FEATURE_* */
	/* What the last UFFDIO_REGISTER offered; regions are added while workers look at it. */
	_Atomic uint64_t range_ioctls;
	const struct fln_uffd_ops *ops;
	_Atomic uint64_t nr_calls; /* install calls */
	_Atomic uint64_t nr_wakes; /* explicit wake calls */
	_Atomic bool process_gone; /* an install said so; it does not come back */
};

/* What an install call came to; the only error taxonomy of the data plane. */
enum fln_uffd_result {
	FLN_UFFD_OK,      /* all of it is mapped */
	FLN_UFFD_PRESENT, /* the page at addr + done is there already: nobody was woken */
	FLN_UFFD_AGAIN,   /* an event is unread or still being acted upon */
	FLN_UFFD_NO_PAGE, /* the page cache has no page at addr + done */
	FLN_UFFD_GONE,    /* no such range (any more), or its process has gone */
	FLN_UFFD_NO_MEMORY,
	FLN_UFFD_ERROR,
	FLN_UFFD_NR_RESULTS
};

extern const struct fln_uffd_ops fln_uffd_kernel_ops;

const char *fln_uffd_result_name(enum fln_uffd_result result);

/* What is at a page that is said to be registered. */
enum fln_uffd_place {
	FLN_UFFD_PLACE_UNKNOWN, /* an event is unread, or the page is there */
	FLN_UFFD_PLACE_SMALL,   /* pages of 4 KiB, registered */
	FLN_UFFD_PLACE_HUGE,    /* pages of 4 KiB cannot be copied there */
	FLN_UFFD_PLACE_LARGE,   /* a large page of the kernel's choice is there */
	FLN_UFFD_PLACE_NONE,    /* not registered (yet) */
	FLN_UFFD_PLACE_GONE,    /* its process has ended */
};

/* Asked without changing anything. */
enum fln_uffd_place fln_uffd_place(struct fln_uffd *u, uint64_t addr);

void fln_uffd_close(struct fln_uffd *u);

/* Register [addr, addr + len) with @modes; u->range_ioctls is set.  Return: 0 or -errno. */
int fln_uffd_register(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes, uint64_t modes);
int fln_uffd_unregister(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/* As struct fln_uffd_ops. */
ssize_t fln_uffd_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr);

/* As there; false also when it cannot be told.  May be called in a signal handler. */
bool fln_uffd_is_empty(struct fln_uffd *u, uint64_t addr);

/* As there: for kernels on which pages cannot be poisoned, and for ends.  Wakes no thread. */
int fln_uffd_deny(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/*
 * Map [addr, addr + len_bytes).  With @wake the threads that wait for it go on.
 * Repeats what the kernel did in part.  *done_bytes is how far it came: what
 * lies before is mapped (and woken, with @wake), whatever the result.
 */
enum fln_uffd_result fln_uffd_continue(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				       bool wake, uint64_t *done_bytes);
enum fln_uffd_result fln_uffd_copy(struct fln_uffd *u, uint64_t addr, const void *from,
				   uint64_t len_bytes, bool wake, uint64_t *done_bytes);
enum fln_uffd_result fln_uffd_zeropage(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				       bool wake, uint64_t *done_bytes);

/*
 * Make [addr, addr + len_bytes) raise SIGBUS when it is touched, and let those
 * that wait for it go on (into that signal).  Pages that are mapped are PRESENT.
 */
enum fln_uffd_result fln_uffd_poison(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes,
				     uint64_t *done_bytes);

/*
 * The kernel refuses to poison the 4 KiB at @addr: poison the huge page that they are a part of.
 * ERROR if the pages there are small: nothing is poisoned then, for the others of the block
 * may have contents.
 */
enum fln_uffd_result fln_uffd_poison_huge(struct fln_uffd *u, uint64_t addr);

/*
 * Threads that write to [addr, addr + len_bytes), registered with UFFDIO_REGISTER_MODE_WP, wait
 * from now on.
 */
enum fln_uffd_result fln_uffd_protect(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/* Lift write protection from [addr, addr + len_bytes), and wake the threads that wait for that. */
enum fln_uffd_result fln_uffd_unprotect(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

/* Wake the threads that wait in the range: they touch it again. */
void fln_uffd_wake(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);

static inline bool fln_uffd_can_poison(const struct fln_uffd *u)
{
	return u->range_ioctls & (UINT64_C(1) << _UFFDIO_POISON);
}

#endif
