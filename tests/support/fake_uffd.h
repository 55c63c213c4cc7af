/* SPDX-License-Identifier: MIT */
/*
 * A fake kernel behind struct fln_uffd_ops: one userfaultfd, the page tables of
 * its mappings, and the threads that touch them.
 *
 * It answers as the kernel does, in what the engine depends on: faults are read
 * before events, an install stops at the first page that it cannot do and wakes
 * the prefix, a call without progress wakes nobody, installs are put off with
 * EAGAIN while an event is unread, a range that is not one mapping is ENOENT.
 * Contents are real: pages of a file (the image's memfd), so a hole is a hole.
 * Anonymous pages remember what was copied into them, private ones what was
 * written to them; zeros in a private mapping are mapped without a look at the file.
 *
 * One thread uses it.  Threads of the guest are entries in a table, and run when
 * fake_run() says so: between a wake and that, anything may happen.
 */
#ifndef FLN_TESTS_FAKE_UFFD_H
#define FLN_TESTS_FAKE_UFFD_H

#include "engine/life/deny.h"
#include "engine/life/deny_kernel.h"
#include "engine/uffd.h"

#include <stdbool.h>
#include <stdint.h>

struct uffd_msg;

#define FAKE_MAX_THREADS 1024u
#define FAKE_MAX_EVENTS 64u
#define FAKE_TORN UINT64_MAX /* a page whose words are not all alike */

enum fake_pte {
	FAKE_ABSENT,
	FAKE_MAPPED,
	FAKE_POISONED
};

struct fake_page {
	enum fake_pte pte;
	bool vma;           /* mapped and registered here */
	bool plain;         /* it was unregistered: the kernel serves it */
	int fd;             /* -1: anonymous */
	uint64_t file_page; /* with a file */
	bool is_private;    /* a private mapping of it */
	bool wp;            /* mapped, and whoever touches it waits for leave to write */
	bool own;           /* and it has a page of its own, or the page of zeros */
	uint64_t value;     /* without a file, or of its own */
	bool denied;        /* PROT_NONE */
	bool vacated;       /* something else was mapped there, which raises a signal, too */
};

enum fake_thread_state {
	FAKE_IDLE,    /* no thread */
	FAKE_QUEUED,  /* waits, its message is unread */
	FAKE_WAITING, /* waits, its message was read */
	FAKE_WOKEN,   /* touches its page again when it runs */
	FAKE_READ,    /* has read its page */
	FAKE_KILLED,  /* was sent SIGBUS or SIGSEGV */
};

struct fake_thread {
	enum fake_thread_state state;
	uint64_t addr;
	uint64_t seq;   /* of its message */
	uint64_t value; /* what it read */
	uint32_t nr_faults;
};

struct fake_event {
	struct uffd_msg msg;
	bool read;
	bool zap;       /* takes pages away once it has been read */
	bool punch;     /* out of the file too */
	uint32_t again; /* install calls that it still puts off */
};

enum fake_call {
	FAKE_CONTINUE,
	FAKE_COPY,
	FAKE_ZEROPAGE,
	FAKE_POISON,
	FAKE_NR_CALLS
};

struct fake_uffd {
	uint64_t addr;
	uint64_t nr_pages;
	struct fake_page *pages;
	struct fake_thread threads[FAKE_MAX_THREADS];
	struct fake_event events[FAKE_MAX_EVENTS]; /* in order */
	uint32_t nr_events;
	uint64_t seq;
	int fd; /* of the struct fln_uffd that it stands behind */

	/* What goes wrong. */
	uint32_t again_after_read; /* install calls put off by an event that was read */
	uint32_t fail_in;          /* the n-th install call from now on fails, 0: none */
	uint32_t fail_times;       /* and so many in all; 0: 1 */
	int fail_errno;
	uint32_t max_pages;  /* that one call does; 0: all */
	int read_errno;      /* what read returns; 0: messages */
	uint64_t flags;      /* that messages of faults carry besides */
	int unprotect_errno; /* of UFFDIO_WRITEPROTECT, always */
	int unregister_errno;
	uint64_t unregister_stop; /* with it: what lies below this address succeeds */
	bool process_gone;        /* installs are ESRCH from now on */
	bool has_huge; /* its pages are of 2 MiB: less is EINVAL, whatever was to be done */

	/* Called for each page that CONTINUE or COPY maps. */
	void (*on_map)(void *ctx, uint64_t addr);
	/* Called for each page that is poisoned; whose marker an install wipes out; that is refused. */
	void (*on_poison)(void *ctx, uint64_t addr);
	void (*on_deny)(void *ctx, uint64_t addr); /* the same, by PROT_NONE */
	void (*on_unpoison)(void *ctx, uint64_t addr);
	void (*on_injected)(void *ctx, uint64_t addr, int err);
	/* Called when messages have been read and nobody has acted upon them yet. */
	void (*on_read)(void *ctx);
	/* Called for each page that is unregistered. */
	void (*on_plain)(void *ctx, uint64_t addr);
	/* Called by UNREGISTER when it has woken and the range is still registered. */
	void (*on_unregister)(void *ctx, uint64_t start, uint64_t len_bytes);
	void *ctx;

	/* What happened. */
	uint32_t nr_calls[FAKE_NR_CALLS];
	uint32_t nr_pages_done[FAKE_NR_CALLS];
	uint32_t nr_wake_calls, nr_unprotects;
	uint32_t nr_unpoisoned; /* pages whose marker an install wiped out */
	uint32_t nr_registers, nr_unregisters;
	uint64_t last_start, last_len; /* of the last install call */
	bool closed;
	uint32_t nr_denied; /* runs that deny was called for */
	int deny_errno;     /* what it returns */
	bool maps_unknown;  /* nobody can tell what is mapped where */
};

/* For the first shard of a guest that stands on a fake. */
extern const struct fln_memory_ops fake_memory;

/* A fake of @nr_pages from @addr on, none of them mapped; @u is put on it. */
void fake_init(struct fake_uffd *f, struct fln_uffd *u, uint64_t addr, uint64_t nr_pages);
void fake_deinit(struct fake_uffd *f);

/* Map pages of a file (@fd -1: anonymous memory) at @addr. */
void fake_map(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, int fd, uint64_t file_page);

/* The same, private. */
void fake_map_private(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, int fd,
		      uint64_t file_page);

/* A word is written all over a page that is mapped. */
void fake_write(struct fake_uffd *f, uint64_t addr, uint64_t value);

/* Write-protect what is mapped there: the next touch is a write-protect fault. */
void fake_protect(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages);

/* A thread touches @addr.  Returns its number; what became of it is in threads[]. */
uint32_t fake_touch(struct fake_uffd *f, uint64_t addr);

/* End a thread that has nothing to wait for. */
void fake_reap(struct fake_uffd *f, uint32_t thread);

/* Let threads run: one whose event was read goes on, one that was woken touches again. */
void fake_run(struct fake_uffd *f);

/* madvise(): DONTNEED, or with @punch REMOVE.  Pages go when the event has been read. */
void fake_discard(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, bool punch);
void fake_unmap(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages);
void fake_remap(struct fake_uffd *f, uint64_t from, uint64_t to, uint64_t nr_pages);

/* Page-table entries vanish and nobody says so, as by MADV_COLLAPSE elsewhere. */
void fake_zap(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages);
/* The same, and out of the file too: a hole punched through the descriptor. */
void fake_punch(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages);

struct fake_page *fake_page(struct fake_uffd *f, uint64_t addr);
bool fake_in_cache(const struct fake_page *page);
/* The word that all of a page consists of, or FAKE_TORN. */
uint64_t fake_contents(const struct fake_page *page);

uint32_t fake_count(const struct fake_uffd *f, enum fake_thread_state state);
uint32_t fake_nr_mapped(const struct fake_uffd *f);
uint32_t fake_nr_installs(const struct fake_uffd *f);
bool fake_event_pending(const struct fake_uffd *f);

#endif
