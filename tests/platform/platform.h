/* SPDX-License-Identifier: MIT */
/*
 * What the platform tests share.
 *
 * A platform test shows one fact about the kernel that the engine depends on.
 * It talks to the kernel itself and takes nothing from the engine but definitions,
 * so that it is evidence and not an echo.  It exits 0 (the fact holds), 77 (cannot be seen
 * here, with the reason) or 1 (it does not hold: what was expected and seen).
 *
 * Nothing here can hang: memory is touched and calls that block are made on
 * threads of their own, every wait has an end and a name, and an alarm stands
 * behind it all.  A function without a result of its own ends the test when it
 * fails.
 */
#ifndef FLN_TESTS_PLATFORM_H
#define FLN_TESTS_PLATFORM_H

#include "engine/uffd_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

struct uffd_msg;

#ifndef UFFDIO_MOVE
#define _UFFDIO_MOVE 0x05
struct uffdio_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PLT_PAGE ((uint64_t)4096)
#define PLT_BLOCK ((uint64_t)2 << 20)
#define PLT_QUIET_MS 50u  /* how long "nothing happens" is watched */
#define PLT_WAIT_MS 8000u /* how long something that must happen may take */
#define PLT_MISSING ((uint64_t)UFFDIO_REGISTER_MODE_MISSING)
#define PLT_MINOR ((uint64_t)UFFDIO_REGISTER_MODE_MINOR)
#define PLT_BOTH (PLT_MISSING | PLT_MINOR)

/* Verdicts.  plt_init() comes first in main(), plt_pass() last. */
void plt_init(void);
_Noreturn void plt_pass(void);
_Noreturn void plt_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void plt_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void plt_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define PLT_CHECK(cond, ...)                   \
	do {                                   \
		if (!(cond))                   \
			plt_fail(__VA_ARGS__); \
	} while (0)

/* @got and @want are errno values; 0 is success. */
void plt_expect_err(int got, int want, const char *call);

/* Memory.  Mappings are aligned to 2 MiB and have a gap on both sides. */
int plt_memfd(uint64_t bytes);
uint8_t *plt_map(int fd, uint64_t bytes, int flags);
void plt_fill(int fd, uint64_t page, uint64_t nr_pages, uint8_t value);
bool plt_cached(int fd, uint64_t page); /* is the page in the page cache? */
uint64_t plt_cached_pages(int fd);

/*
 * A userfaultfd with @features; the test is skipped where there is none.  When
 * only UFFD_USER_MODE_ONLY is permitted, that is what comes back.
 */
int plt_uffd(uint64_t features);
int plt_uffd_flags(uint64_t features, int flags);
int plt_register_try(int uffd, void *addr, uint64_t len, uint64_t mode, uint64_t *ioctls);
void plt_register(int uffd, void *addr, uint64_t len, uint64_t mode);
/* The same; skips the test when ioctl number @nr (_UFFDIO_...) is not offered. */
void plt_register_need(int uffd, void *addr, uint64_t len, uint64_t mode, unsigned int nr,
		       const char *name);
void plt_poisonable(int uffd, void *addr, uint64_t len, uint64_t mode);

/* The ioctls: 0 or errno.  @done (may be NULL) is set to zero before the call. */
int plt_continue(int uffd, void *addr, uint64_t len, uint64_t mode, int64_t *done);
int plt_copy(int uffd, void *addr, const void *src, uint64_t len, uint64_t mode, int64_t *done);
int plt_zeropage(int uffd, void *addr, uint64_t len, uint64_t mode, int64_t *done);
int plt_poison(int uffd, void *addr, uint64_t len, uint64_t mode, int64_t *done);
int plt_wake(int uffd, void *addr, uint64_t len);
int plt_unregister(int uffd, void *addr, uint64_t len);

/* Messages. */
unsigned int plt_read(int uffd, struct uffd_msg *msgs, unsigned int nr); /* 0: none */
bool plt_poll(int uffd, unsigned int ms);
struct uffd_msg plt_expect_event(int uffd, unsigned int event, const char *what);
void plt_expect_fault(int uffd, const void *addr, bool minor, const char *what);
void plt_expect_no_message(int uffd, const char *what);

/* A thread that touches one byte. */
enum plt_end {
	PLT_PENDING,
	PLT_DONE,
	PLT_SIGBUS,
	PLT_SIGSEGV
};

struct plt_toucher {
	volatile uint8_t *addr;
	bool write;
	uint8_t value; /* to write, or what was read */
	int sig_code;
	void *sig_addr;
	sigjmp_buf env;
	_Atomic int tid; /* 0 until it runs */
	_Atomic int end; /* enum plt_end; publishes the fields above */
};

struct plt_toucher *plt_touch_read(void *addr);
struct plt_toucher *plt_touch_write(void *addr, uint8_t value);
enum plt_end plt_touch_wait(struct plt_toucher *t, unsigned int ms);
void plt_expect_end(struct plt_toucher *t, enum plt_end end, const char *what);
void plt_expect_value(struct plt_toucher *t, uint8_t value, const char *what);
void plt_expect_asleep(struct plt_toucher *t, const char *what);
/* Returns when the kernel shows the thread asleep: its fault is queued. */
void plt_wait_blocked(struct plt_toucher *t, const char *what);
/* Touch and expect to get through without a message. */
void plt_expect_read(void *addr, uint8_t value, const char *what);
void plt_expect_write(void *addr, uint8_t value, const char *what);

/* A thread that makes one call which may block. */
struct plt_task {
	int (*fn)(struct plt_task *task); /* 0 or errno */
	void *addr;
	void *to;
	uint64_t len;
	int arg;
	int rc;
	_Atomic bool done; /* publishes rc */
};

void plt_task_start(struct plt_task *task);
bool plt_task_ended(struct plt_task *task, unsigned int ms);
int plt_task_wait(struct plt_task *task, const char *what);
void plt_task_expect_asleep(struct plt_task *task, const char *what);
int plt_do_madvise(struct plt_task *task); /* addr, len, arg */
int plt_do_munmap(struct plt_task *task);  /* addr, len */
int plt_do_mremap(struct plt_task *task);  /* addr, len, to */
/* madvise() with its REMOVE event read, and checked, by the caller's thread. */
void plt_madvise_served(int uffd, void *addr, uint64_t len, int advice);

/* Waits for a child and returns its wait status. */
int plt_wait_child(pid_t pid);

uint64_t plt_now_ns(void);
void plt_sleep_us(unsigned int us);

#endif
