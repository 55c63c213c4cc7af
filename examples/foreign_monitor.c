/* SPDX-License-Identifier: MIT */
/*
 * What Firecracker does at PUT /snapshot/load with a memory back end of type Uffd: it registers
 * anonymous memory for missing faults, and sends the handler one message with the userfaultfd
 * and a JSON array that maps guest memory to offsets in the snapshot.  There is no reply.
 */
#include "examples/foreign_monitor.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define LEN_BYTES ((size_t)MONITOR_NR_PAGES * MONITOR_PAGE_BYTES)
#define LOW_BYTES (LEN_BYTES / 4) /* below the gap for devices */
#define USER_MODE_ONLY 1          /* of userfaultfd(): this vCPU is a thread */

static int make_uffd(void)
{
	/* With this feature the handler is told what the guest's balloon discards. */
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) != 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static bool register_memory(int uffd, const void *memory)
{
	struct uffdio_register arg = {
		.range = { .start = (uint64_t)(uintptr_t)memory, .len = LEN_BYTES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &arg) == 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* Send two ranges, which a gap separates in the guest's physical memory, but not in the snapshot. */
static bool hand_over(int sock, int uffd, const char *memory)
{
	char text[512], control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = text };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	iov.iov_len = (size_t)snprintf(
		text, sizeof(text),
		"[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":0,\"page_size\":4096},"
		"{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size\":4096}]",
		(size_t)(uintptr_t)memory, LOW_BYTES, (size_t)(uintptr_t)memory + LOW_BYTES,
		LEN_BYTES - LOW_BYTES, LOW_BYTES);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &uffd, sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == (ssize_t)iov.iov_len;
}

/* Count pages that do not hold the snapshot's contents or, when @discarded, zero. */
static uint32_t count_wrong(const char *memory, uint32_t from, uint32_t to, bool discarded)
{
	uint32_t nr = 0;

	for (uint32_t page = from; page < to; page++) {
		uint64_t word;

		memcpy(&word, memory + (size_t)page * MONITOR_PAGE_BYTES, sizeof(word));
		nr += word != (discarded ? 0 : monitor_word(page));
	}
	return nr;
}

/* Read the upper half, after a balloon has discarded the middle of it, and then the lower half. */
static int run_vcpu(char *memory)
{
	uint32_t half = MONITOR_NR_PAGES / 2, low = half / 4 * 5, high = half / 4 * 7, nr;

	if (madvise(memory + (size_t)low * MONITOR_PAGE_BYTES,
		    (size_t)(high - low) * MONITOR_PAGE_BYTES, MADV_DONTNEED) != 0) {
		perror("monitor: madvise");
		return EXIT_FAILURE;
	}
	nr = count_wrong(memory, half, low, false) + count_wrong(memory, low, high, true) +
	     count_wrong(memory, high, MONITOR_NR_PAGES, false) +
	     count_wrong(memory, 0, half, false);
	(void)printf("monitor: %u pages were read, %u wrong\n", MONITOR_NR_PAGES, nr);
	return nr == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

bool monitor_can_run(void)
{
	int uffd = make_uffd();

	if (uffd < 0)
		return false;
	(void)close(uffd);
	return true;
}

int monitor_main(const char *socket_path)
{
	char *memory =
		mmap(NULL, LEN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int uffd = make_uffd(), sock, rc = EXIT_FAILURE;

	sock = connect_to(socket_path);
	if (memory != MAP_FAILED && uffd >= 0 && sock >= 0 && register_memory(uffd, memory) &&
	    hand_over(sock, uffd, memory))
		rc = run_vcpu(memory);
	else
		perror("monitor: cannot hand over the memory");
	if (memory != MAP_FAILED)
		(void)munmap(memory, LEN_BYTES);
	if (sock >= 0)
		(void)close(sock);
	if (uffd >= 0)
		(void)close(uffd);
	return rc;
}
