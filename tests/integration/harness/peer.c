/* SPDX-License-Identifier: MIT */
/* Another process that does what it is told. */
#include "tests/integration/harness/peer.h"

#include "tests/integration/harness/host.h"
#include "tests/integration/harness/touch.h"
#include "tests/integration/harness/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct peer_message {
	uint64_t order;
	uint64_t offset, len;
	int64_t result;
	uint64_t value;
};

static int send_message(int socket, const struct peer_message *m, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)m, .iov_len = sizeof(*m) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*m) ? 0 : -1;
}

static int receive_message(int socket, struct peer_message *m, int *fd)
{
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c;

	*fd = -1;
	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*m))
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return 0;
}

struct peer_state {
	uint8_t *mem;
	int memfd;
	uint64_t len;
};

/* Anonymous memory, registered MISSING, as a VMM that hands its memory over has it. */
static int make_foreign(struct peer_state *s, struct peer_message *m)
{
	int uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);

	s->mem = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	(void)madvise(s->mem, m->len, MADV_NOHUGEPAGE);
	m->result = -raw_register(uffd, s->mem, m->len, UFFDIO_REGISTER_MODE_MISSING);
	m->value = (uintptr_t)s->mem;
	return uffd;
}

static int obey_order(struct peer_state *s, struct peer_message *m, int fd)
{
	uint64_t value = 0;
	int out = -1, rc = 0;

	switch ((enum peer_order)m->order) {
	case PEER_MAP:
		s->memfd = fd;
		s->mem = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		rc = s->mem == MAP_FAILED ? -1 : 0;
		break;
	case PEER_REMOVE:
		rc = madvise(s->mem + m->offset, m->len, MADV_REMOVE);
		break;
	case PEER_DONTNEED:
		rc = madvise(s->mem + m->offset, m->len, MADV_DONTNEED);
		break;
	case PEER_PUNCH:
		rc = fallocate(s->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)m->offset, (off_t)m->len);
		break;
	case PEER_FOREIGN:
		return make_foreign(s, m);
	case PEER_READ:
		m->result = (int64_t)touch_read(s->mem + m->offset, &value);
		m->value = value;
		return -1;
	case PEER_WRITE:
		m->result = (int64_t)touch_write(s->mem + m->offset, m->len);
		return -1;
	case PEER_QUIT:
	default:
		_exit(0);
	}
	m->result = rc == 0 ? 0 : -errno;
	return out;
}

static _Noreturn void peer_main(int socket)
{
	struct peer_state s = { .memfd = -1 };
	struct peer_message m;
	int fd;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	touch_signals();
	while (receive_message(socket, &m, &fd) == 0) {
		fd = obey_order(&s, &m, fd);
		if (send_message(socket, &m, fd) != 0)
			break;
		if (fd >= 0)
			(void)close(fd);
	}
	_exit(0);
}

void peer_start(struct peer *p)
{
	int sockets[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0, "%s",
	      strerror(errno));
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)fflush(stdout);
	p->pid = fork();
	CHECK(p->pid >= 0, "fork: %s", strerror(errno));
	if (p->pid == 0) {
		(void)close(sockets[0]);
		peer_main(sockets[1]);
	}
	(void)close(sockets[1]);
	p->socket = sockets[0];
}

int64_t peer_do(struct peer *p, enum peer_order order, uint64_t offset, uint64_t len, int fd,
		int *fd_out, uint64_t *value)
{
	struct peer_message m = { .order = order, .offset = offset, .len = len };
	struct timeval limit = { .tv_sec = (time_t)WAIT_S };
	int got = -1;

	(void)pthread_mutex_lock(&p->lock);
	(void)setsockopt(p->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	CHECK(send_message(p->socket, &m, fd) == 0, "order %d to the other process: %s", order,
	      strerror(errno));
	CHECK(receive_message(p->socket, &m, &got) == 0,
	      "the other process has not answered order %d for [%llu, +%llu) within %u s: %s",
	      order, (unsigned long long)offset, (unsigned long long)len, WAIT_S, strerror(errno));
	(void)pthread_mutex_unlock(&p->lock);
	if (fd_out)
		*fd_out = got;
	if (value)
		*value = m.value;
	return m.result;
}

void peer_stop(struct peer *p)
{
	struct peer_message m = { .order = PEER_QUIT };
	int status;

	(void)send_message(p->socket, &m, -1);
	(void)waitpid(p->pid, &status, 0);
	(void)close(p->socket);
	(void)pthread_mutex_destroy(&p->lock);
}
