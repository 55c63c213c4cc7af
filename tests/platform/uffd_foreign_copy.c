/* SPDX-License-Identifier: MIT */
/*
 * A foreign shard: another process makes a userfaultfd over private anonymous
 * memory, registers it MISSING and hands it over.  COPY by the receiver, from its
 * own memory, resolves the other's faults; a discard there raises REMOVE on the
 * same descriptor, and the page faults again.
 */
#include "platform.h"

#include <sys/socket.h>
#include <sys/wait.h>

enum {
	NR = 4
};

struct hello {
	uint64_t addr;
	int32_t has_fd;
	int32_t reserved;
};

static void send_hello(int sock, const struct hello *hello, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)hello, .iov_len = sizeof(*hello) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	memset(&u, 0, sizeof(u));
	msg.msg_control = u.buf;
	msg.msg_controllen = sizeof(u.buf);
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sock, &msg, MSG_NOSIGNAL) != (ssize_t)sizeof(*hello))
		_exit(1);
}

static int receive_hello(int sock, struct hello *hello)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = { .iov_base = hello, .iov_len = sizeof(*hello) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	int fd = -1;

	msg.msg_control = u.buf;
	msg.msg_controllen = sizeof(u.buf);
	PLT_CHECK(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == (ssize_t)sizeof(*hello),
		  "expected the child's hello, saw none (its message is above)");
	c = CMSG_FIRSTHDR(&msg);
	PLT_CHECK(c && c->cmsg_type == SCM_RIGHTS, "expected a descriptor by SCM_RIGHTS");
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void say_byte(int sock, uint8_t value)
{
	if (send(sock, &value, 1, MSG_NOSIGNAL) != 1)
		_exit(1);
}

static void expect_byte(int sock, uint8_t want, const char *what)
{
	uint8_t value = 0;

	PLT_CHECK(recv(sock, &value, 1, 0) == 1, "%s: waited for the child's byte: %s", what,
		  strerror(errno));
	PLT_CHECK(value == want, "%s: expected the child to read %#x, saw %#x", what,
		  (unsigned int)want, (unsigned int)value);
}

/* Touches page 0, discards it, touches it again, touches page 1. */
static void be_the_vmm(int sock)
{
	volatile uint8_t *mem;
	struct hello hello = { .has_fd = 1 };
	int uffd;

	alarm(20);
	uffd = plt_uffd(UFFD_FEATURE_EVENT_REMOVE);
	mem = plt_map(-1, NR * PLT_PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
	plt_register(uffd, (void *)(uintptr_t)mem, NR * PLT_PAGE, PLT_MISSING);
	hello.addr = (uintptr_t)mem;
	send_hello(sock, &hello, uffd);
	close(uffd);
	say_byte(sock, mem[0]);
	if (madvise((void *)(uintptr_t)mem, PLT_PAGE, MADV_DONTNEED) != 0)
		_exit(1);
	say_byte(sock, mem[0]);
	mem[PLT_PAGE] = 0x55;
	say_byte(sock, mem[PLT_PAGE + 1]);
	say_byte(sock, mem[PLT_PAGE]);
	_exit(0);
}

static pid_t start_vmm(int *sock)
{
	struct timeval patience = { .tv_sec = PLT_WAIT_MS / 1000 };
	int pair[2];
	pid_t pid;

	PLT_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0,
		  "socketpair: %s", strerror(errno));
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	pid = fork();
	PLT_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		be_the_vmm(pair[1]);
	close(pair[1]);
	*sock = pair[0];
	return pid;
}

static void serve(int uffd, int sock, uint8_t *there)
{
	static uint8_t pages[NR][4096];
	uint64_t start = (uintptr_t)there;
	struct uffd_msg msg;

	for (int i = 0; i < NR; i++)
		memset(pages[i], 0xa0 + i, sizeof(pages[i]));
	plt_expect_fault(uffd, there, false, "the child's first touch");
	plt_expect_err(plt_copy(uffd, there, pages[0], PLT_PAGE, 0, NULL), 0,
		       "COPY into the child");
	expect_byte(sock, 0xa0, "after COPY");

	msg = plt_expect_event(uffd, UFFD_EVENT_REMOVE, "the child's MADV_DONTNEED");
	PLT_CHECK(msg.arg.remove.start == start && msg.arg.remove.end == start + PLT_PAGE,
		  "REMOVE: expected the child's first page, saw [%#llx, %#llx)",
		  (unsigned long long)msg.arg.remove.start, (unsigned long long)msg.arg.remove.end);
	plt_expect_fault(uffd, there, false, "the child's touch after its discard");
	plt_expect_err(plt_zeropage(uffd, there, PLT_PAGE, 0, NULL), 0, "ZEROPAGE in the child");
	expect_byte(sock, 0, "after ZEROPAGE");

	plt_expect_fault(uffd, there + PLT_PAGE, false, "the child's write");
	plt_expect_err(plt_copy(uffd, there + PLT_PAGE, pages[1], (NR - 1) * PLT_PAGE, 0, NULL), 0,
		       "COPY of three pages");
	expect_byte(sock, 0xa1, "after the second COPY");
	expect_byte(sock, 0x55, "after the child's own write");
}

int main(void)
{
	struct hello hello;
	uint8_t *there;
	int sock = -1;
	int status;
	int uffd;
	pid_t pid;

	plt_init();
	close(plt_uffd(UFFD_FEATURE_EVENT_REMOVE)); /* skips here, and not in the child */
	pid = start_vmm(&sock);
	uffd = receive_hello(sock, &hello);
	there = (uint8_t *)(uintptr_t)hello.addr;
	serve(uffd, sock, there);
	status = plt_wait_child(pid);
	PLT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
		  "expected the child to end well, saw status %#x", (unsigned int)status);
	status = plt_zeropage(uffd, there, PLT_PAGE, 0, NULL);
	plt_expect_err(status, ESRCH, "ZEROPAGE when the child is gone");
	plt_pass();
}
