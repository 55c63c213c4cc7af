/* SPDX-License-Identifier: MIT */
/*
 * The engine under seccomp filters that permit what docs/EMBEDDING.md lists and nothing
 * else.  What a filter does not know is reported to a thread of the test, which lets it
 * pass and remembers it: so one run names all that is missing.
 */
#include "tests/integration/harness.h"
#include "tests/integration/seccomp_calls.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1
#endif

#define MAX_FILTERS 64u
#define MAX_CALLS 160u
#define SYSCALL_NUMBER(name) SYS_##name,

static const unsigned int worker_calls[] = { WORKER_CALLS(SYSCALL_NUMBER) };
static const unsigned int filler_calls[] = { FILLER_CALLS(SYSCALL_NUMBER) };
static const unsigned int link_calls[] = { LINK_CALLS(SYSCALL_NUMBER) };
static const unsigned int caller_calls[] = { CALLER_CALLS(SYSCALL_NUMBER) };

/* What a filter is made from. */
struct list {
	unsigned int calls[MAX_CALLS];
	uint32_t nr;
};

static void list_add(struct list *l, const unsigned int *calls, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		CHECK(l->nr < MAX_CALLS, "more than %u calls", MAX_CALLS);
		l->calls[l->nr++] = calls[i];
	}
}
#define LIST_ADD(l, calls) list_add((l), (calls), sizeof(calls) / sizeof((calls)[0]))

/* Which calls were refused. */
static struct {
	pthread_mutex_t lock;
	uint32_t nr_filters;
	struct pollfd fds[MAX_FILTERS];
	_Atomic uint32_t nr_unknown;
	_Atomic bool ended;
	pthread_t thread;
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Puts the calling thread under a filter; those that it makes inherit it. */
static void enter_filter(const struct list *l)
{
	struct sock_filter code[MAX_CALLS + 8];
	struct sock_fprog prog = { .filter = code };
	uint32_t n = 0;
	int fd;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, arch));
	code[n++] =
		(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (uint32_t i = 0; i < l->nr; i++)
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, l->calls[i],
							 (uint8_t)(l->nr - i), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)n;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %s", strerror(errno));
	/* Under the lock the thread makes no call that its filter would have to be asked for. */
	(void)pthread_mutex_lock(&watch.lock);
	CHECK(watch.nr_filters < MAX_FILTERS, "more than %u filters", MAX_FILTERS);
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			  &prog);
	if (fd < 0 && errno == EINVAL)
		test_skip("seccomp filters cannot notify here (Linux 5.5)");
	CHECK(fd >= 0, "seccomp: %s", strerror(errno));
	watch.fds[watch.nr_filters].events = POLLIN;
	watch.fds[watch.nr_filters++].fd = fd;
	(void)pthread_mutex_unlock(&watch.lock);
}

/* The thread's name, and the call's number; then it may pass. */
static void answer(int fd)
{
	struct seccomp_notif_resp resp = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
	struct seccomp_notif req;
	char path[64], name[32] = "?";
	int comm;

	memset(&req, 0, sizeof(req));
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &req) != 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/self/task/%u/comm", req.pid);
	comm = open(path, O_RDONLY | O_CLOEXEC);
	if (comm >= 0) {
		ssize_t got = read(comm, name, sizeof(name) - 1);

		name[got > 0 ? got - 1 : 0] = '\0';
		(void)close(comm);
	}
	(void)fprintf(stderr, "%s calls %d, which the list does not have (first argument 0x%llx)\n",
		      name, req.data.nr, (unsigned long long)req.data.args[0]);
	atomic_fetch_add(&watch.nr_unknown, 1);
	resp.id = req.id;
	(void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

static void *watch_main(void *arg)
{
	struct pollfd fds[MAX_FILTERS];
	uint32_t nr;

	while (!atomic_load(&watch.ended)) {
		(void)pthread_mutex_lock(&watch.lock);
		nr = watch.nr_filters;
		memcpy(fds, watch.fds, nr * sizeof(*fds));
		(void)pthread_mutex_unlock(&watch.lock);
		if (poll(fds, nr, 10) <= 0)
			continue;
		for (uint32_t i = 0; i < nr; i++) {
			if (fds[i].revents & POLLIN)
				answer(fds[i].fd);
		}
	}
	return arg;
}

static void watch_start(void)
{
	watch.nr_filters = 0;
	atomic_store(&watch.ended, false);
	CHECK(pthread_create(&watch.thread, NULL, watch_main, NULL) == 0, "a thread");
}

static void watch_stop(void)
{
	uint32_t nr = atomic_load(&watch.nr_unknown);

	atomic_store(&watch.ended, true);
	(void)pthread_join(watch.thread, NULL);
	for (uint32_t i = 0; i < watch.nr_filters; i++)
		(void)close(watch.fds[i].fd);
	CHECK(nr == 0,
	      "%u system calls are in no list; see above, add them in seccomp_calls.h "
	      "and in docs/EMBEDDING.md",
	      nr);
}

/* Everything that makes threads of the engine do something. */
static void use(struct bed *b)
{
	static char contents[PAGE];
	uint64_t value;

	for (uint64_t page = 0; page < b->nr_pages - 512; page += 3) {
		CHECK(touch_read(bed_page(b, page), &value) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
		CHECK(value == (page % 5 == 4 ? 0 : word_of(1, page, 0)), "page %llu reads 0x%llx",
		      (unsigned long long)page, (unsigned long long)value);
	}
	/* The source fails in the last block. */
	CHECK(touch_read(bed_page(b, b->nr_pages - 512), &value) == TOUCH_SIGBUS, "a page failed");
	contents_of(1, b->nr_pages - 1, contents);
	OK(fln_image_put(b->image, (b->nr_pages - 1) * PAGE, contents, PAGE));
	CHECK(touch_read(bed_page(b, b->nr_pages - 1), &value) == TOUCH_OK, "a page put");
	OK(fln_image_fill(b->image, 512 * PAGE, 512 * PAGE));
	OK(fln_image_discard(b->image, 1024 * PAGE, 8 * PAGE));
	CHECK(touch_read(bed_page(b, 1024), &value) == TOUCH_OK && value == 0, "a page given up");
	CHECK(madvise(bed_page(b, 0), BLOCK, MADV_REMOVE) == 0, "MADV_REMOVE");
	CHECK(touch_read(bed_page(b, 0), &value) == TOUCH_OK && value == 0, "a page removed");
	CHECK(madvise(bed_page(b, 512), BLOCK, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	CHECK(touch_write(bed_page(b, 512), 1) == TOUCH_OK, "a page");
	CHECK(munmap(bed_page(b, 1536), 64 * PAGE) == 0, "munmap");
}

static void prepare(struct bed *b)
{
	struct fln_source_error_opts errors = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *inner;

	bed_init(b, 512 * 5);
	b->engine_opts.source_retries = 1;
	b->maker.every_zero = 5;
	maker_source(&b->maker, &inner);
	errors.offset_bytes = (b->nr_pages - 512) * PAGE;
	errors.len_bytes = 512 * PAGE;
	errors.error = EIO;
	OK(fln_source_with_errors(inner, &errors, &b->source));
	fln_source_destroy(inner);
	b->image_opts.source = b->source;
}

/* Ranges: populate, advice, locks, large pages, where the machine has them. */
static void use_ranges(struct bed *b)
{
	uint64_t addr = (uintptr_t)bed_page(b, 512);
	int rc;

	OK(fln_guest_populate(b->guest, addr, BLOCK, NULL));
	OK(fln_guest_advise(b->guest, addr, BLOCK, FLN_ADVICE_SEQUENTIAL));
	OK(fln_guest_advise(b->guest, addr, BLOCK, FLN_ADVICE_WILLNEED));
	OK(fln_guest_advise(b->guest, addr, BLOCK, FLN_ADVICE_DONTNEED));
	rc = fln_guest_lock(b->guest, addr, 8 * PAGE);
	CHECK(rc == 0 || rc == -EPERM || rc == -ENOMEM, "lock: %s", fln_last_error());
	OK(fln_guest_unlock(b->guest, addr, 8 * PAGE));
	rc = fln_guest_collapse(b->guest, addr, BLOCK, NULL);
	CHECK(rc == 0 || rc == -ENOTSUP, "collapse: %s", fln_last_error());
}

/* A region in context, and one of writes of its own. */
static void use_regions(struct bed *b)
{
	struct fln_region_opts opts = b->region_opts;
	struct fln_guest *clone;
	struct fln_region *r;
	uint64_t value;
	int rc;

	OK(fln_guest_create(b->engine, &b->guest_opts, &clone));
	opts.sharing = FLN_SHARING_PRIVATE;
	OK(fln_region_add(clone, &opts, &r));
	OK(fln_guest_start(clone));
	CHECK(touch_write((char *)fln_region_addr(r) + BLOCK, 7) == TOUCH_OK, "a private page");
	OK(fln_guest_destroy(clone));
	opts = b->region_opts;
	opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	rc = fln_region_add(b->guest, &opts, &r);
	if (rc == -EOPNOTSUPP)
		return;
	OK(rc);
	OK(fln_thread_enter());
	CHECK(touch_read((char *)fln_region_addr(r) + BLOCK + 64 * PAGE, &value) == TOUCH_OK,
	      "a page in context");
	fln_thread_leave();
	OK(fln_region_remove(r));
}

struct sharing {
	struct fln_image *image;
	int fd;
};

static void share(void *arg, uint32_t index)
{
	const struct sharing *s = arg;

	(void)index;
	OK(fln_image_share(s->image, s->fd));
}

/* Both ends of a shared image. */
static void use_sharing(struct bed *b, const int *fds)
{
	struct sharing s = { .image = b->image, .fd = fds[0] };
	struct fln_region_opts opts = b->region_opts;
	struct fln_image *attached;
	struct fln_guest *other;
	struct fln_region *r;
	struct crew crew;
	uint64_t value;

	crew_start(&crew, 1, share, &s);
	OK(fln_image_attach(b->engine, fds[1], NULL, &attached));
	OK(fln_guest_create(b->engine, NULL, &other));
	opts.image = attached;
	opts.discard = FLN_DISCARD_IMAGE;
	OK(fln_region_add(other, &opts, &r));
	OK(fln_guest_start(other));
	for (uint64_t page = 520; page < 1500; page += 31)
		CHECK(touch_read((char *)fln_region_addr(r) + page * PAGE, &value) == TOUCH_OK,
		      "page %llu of an attached image", (unsigned long long)page);
	OK(fln_guest_destroy(other));
	OK(fln_image_destroy(attached));
	(void)close(fds[1]);
	crew_wait(&crew, 20, "fln_image_share() after its other end was closed");
	(void)close(fds[0]);
}

/* A guest of the filtered thread's, from nothing to nothing, with a region that comes and goes. */
static void live(void *arg, uint32_t index)
{
	struct list l = { .nr = 0 };
	struct fln_region_opts opts;
	struct fln_region *second;
	struct fln_source *file;
	struct bed b;
	int fds[2];

	(void)arg;
	(void)index;
	prepare(&b);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socketpair: %s",
	      strerror(errno));
	LIST_ADD(&l, worker_calls);
	LIST_ADD(&l, filler_calls);
	LIST_ADD(&l, link_calls);
	LIST_ADD(&l, caller_calls);
	enter_filter(&l);
	bed_up(&b);
	use(&b);
	use_ranges(&b);
	use_regions(&b);
	use_sharing(&b, fds);
	opts = b.region_opts;
	OK(fln_region_add(b.guest, &opts, &second));
	OK(fln_region_remove(second));
	OK(fln_source_open_file("/proc/self/exe", 0, &file));
	fln_source_destroy(file);
	bed_down(&b);
}

static void callers(void)
{
	struct crew crew;

	watch_start();
	crew_start(&crew, 1, live, NULL);
	crew_wait(&crew, 60, "a guest's life under a filter");
	watch_stop();
}

/* Threads of the library that the test makes, each kind under its own list. */
struct lent {
	enum fln_thread_kind kind;
	void *(*main)(void *arg);
	void *arg;
	pthread_t thread;
};

static _Atomic uint32_t nr_lent[FLN_THREAD_NR_KINDS];

static void *lent_main(void *arg)
{
	const struct lent *t = arg;
	struct list l = { .nr = 0 };

	if (t->kind == FLN_THREAD_WORKER)
		LIST_ADD(&l, worker_calls);
	else
		LIST_ADD(&l, filler_calls);
	enter_filter(&l);
	atomic_fetch_add(&nr_lent[t->kind], 1);
	(void)t->main(t->arg);
	return NULL;
}

static int lend(void *ctx, enum fln_thread_kind kind, uint32_t index, void *(*thread_main)(void *),
		void *arg, void **handle)
{
	struct lent *t = calloc(1, sizeof(*t));

	(void)ctx;
	(void)index;
	CHECK(t, "no memory");
	*t = (struct lent){ .kind = kind, .main = thread_main, .arg = arg };
	CHECK(pthread_create(&t->thread, NULL, lent_main, t) == 0, "a thread");
	*handle = t;
	return 0;
}

static void take_back(void *ctx, void *handle)
{
	struct lent *t = handle;

	(void)ctx;
	(void)pthread_join(t->thread, NULL);
	free(t);
}

static void workers_and_fillers(void)
{
	struct fln_thread_hooks hooks = { .size = sizeof(hooks),
					  .create = lend,
					  .join = take_back };
	struct bed b;

	watch_start();
	prepare(&b);
	b.engine_opts.thread_hooks = &hooks;
	bed_up(&b);
	use(&b);
	use_ranges(&b);
	use_regions(&b);
	CHECK(atomic_load(&nr_lent[FLN_THREAD_WORKER]) > 0 &&
		      atomic_load(&nr_lent[FLN_THREAD_FILLER]) > 0,
	      "%u workers and %u fillers were asked for", atomic_load(&nr_lent[FLN_THREAD_WORKER]),
	      atomic_load(&nr_lent[FLN_THREAD_FILLER]));
	bed_down(&b);
	watch_stop();
}

int main(void)
{
#if defined(__x86_64__)
	if (TEST_ASAN || TEST_TSAN)
		test_skip("sanitizers make calls of their own");
	test_init();
	OK(fln_sigbus_install());
	RUN(workers_and_fillers);
	RUN(callers);
	return 0;
#else
	test_skip("the lists are those of x86-64");
#endif
}
