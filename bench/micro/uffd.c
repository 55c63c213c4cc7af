/* SPDX-License-Identifier: MIT */
/* The kernel's calls: CONTINUE, WAKE and read() with blocked threads. */
#include "engine/uffd.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/page.h"
#include "bench/micro/subject.h"
#include "engine/uffd_open.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_BLOCKED 1024u
#define BATCH 64u
#define SETTLE_MS 20

struct micro_uffd {
	struct fln_uffd uffd;
	int memfd;
	char *mem, *plain; /* two mappings of the same file: registered and not */
	uint64_t len_bytes;
	uint32_t nr_blocked, nr_threads;
	pthread_t threads[MAX_BLOCKED];
};

struct blocked {
	volatile char *page;
};

static void *blocked_main(void *arg)
{
	struct blocked *b = arg;

	(void)*b->page;
	free(b);
	return NULL;
}

/* The first block is for installs; then follows one page for each blocked thread. */
static char *page_of_thread(const struct micro_uffd *u, uint32_t i)
{
	return u->mem + FLN_BLOCK_BYTES + (size_t)i * FLN_PAGE_BYTES;
}

/* Read @nr messages.  Return: the time spent in read(); NAN: failed. */
static double read_messages(struct micro_uffd *u, uint32_t nr)
{
	struct uffd_msg msgs[BATCH];
	double ns = 0;

	for (uint32_t got = 0; got < nr;) {
		struct pollfd p = { .fd = u->uffd.fd, .events = POLLIN };
		uint64_t t0;
		ssize_t n;

		if (poll(&p, 1, 10000) != 1) {
			(void)fln_fail(ETIME, "only %u of %u threads have faulted", got, nr);
			return NAN;
		}
		t0 = fln_now_ns();
		n = fln_uffd_read(&u->uffd, msgs, BATCH);
		ns += (double)(fln_now_ns() - t0);
		if (n > 0)
			got += (uint32_t)n;
	}
	return ns;
}

static int map_file(struct micro_uffd *u)
{
	int rc = fln_uffd_open(&u->uffd, false, UFFD_FEATURE_MINOR_SHMEM);

	if (rc)
		return rc;
	u->memfd = memfd_create("micro", MFD_CLOEXEC);
	if (u->memfd < 0 || ftruncate(u->memfd, (off_t)u->len_bytes))
		return fln_fail(errno, "cannot create a memfd of %llu bytes: %s",
				(unsigned long long)u->len_bytes, strerror(errno));
	u->mem = mmap(NULL, u->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, u->memfd, 0);
	u->plain = mmap(NULL, u->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, u->memfd, 0);
	if (u->mem == MAP_FAILED || u->plain == MAP_FAILED)
		return fln_fail(ENOMEM, "cannot map the memfd twice: %s", strerror(errno));
	for (uint64_t at = 0; at < u->len_bytes; at += FLN_PAGE_BYTES)
		*(volatile char *)(u->plain + at) = 1;
	return fln_uffd_register(&u->uffd, (uint64_t)(uintptr_t)u->mem, u->len_bytes,
				 UFFDIO_REGISTER_MODE_MINOR);
}

static int start_blocked(struct micro_uffd *u)
{
	for (; u->nr_threads < u->nr_blocked; u->nr_threads++) {
		struct blocked *b = malloc(sizeof(*b));

		if (!b)
			return -ENOMEM;
		b->page = page_of_thread(u, u->nr_threads);
		if (pthread_create(&u->threads[u->nr_threads], NULL, blocked_main, b)) {
			free(b);
			return fln_fail(EAGAIN, "only %u threads could be created", u->nr_threads);
		}
	}
	return isnan(read_messages(u, u->nr_blocked)) ? -ETIME : 0;
}

struct micro_uffd *micro_uffd_new(uint32_t nr_blocked)
{
	struct micro_uffd *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->uffd.fd = u->memfd = -1;
	u->nr_blocked = nr_blocked < MAX_BLOCKED ? nr_blocked : MAX_BLOCKED;
	u->len_bytes = FLN_BLOCK_BYTES + MAX_BLOCKED * FLN_PAGE_BYTES;
	if (map_file(u) == 0 && start_blocked(u) == 0)
		return u;
	micro_uffd_free(u);
	return NULL;
}

void micro_uffd_free(struct micro_uffd *u)
{
	if (!u)
		return;
	/* Closing it lets the blocked threads fault in their pages from the page cache. */
	if (u->uffd.fd >= 0)
		fln_uffd_close(&u->uffd);
	for (uint32_t i = 0; i < u->nr_threads; i++)
		(void)pthread_join(u->threads[i], NULL);
	if (u->mem && u->mem != MAP_FAILED)
		(void)munmap(u->mem, u->len_bytes);
	if (u->plain && u->plain != MAP_FAILED)
		(void)munmap(u->plain, u->len_bytes);
	if (u->memfd >= 0)
		(void)close(u->memfd);
	free(u);
}

double micro_uffd_continue_ns(struct micro_uffd *u, uint32_t nr_pages, bool wake)
{
	uint64_t t0, t1, done;
	enum fln_uffd_result result;

	(void)madvise(u->mem, FLN_BLOCK_BYTES, MADV_DONTNEED);
	/* Keep the page table allocated: only the first fault of a block allocates it. */
	(void)fln_uffd_continue(&u->uffd,
				(uint64_t)(uintptr_t)u->mem + FLN_BLOCK_BYTES - FLN_PAGE_BYTES,
				FLN_PAGE_BYTES, false, &done);
	if (nr_pages == FLN_BLOCK_PAGES)
		(void)madvise(u->mem, FLN_BLOCK_BYTES, MADV_DONTNEED);
	t0 = fln_now_ns();
	result = fln_uffd_continue(&u->uffd, (uint64_t)(uintptr_t)u->mem, nr_pages * FLN_PAGE_BYTES,
				   wake, &done);
	t1 = fln_now_ns();
	if (result != FLN_UFFD_OK) {
		(void)fln_fail(EIO, "CONTINUE of %u pages: %s", nr_pages,
			       fln_uffd_result_name(result));
		return NAN;
	}
	return (double)(t1 - t0);
}

double micro_uffd_wake_ns(struct micro_uffd *u)
{
	uint64_t t0 = fln_now_ns();

	fln_uffd_wake(&u->uffd, (uint64_t)(uintptr_t)u->mem, FLN_PAGE_BYTES);
	return (double)(fln_now_ns() - t0);
}

double micro_uffd_read_ns(struct micro_uffd *u)
{
	struct timespec settle = { .tv_nsec = SETTLE_MS * 1000000 };

	if (u->nr_blocked == 0)
		return NAN;
	/* Threads woken without their page fault again; wait until all have. */
	fln_uffd_wake(&u->uffd, (uint64_t)(uintptr_t)page_of_thread(u, 0),
		      (uint64_t)u->nr_blocked * FLN_PAGE_BYTES);
	(void)nanosleep(&settle, NULL);
	return read_messages(u, u->nr_blocked) / u->nr_blocked;
}

double micro_uffd_kernel_fault_ns(struct micro_uffd *u)
{
	uint64_t t0, t1;

	(void)madvise(u->plain, FLN_BLOCK_BYTES, MADV_DONTNEED);
	*(volatile char *)(u->plain + FLN_BLOCK_BYTES - FLN_PAGE_BYTES) = 1;
	t0 = fln_now_ns();
	for (uint32_t page = 0; page < 64; page++)
		*(volatile char *)(u->plain + (size_t)page * FLN_PAGE_BYTES) = 1;
	t1 = fln_now_ns();
	return (double)(t1 - t0) / 64;
}

double micro_uffd_touch_ns(struct micro_uffd *u)
{
	uint64_t t0, done;

	(void)madvise(u->mem, FLN_BLOCK_BYTES, MADV_DONTNEED);
	(void)fln_uffd_continue(&u->uffd, (uint64_t)(uintptr_t)u->mem, FLN_BLOCK_BYTES, false,
				&done);
	t0 = fln_now_ns();
	for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i++)
		*(volatile char *)(u->mem + (size_t)(i * 37 % FLN_BLOCK_PAGES) * FLN_PAGE_BYTES) =
			1;
	return (double)(fln_now_ns() - t0) / FLN_BLOCK_PAGES;
}
