/* SPDX-License-Identifier: MIT */
/*
 * Neighbours: other guests of the same engine whose source hangs, or whose process is hostile.
 * Meanwhile a new guest, the victim, reads unfilled pages, and the judged guest continues:
 * neither may be affected.
 */
#include "stress/chaos_neighbours.h"

#include "stress/complain.h"
#include "stress/guard.h"
#include "stress/neighbour.h"
#include "stress/other.h"
#include "stress/stage.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define VICTIM_BYTES (UINT64_C(8) << 20)
#define VICTIM_PAGES (VICTIM_BYTES / PAGE_BYTES)
#define HANGING_FEW 32u
#define HANGING_MANY 1600u /* more than the engine's pool of fills, and than a worker can hold */
#define FORGED 6000u
#define FIRST_HIGH_FD 16
/* Limit of a neighbour's faults, besides one for each of its pages: more is a livelock. */
#define FAULTS_MAX 1000u

extern char **environ;

/* Read unfilled pages: each must arrive, whatever the neighbours do. */
static bool victim_reads(struct stress *s, struct rng *rng, struct other *v, const char *beside)
{
	struct guard g = { .armed = 0 };
	static uint64_t copy[PAGE_WORDS];

	guard_set(&g);
	for (uint32_t i = 0; i < 48; i++) {
		uint64_t page = rng_below(rng, VICTIM_PAGES);
		uint64_t stamp = other_stamp(v, page);
		const char *at = (const char *)fln_region_addr(v->region) + page * PAGE_BYTES;
		int signo;

		/* A time limit for each page: on a busy machine all of them together take long. */
		stage_begin("reads a page beside its neighbours");
		signo = guard_copy(&g, at, copy);

		if (signo) {
			complain(s, "page %llu beside %s: signal %d", (unsigned long long)page,
				 beside, signo);
			break;
		}
		if (copy[0] != stamp || copy[PAGE_WORDS - 1] != stamp_word(stamp, PAGE_WORDS - 1))
			complain(s, "page %llu beside %s reads %016llx", (unsigned long long)page,
				 beside, (unsigned long long)copy[0]);
	}
	guard_set(NULL);
	return true;
}

static bool with_victim(struct stress *s, struct rng *rng, const char *beside)
{
	struct other v;
	bool done = other_image(s, &v, VICTIM_BYTES, false) == 0 &&
		    other_guest(&v, VICTIM_BYTES) == 0 && victim_reads(s, rng, &v, beside);

	other_end(&v);
	return done;
}

/* A source that hangs, and threads that wait for it. */

struct waiter {
	pthread_t thread;
	const char *at;
};

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;
	struct guard g = { .armed = 0 };
	uint64_t copy[PAGE_WORDS];

	guard_set(&g);
	(void)guard_copy(&g, w->at, copy);
	guard_set(NULL);
	return NULL;
}

static uint32_t start_waiters(struct waiter *w, uint32_t nr, const char *base)
{
	pthread_attr_t attr;
	uint32_t n = 0;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, 128 * 1024);
	for (; n < nr; n++) {
		w[n].at = base + (uint64_t)n * (NEIGHBOUR_IMAGE_BYTES / HANGING_MANY / PAGE_BYTES) *
					 PAGE_BYTES;
		if (pthread_create(&w[n].thread, &attr, waiter_main, &w[n]) != 0)
			break;
	}
	(void)pthread_attr_destroy(&attr);
	return n;
}

/* Wait for all waiters to fault, but 5 seconds at most: on a busy machine some may not have. */
static void wait_waiters(const struct other *o, uint32_t nr)
{
	struct fln_stats st = FLN_STATS_INIT;

	for (uint32_t i = 0; i < 50; i++) {
		sleep_ms(100);
		if (fln_guest_stats(o->guest, &st) != 0 || st.faults >= nr)
			break;
	}
}

static bool beside_hanging_source(struct stress *s, struct rng *rng)
{
	static struct waiter waiters[HANGING_MANY];
	static uint64_t number;
	/* Alternately, so that a short run has both. */
	uint32_t nr = number++ % 2 ? HANGING_FEW : HANGING_MANY;
	struct other o;
	bool done = other_image(s, &o, NEIGHBOUR_IMAGE_BYTES, true) == 0 &&
		    other_guest(&o, NEIGHBOUR_IMAGE_BYTES) == 0;

	nr = done ? start_waiters(waiters, nr, fln_region_addr(o.region)) : 0;
	if (done)
		wait_waiters(&o, nr);
	done = done && with_victim(s, rng, "a guest whose source hangs");
	stage_begin("lets a hanging source continue");
	atomic_store(&o.hangs, false);
	if (o.guest)
		(void)fln_guest_stop(o.guest);
	while (nr > 0)
		(void)pthread_join(waiters[--nr].thread, NULL);
	other_end(&o);
	return done;
}

/* Forged messages, from a descriptor that is not a userfaultfd. */
static bool beside_forger(struct stress *s, struct rng *rng)
{
	struct other o;
	bool done;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) != 0)
		return false;
	done = other_image(s, &o, NEIGHBOUR_IMAGE_BYTES, true) == 0;
	/* The engine should refuse the descriptor; otherwise it gets forged messages. */
	if (done && other_foreign_guest(&o, NEIGHBOUR_IMAGE_BYTES, sv[0], UINT64_C(1) << 28,
					FLN_DISCARD_DEFAULT) == 0) {
		for (uint32_t i = 0; i < FORGED; i++) {
			struct uffd_msg m = { .event = UFFD_EVENT_PAGEFAULT };

			m.arg.pagefault.address = (UINT64_C(1) << 28) + (uint64_t)i * PAGE_BYTES;
			(void)!write(sv[1], &m, sizeof(m));
			if (i % 64 == 0)
				sleep_ms(1);
		}
	}
	if (!o.guest)
		(void)close(sv[0]);
	done = done && with_victim(s, rng, "a guest that forges faults");
	other_end(&o);
	(void)close(sv[1]);
	return done;
}

/* Other processes. */

struct process {
	pid_t pid;
	int talk, image;
};

static bool process_start(struct process *p, enum neighbour_kind kind)
{
	char number[16], arg[] = NEIGHBOUR_ARG, name[] = "faultlane-stress";
	char *argv[] = { name, arg, number, NULL };
	posix_spawn_file_actions_t actions;
	int talk[2], image[2], high[2], rc;

	(void)snprintf(number, sizeof(number), "%d", (int)kind);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, talk) != 0)
		return false;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, image) != 0) {
		(void)close(talk[0]);
		(void)close(talk[1]);
		return false;
	}
	/* To numbers that cannot collide with those that the process expects. */
	high[0] = fcntl(talk[1], F_DUPFD_CLOEXEC, FIRST_HIGH_FD);
	high[1] = fcntl(image[1], F_DUPFD_CLOEXEC, FIRST_HIGH_FD);
	(void)close(talk[1]);
	(void)close(image[1]);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, high[0], NEIGHBOUR_TALK_FD);
	(void)posix_spawn_file_actions_adddup2(&actions, high[1], NEIGHBOUR_IMAGE_FD);
	rc = high[0] < 0 || high[1] < 0
		     ? EMFILE
		     : posix_spawn(&p->pid, "/proc/self/exe", &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	for (int i = 0; i < 2; i++) {
		if (high[i] >= 0)
			(void)close(high[i]);
	}
	p->talk = talk[0];
	p->image = image[0];
	if (rc == 0)
		return true;
	(void)close(p->talk);
	(void)close(p->image);
	return false;
}

static void process_end(struct process *p)
{
	int status;

	if (p->pid == 0)
		return;
	(void)kill(p->pid, SIGKILL);
	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
		;
	p->pid = 0;
	(void)close(p->talk);
	(void)close(p->image);
}

/* Let the process continue, and wait until it reports that it has begun.  False: it has exited. */
static bool process_go(struct process *p)
{
	char c;
	ssize_t n;

	if (send(p->talk, "!", 1, MSG_NOSIGNAL) != 1)
		return false;
	do
		n = recv(p->talk, &c, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

struct sharer {
	struct fln_image *image;
	int fd;
};

static void *sharer_main(void *arg)
{
	struct sharer *sh = arg;

	(void)fln_image_share(sh->image, sh->fd);
	return NULL;
}

/* A process attaches an image whose source hangs, and requests all of it at once. */
static bool beside_greedy_peer(struct stress *s, struct rng *rng)
{
	struct process p;
	struct other o;
	struct sharer sh;
	pthread_t thread;
	bool done;

	if (!process_start(&p, NEIGHBOUR_FILLS))
		return false;
	done = other_image(s, &o, NEIGHBOUR_IMAGE_BYTES, true) == 0;
	sh = (struct sharer){ o.image, p.image };
	done = done && pthread_create(&thread, NULL, sharer_main, &sh) == 0;
	if (done) {
		bool ready = process_go(&p);

		done = ready && with_victim(s, rng, "a process that wants an image filled");
		atomic_store(&o.hangs, false);
		(void)shutdown(p.image, SHUT_RDWR);
		stage_begin("ends a share");
		(void)pthread_join(thread, NULL);
	}
	process_end(&p);
	other_end(&o);
	return done;
}

/* The victim's own image is shared with a process that seals it. */
static bool beside_sealing_peer(struct stress *s, struct rng *rng)
{
	struct process p;
	struct other o;
	struct sharer sh;
	pthread_t thread;
	bool done;

	if (!process_start(&p, NEIGHBOUR_SEALS))
		return false;
	done = other_image(s, &o, VICTIM_BYTES, false) == 0 && other_guest(&o, VICTIM_BYTES) == 0;
	sh = (struct sharer){ o.image, p.image };
	done = done && pthread_create(&thread, NULL, sharer_main, &sh) == 0;
	if (done) {
		done = process_go(&p) && victim_reads(s, rng, &o, "a process that seals its image");
		(void)shutdown(p.image, SHUT_RDWR);
		stage_begin("ends a share");
		(void)pthread_join(thread, NULL);
	}
	process_end(&p);
	other_end(&o);
	return done;
}

static int receive_uffd(int sock, struct neighbour_hello *hello)
{
	struct iovec iov = { hello, sizeof(*hello) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t n;
	int fd;

	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	c = n == sizeof(*hello) ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c)
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void check_neighbours_faults(struct stress *s, const struct other *o, const char *what)
{
	struct fln_stats st = FLN_STATS_INIT;

	if (fln_guest_stats(o->guest, &st) == 0 &&
	    st.faults > FAULTS_MAX + NEIGHBOUR_BYTES / PAGE_BYTES)
		complain(s, "beside %s: %llu faults, %llu resumed: a livelock", what,
			 (unsigned long long)st.faults, (unsigned long long)st.resumed);
}

static bool beside_foreign(struct stress *s, struct rng *rng, enum neighbour_kind kind,
			   const char *what)
{
	struct neighbour_hello hello;
	struct process p;
	struct other o = { .s = s };
	int uffd;
	bool done;

	if (!process_start(&p, kind))
		return false;
	uffd = receive_uffd(p.talk, &hello);
	done = uffd >= 0 && other_image(s, &o, NEIGHBOUR_BYTES, false) == 0;
	/* The engine may refuse the userfaultfd; the victim must not be affected either way. */
	if (done &&
	    other_foreign_guest(&o, NEIGHBOUR_BYTES, uffd, hello.addr, FLN_DISCARD_DEFAULT) == 0)
		done = process_go(&p);
	if (uffd >= 0 && !o.guest)
		(void)close(uffd);
	done = done && with_victim(s, rng, what);
	if (o.guest)
		check_neighbours_faults(s, &o, what);
	stage_begin("destroys the guest of a hostile process");
	if (rng_below(rng, 2))
		process_end(&p);
	other_end(&o);
	if (p.pid)
		process_end(&p);
	return done;
}

/*
 * A process discards pages while they are copied; afterwards the image's contents are due there
 * again.  When the guest has stopped the process checks all of them: contents or a signal, and
 * never zeros.
 */
bool chaos_foreign(struct stress *s, struct rng *rng)
{
	struct neighbour_hello hello;
	struct process p;
	struct other o = { .s = s };
	char said = 0;
	int uffd;
	bool done;

	(void)rng;
	if (!process_start(&p, NEIGHBOUR_GIVES_UP))
		return false;
	uffd = receive_uffd(p.talk, &hello);
	done = uffd >= 0 && other_image(s, &o, NEIGHBOUR_BYTES, false) == 0;
	/* Fill all of it, so that a fault is answered at once. */
	done = done && fln_image_fill(o.image, 0, NEIGHBOUR_BYTES) == 0;
	if (done)
		done = other_foreign_guest(&o, NEIGHBOUR_BYTES, uffd, hello.addr,
					   FLN_DISCARD_IMAGE) == 0;
	if (uffd >= 0 && !o.guest)
		(void)close(uffd);
	stage_begin("lets a process discard its pages");
	done = done && process_go(&p);
	done = done && fln_guest_stop(o.guest) == 0;
	stage_begin("lets a process check its pages");
	done = done && send(p.talk, "!", 1, MSG_NOSIGNAL) == 1 && recv(p.talk, &said, 1, 0) == 1;
	if (done && said != '!')
		complain(s, "a process reads zeros where the image is due, after the stop");
	process_end(&p);
	other_end(&o);
	return done;
}

/* One neighbour after the other, so that a short run has all; the seed decides which is first. */
bool chaos_neighbours(struct stress *s, struct rng *rng)
{
	static uint64_t number;

	switch ((mix(s->opts.seed) % 6 + number++) % 6) {
	case 0:
		return beside_hanging_source(s, rng);
	case 1:
		return beside_forger(s, rng);
	case 2:
		return beside_greedy_peer(s, rng);
	case 3:
		return beside_sealing_peer(s, rng);
	case 4:
		return beside_foreign(s, rng, NEIGHBOUR_BLOCKS,
				      "a process whose userfaultfd blocks its reader");
	default:
		return beside_foreign(s, rng, NEIGHBOUR_PROTECTS,
				      "a process with faults of write protection");
	}
}

const char *chaos_neighbours_prepare(struct stress *s)
{
	(void)s;
	return access("/proc/self/exe", X_OK) == 0
		       ? NULL
		       : "/proc is missing, through which the program starts itself again";
}
