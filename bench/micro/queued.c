/* SPDX-License-Identifier: MIT */
/* One fault through a userfaultfd: a toucher and a server thread, each pinned. */
#include "base/clock.h"
#include "base/error.h"
#include "base/page.h"
#include "bench/micro/subject.h"
#include "engine/uffd.h"
#include "engine/uffd_open.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_PAGES 512u
#define SERVER_TIMEOUT_NS (UINT64_C(10) * FLN_NS_PER_S) /* generous: shared machines */

struct micro_queued {
	struct fln_uffd uffd;
	int memfd, epoll, stop;
	char *mem;
	uint32_t next;
	int touch_cpu, serve_cpu;
	pthread_t server;
	bool started;
	/* read_at is stored before the wake, served_at after it: the toucher polls for it. */
	_Atomic uint64_t read_at, served_at;
};

static void *server_main(void *arg)
{
	struct micro_queued *q = arg;
	struct epoll_event event;
	struct uffd_msg msg;
	uint64_t done;

	(void)micro_pin(q->serve_cpu);
	for (;;) {
		if (epoll_wait(q->epoll, &event, 1, -1) != 1)
			continue;
		if (event.data.fd == q->stop)
			return NULL;
		if (fln_uffd_read(&q->uffd, &msg, 1) != 1)
			continue;
		atomic_store(&q->read_at, fln_now_ns());
		(void)fln_uffd_continue(&q->uffd,
					fln_align_down(msg.arg.pagefault.address, FLN_PAGE_BYTES),
					FLN_PAGE_BYTES, true, &done);
		atomic_store(&q->served_at, fln_now_ns());
	}
}

static int watch(struct micro_queued *q, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(q->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int set_up(struct micro_queued *q)
{
	uint64_t len_bytes = NR_PAGES * FLN_PAGE_BYTES;
	int rc = fln_uffd_open(&q->uffd, false, UFFD_FEATURE_MINOR_SHMEM);
	char *plain;

	if (rc)
		return rc;
	q->memfd = memfd_create("micro", MFD_CLOEXEC);
	q->epoll = epoll_create1(EPOLL_CLOEXEC);
	q->stop = eventfd(0, EFD_CLOEXEC);
	if (q->memfd < 0 || q->epoll < 0 || q->stop < 0 || ftruncate(q->memfd, (off_t)len_bytes))
		return fln_fail(errno, "cannot create a memfd, epoll or eventfd: %s",
				strerror(errno));
	plain = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, q->memfd,
		     0);
	q->mem = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, q->memfd, 0);
	if (plain == MAP_FAILED || q->mem == MAP_FAILED)
		return fln_fail(ENOMEM, "cannot map the memfd twice: %s", strerror(errno));
	(void)munmap(plain, len_bytes);
	rc = fln_uffd_register(&q->uffd, (uint64_t)(uintptr_t)q->mem, len_bytes,
			       UFFDIO_REGISTER_MODE_MINOR);
	if (rc)
		return rc;
	if (watch(q, q->uffd.fd) || watch(q, q->stop))
		return fln_fail(errno, "cannot add a descriptor to epoll: %s", strerror(errno));
	rc = pthread_create(&q->server, NULL, server_main, q);
	if (rc)
		return fln_fail(rc, "cannot create the server thread: %s", strerror(rc));
	q->started = true;
	return 0;
}

struct micro_queued *micro_queued_new(int touch_cpu, int serve_cpu)
{
	struct micro_queued *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->uffd.fd = q->memfd = q->epoll = q->stop = -1;
	q->touch_cpu = touch_cpu;
	q->serve_cpu = serve_cpu;
	if (!micro_pin(touch_cpu) || set_up(q)) {
		micro_queued_free(q);
		return NULL;
	}
	return q;
}

void micro_queued_free(struct micro_queued *q)
{
	uint64_t one = 1;

	if (!q)
		return;
	if (q->started && write(q->stop, &one, sizeof(one)) == sizeof(one))
		(void)pthread_join(q->server, NULL);
	if (q->uffd.fd >= 0)
		fln_uffd_close(&q->uffd);
	if (q->mem && q->mem != MAP_FAILED)
		(void)munmap(q->mem, NR_PAGES * FLN_PAGE_BYTES);
	if (q->memfd >= 0)
		(void)close(q->memfd);
	if (q->epoll >= 0)
		(void)close(q->epoll);
	if (q->stop >= 0)
		(void)close(q->stop);
	(void)micro_pin(-1);
	free(q);
}

bool micro_queued_fault(struct micro_queued *q, struct micro_steps *out)
{
	uint64_t began, ended, limit;

	if (q->next == NR_PAGES) {
		(void)madvise(q->mem, NR_PAGES * FLN_PAGE_BYTES, MADV_DONTNEED);
		q->next = 0;
	}
	atomic_store(&q->served_at, 0);
	began = fln_now_ns();
	*(volatile char *)(q->mem + (size_t)q->next++ * FLN_PAGE_BYTES) = 1;
	ended = fln_now_ns();
	limit = ended + SERVER_TIMEOUT_NS;
	/* The woken thread may run before the server stores served_at. */
	while (atomic_load(&q->served_at) == 0 && fln_now_ns() < limit)
		(void)usleep(10);
	if (atomic_load(&q->served_at) == 0) {
		(void)fln_fail(ETIMEDOUT, "the server thread did not run for ten seconds");
		return false;
	}
	out->touch_ns = (double)(ended - began);
	out->to_read_ns = (double)(atomic_load(&q->read_at) - began);
	out->serve_ns = (double)(atomic_load(&q->served_at) - atomic_load(&q->read_at));
	/* Negative if the toucher finished before the server stored served_at. */
	out->resume_ns = out->touch_ns - out->to_read_ns - out->serve_ns;
	return true;
}
