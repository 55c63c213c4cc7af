/* SPDX-License-Identifier: MIT */
/* The hostile process.  It is killed once its neighbours have been checked. */
#include "stress/neighbour.h"

#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define FAILED 1

static int open_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static char *register_memory(int uffd, uint64_t mode)
{
	struct uffdio_register r = { .mode = mode };
	char *p = mmap(NULL, NEIGHBOUR_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, NEIGHBOUR_BYTES, MADV_NOHUGEPAGE);
	r.range.start = (uint64_t)(uintptr_t)p;
	r.range.len = NEIGHBOUR_BYTES;
	return ioctl(uffd, UFFDIO_REGISTER, &r) == 0 ? p : NULL;
}

static int send_uffd(int sock, int uffd, const char *addr)
{
	struct neighbour_hello hello = { (uint64_t)(uintptr_t)addr, NEIGHBOUR_BYTES };
	struct iovec iov = { &hello, sizeof(hello) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS } };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.head), &uffd, sizeof(uffd));
	return sendmsg(sock, &m, MSG_NOSIGNAL) == sizeof(hello) ? 0 : -1;
}

/* Wait for the message that the guest is being served. */
static bool wait_go(int sock)
{
	char c;

	return recv(sock, &c, 1, 0) == 1;
}

static bool tell(int sock)
{
	return send(sock, "!", 1, MSG_NOSIGNAL) == 1;
}

/* Where a thread begins to touch; it goes on to the end. */
struct touching {
	volatile char *mem;
	uint64_t from;
};

static void *touch_all(void *arg)
{
	const struct touching *t = arg;

	for (uint64_t at = t->from; at < NEIGHBOUR_BYTES; at += PAGE_BYTES)
		(void)t->mem[at];
	return NULL;
}

/* A blocking read() of the engine would sleep, because this process reads the messages itself. */
static int blocks(int sock)
{
	int uffd = open_uffd(0);
	char *p = uffd >= 0 ? register_memory(uffd, UFFDIO_REGISTER_MODE_MISSING) : NULL;
	struct touching touching[8];
	pthread_t thread;
	struct uffd_msg msg;

	if (!p || send_uffd(sock, uffd, p) != 0 || !wait_go(sock))
		return FAILED;
	(void)fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) & ~O_NONBLOCK);
	for (uint32_t i = 0; i < 8; i++) {
		touching[i] = (struct touching){ .mem = p, .from = (uint64_t)i * PAGE_BYTES * 64 };
		(void)pthread_create(&thread, NULL, touch_all, &touching[i]);
	}
	(void)tell(sock);
	for (;;) {
		(void)fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) & ~O_NONBLOCK);
		(void)read(uffd, &msg, sizeof(msg));
	}
}

/* One page, read and then written to while it is protected. */
static int protects(int sock)
{
	int uffd = open_uffd(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	char *p = uffd < 0 ? NULL
			   : register_memory(uffd, UFFDIO_REGISTER_MODE_MISSING |
							   UFFDIO_REGISTER_MODE_WP);
	struct uffdio_writeprotect w = { .mode = UFFDIO_WRITEPROTECT_MODE_WP };

	if (!p || send_uffd(sock, uffd, p) != 0 || !wait_go(sock))
		return FAILED;
	(void)*(volatile char *)p;
	w.range.start = (uint64_t)(uintptr_t)p;
	w.range.len = PAGE_BYTES;
	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &w) != 0)
		return FAILED;
	(void)tell(sock);
	*(volatile char *)p = 1;
	(void)pause();
	return 0;
}

/*
 * Each page is discarded and touched once, both at about the same time, while another thread
 * holds the mmap_lock most of the time, so that some page is copied after its event was read
 * and before it is zapped.
 */
#define GIVING_NS UINT64_C(2000000000)
#define NOISE_BYTES (UINT64_C(64) << 20)

static struct {
	char *p, *noise;
	_Atomic uint64_t turn, given, touched;
	_Atomic bool over;
} gives;

static void *make_noise(void *arg)
{
	while (!atomic_load(&gives.over)) {
		(void)mprotect(gives.noise, NOISE_BYTES, PROT_READ);
		(void)mprotect(gives.noise, NOISE_BYTES, PROT_READ | PROT_WRITE);
	}
	return arg;
}

/* @mine: how many pages this thread has finished, for the others to see. */
static bool next_turn(_Atomic uint64_t *mine, uint64_t page)
{
	atomic_store(mine, page);
	while (atomic_load(&gives.turn) <= page) {
		if (atomic_load(&gives.over))
			return false;
		(void)sched_yield();
	}
	return true;
}

static void *give_up_main(void *arg)
{
	for (uint64_t page = 0; next_turn(&gives.given, page); page++)
		(void)madvise(gives.p + page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
	return arg;
}

static void *touch_main(void *arg)
{
	struct rng rng = { 1 };

	for (uint64_t page = 0; next_turn(&gives.touched, page); page++) {
		uint64_t until = now_ns() + rng_below(&rng, 200000);

		while (now_ns() < until)
			;
		(void)*(volatile char *)(gives.p + page * PAGE_BYTES);
	}
	return arg;
}

/* All pages, or as many as fit into GIVING_NS. */
static void give_and_touch(void)
{
	void *(*const mains[])(void *) = { make_noise, give_up_main, touch_main };
	uint64_t until = now_ns() + GIVING_NS;
	pthread_t threads[3];
	uint32_t nr = 0;

	while (nr < 3 && pthread_create(&threads[nr], NULL, mains[nr], NULL) == 0)
		nr++;
	for (uint64_t page = 1; nr == 3 && page <= NEIGHBOUR_BYTES / PAGE_BYTES; page++) {
		atomic_store(&gives.turn, page);
		while (atomic_load(&gives.given) < page || atomic_load(&gives.touched) < page)
			(void)sched_yield();
		if (now_ns() > until)
			break;
	}
	atomic_store(&gives.over, true);
	while (nr > 0)
		(void)pthread_join(threads[--nr], NULL);
}

static sigjmp_buf looked;

static void on_look_signal(int signo)
{
	(void)signo;
	siglongjmp(looked, 1);
}

/* Whether any page reads zero; a signal does not count. */
static bool reads_zeros(const char *p)
{
	volatile uint64_t at = 0; /* survives the jump */
	volatile bool zeros = false;

	(void)signal(SIGBUS, on_look_signal);
	(void)signal(SIGSEGV, on_look_signal);
	for (; at < NEIGHBOUR_BYTES; at += PAGE_BYTES) {
		if (sigsetjmp(looked, 1) == 0 && *(const volatile uint64_t *)(p + at) == 0)
			zeros = true;
	}
	return zeros;
}

static int gives_up(int sock)
{
	int uffd = open_uffd(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
			     UFFD_FEATURE_EVENT_REMAP);

	gives.p = uffd < 0 ? NULL : register_memory(uffd, UFFDIO_REGISTER_MODE_MISSING);
	gives.noise = mmap(NULL, NOISE_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!gives.p || gives.noise == MAP_FAILED || send_uffd(sock, uffd, gives.p) != 0 ||
	    !wait_go(sock))
		return FAILED;
	give_and_touch();
	(void)tell(sock);
	if (!wait_go(sock))
		return FAILED;
	(void)send(sock, reads_zeros(gives.p) ? "0" : "!", 1, MSG_NOSIGNAL);
	(void)pause();
	return 0;
}

static int attach(int sock, struct fln_image **image)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine;

	o.flags = FLN_ENGINE_F_USER_MODE_ONLY;
	o.nr_workers = 1;
	return fln_engine_create(&o, &engine) || fln_engine_start(engine) ||
			       fln_image_attach(engine, sock, NULL, image)
		       ? FAILED
		       : 0;
}

static void *say_soon(void *arg)
{
	sleep_ms(100);
	(void)tell(*(int *)arg);
	return NULL;
}

/* @sock: of the shared image; @talk: for messages with the parent. */
static int fills(int sock, int talk)
{
	struct fln_image *image;
	pthread_t thread;

	if (attach(sock, &image) != 0 || !wait_go(talk) ||
	    pthread_create(&thread, NULL, say_soon, &talk) != 0)
		return FAILED;
	(void)fln_image_fill(image, 0, NEIGHBOUR_IMAGE_BYTES);
	(void)pause();
	return 0;
}

static int seals(int sock, int talk)
{
	struct fln_image *image;

	if (attach(sock, &image) != 0 || !wait_go(talk))
		return FAILED;
	(void)fcntl(fln_image_memfd(image), F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	(void)tell(talk);
	(void)pause();
	return 0;
}

int neighbour_main(int argc, char **argv)
{
	enum neighbour_kind kind = argc > 2 ? (enum neighbour_kind)atoi(argv[2]) : NEIGHBOUR_NR;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	switch (kind) {
	case NEIGHBOUR_FILLS:
		return fills(NEIGHBOUR_IMAGE_FD, NEIGHBOUR_TALK_FD);
	case NEIGHBOUR_SEALS:
		return seals(NEIGHBOUR_IMAGE_FD, NEIGHBOUR_TALK_FD);
	case NEIGHBOUR_BLOCKS:
		return blocks(NEIGHBOUR_TALK_FD);
	case NEIGHBOUR_PROTECTS:
		return protects(NEIGHBOUR_TALK_FD);
	case NEIGHBOUR_GIVES_UP:
		return gives_up(NEIGHBOUR_TALK_FD);
	default:
		return 2;
	}
}
