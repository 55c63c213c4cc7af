/* SPDX-License-Identifier: MIT */
/*
 * The messages between two processes that share an image, and the handshake of the attached
 * side.
 */
#include "sources/link_message.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HELLO_TIMEOUT_NS (10 * FLN_NS_PER_S)

int fln_link_check_socket(int fd)
{
	int type = 0, domain = 0;
	socklen_t len = sizeof(int), len2 = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len2) != 0 || domain != AF_UNIX ||
	    type != SOCK_SEQPACKET)
		return fln_fail(
			EINVAL,
			"descriptor %d is not a Unix socket of type SOCK_SEQPACKET; create one "
			"with socketpair() or connect()",
			fd);
	return 0;
}

bool fln_link_is(const void *msg, int64_t len, enum fln_link_kind kind, size_t want)
{
	const struct fln_link_head *head = msg;

	return len == (int64_t)want && head->magic == FLN_LINK_MAGIC && head->kind == kind;
}

int fln_link_send(int fd, const void *msg, size_t len, int memfd, bool wait)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)msg, .iov_len = len };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd room = { .fd = fd, .events = POLLOUT };

	if (memfd >= 0) {
		struct cmsghdr *c;

		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &memfd, sizeof(memfd));
	}
	for (;;) {
		if (sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == EAGAIN && wait)
			(void)poll(&room, 1, -1);
		else if ((errno == ENOBUFS || errno == ENOMEM) && wait)
			fln_sleep_ns(FLN_NS_PER_MS);
		else if (errno == ENOBUFS || errno == ENOMEM)
			return -EAGAIN;
		else if (errno == ECONNRESET)
			return -EPIPE;
		else if (errno != EINTR)
			return -errno;
	}
}

ssize_t fln_link_receive(int fd, void *msg, size_t len, int *memfd)
{
	struct iovec iov = { .iov_base = msg, .iov_len = len };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);
	int nr = 0;

	*memfd = -1;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0);
		     at += sizeof(int)) {
			int got;

			memcpy(&got, CMSG_DATA(c) + at, sizeof(got));
			if (nr++ == 0)
				*memfd = fln_fd_keep(got);
			else
				(void)close(got);
		}
	}
	return n;
}

/* The handshake of the attached side. */

static int await_hello(int fd, struct fln_link_hello *hello, int *memfd)
{
	uint64_t now = fln_now_ns(), until = now + HELLO_TIMEOUT_NS;
	ssize_t n = -EAGAIN;

	while (n == -EAGAIN || n == -EINTR) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t part = 100 * FLN_NS_PER_MS, begun = now;

		if (now >= until)
			return fln_fail(ETIMEDOUT,
					"attach: no answer within 10 s; call "
					"fln_image_share() on the other end of descriptor %d",
					fd);
		if (part > until - now)
			part = until - now;
		(void)poll(&p, 1, (int)(part / FLN_NS_PER_MS) + 1);
		/* One look at the clock a round: the process may be stopped anywhere in it. */
		now = fln_now_ns();
		until += fln_stopped_ns(now - begun, part);
		n = fln_link_receive(fd, hello, sizeof(*hello), memfd);
	}
	if (n < 0)
		return fln_fail((int)-n, "attach: descriptor %d: %s", fd, strerror((int)-n));
	if (n == 0)
		return fln_fail(EPROTO, "attach: the other end of descriptor %d was closed", fd);
	if (!fln_link_is(hello, n, FLN_LINK_HELLO, sizeof(*hello)))
		return fln_fail(EPROTO,
				"attach: the other end of descriptor %d does not speak this "
				"protocol; call fln_image_share() there",
				fd);
	return 0;
}

int fln_link_hello(int fd, struct fln_link_hello *hello, int *memfd)
{
	struct fln_link_hello ours = { .head = { FLN_LINK_MAGIC, FLN_LINK_HELLO },
				       .version = FLN_LINK_VERSION };
	int rc = fln_link_check_socket(fd);

	*memfd = -1;
	if (rc)
		return rc;
	rc = fln_link_send(fd, &ours, sizeof(ours), -1, false);
	if (rc)
		return fln_fail(rc == -EPIPE ? EPROTO : -rc, "attach: descriptor %d: %s", fd,
				strerror(-rc));
	rc = await_hello(fd, hello, memfd);
	if (rc == 0 && hello->version != FLN_LINK_VERSION)
		rc = fln_fail(EPROTO,
			      "attach: the other end speaks version %u of the protocol and this "
			      "library version %u; use the same library on both sides",
			      hello->version, FLN_LINK_VERSION);
	if (rc == 0 && *memfd < 0)
		rc = fln_fail(EPROTO, "attach: the hello from descriptor %d carries no memfd", fd);
	if (rc == 0 && (hello->len_bytes == 0 || hello->len_bytes > INT64_MAX ||
			hello->page_bytes < FLN_PAGE_BYTES || !fln_is_pow2(hello->page_bytes) ||
			!fln_is_aligned(hello->len_bytes, hello->page_bytes)))
		rc = fln_fail(
			EPROTO,
			"attach: the hello from descriptor %d has an invalid size: %llu bytes "
			"in pages of %u",
			fd, (unsigned long long)hello->len_bytes, hello->page_bytes);
	if (rc && *memfd >= 0) {
		(void)close(*memfd);
		*memfd = -1;
	}
	return rc;
}
