/* SPDX-License-Identifier: MIT */
/* What the platform tests share: see platform.h. */
#include "platform.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define ALARM_S 25u

static const char *volatile waiting_for = "nothing in particular";
static _Thread_local struct plt_toucher *volatile self;

/* Verdicts */

__attribute__((format(printf, 2, 0))) static void say(const char *verdict, const char *fmt,
						      va_list ap)
{
	printf("%s: ", verdict);
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
}

/* _exit: threads that are stuck in a fault are part of some tests. */
void plt_pass(void)
{
	printf("PASS\n");
	fflush(stdout);
	_exit(0);
}

void plt_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("FAIL", fmt, ap);
	va_end(ap);
	_exit(1);
}

void plt_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("SKIP", fmt, ap);
	va_end(ap);
	_exit(77);
}

void plt_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("note", fmt, ap);
	va_end(ap);
}

static void put(const char *text)
{
	ssize_t n = write(STDOUT_FILENO, text, strlen(text));

	(void)n;
}

static void on_alarm(int sig)
{
	(void)sig;
	put("FAIL: no end after 25 s; the last wait was for: ");
	put(waiting_for);
	put("\n");
	_exit(1);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	struct plt_toucher *t = self;

	(void)context;
	if (!t) {
		put(sig == SIGBUS ? "FAIL: unexpected SIGBUS\n" : "FAIL: unexpected SIGSEGV\n");
		_exit(1);
	}
	t->sig_code = info->si_code;
	t->sig_addr = info->si_addr;
	siglongjmp(t->env, sig);
}

void plt_init(void)
{
	struct sigaction sa;

	if (sysconf(_SC_PAGESIZE) != (long)PLT_PAGE)
		plt_skip("pages of this machine have %ld bytes, not 4096", sysconf(_SC_PAGESIZE));
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = on_alarm;
	sigaction(SIGALRM, &sa, NULL);
	sa.sa_handler = NULL;
	sa.sa_sigaction = on_fault;
	sa.sa_flags = SA_SIGINFO;
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	alarm(ALARM_S);
}

void plt_expect_err(int got, int want, const char *call)
{
	if (got == want)
		return;
	plt_fail("%s: expected errno %d (%s), saw %d (%s)", call, want,
		 want ? strerror(want) : "success", got, got ? strerror(got) : "success");
}

/* Time */

uint64_t plt_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void plt_sleep_us(unsigned int us)
{
	struct timespec ts = { .tv_sec = us / 1000000u, .tv_nsec = (long)(us % 1000000u) * 1000 };

	nanosleep(&ts, NULL);
}

/* Memory */

/* Whole 2 MiB folios would put pages into the cache that a test left out. */
static void need_small_folios(void)
{
	char text[128] = "";
	int fd = open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n > 0 && (strstr(text, "[always]") || strstr(text, "[force]")))
		plt_skip("shmem uses large folios everywhere (transparent_hugepage/shmem_enabled "
			 "is always or force)");
}

int plt_memfd(uint64_t bytes)
{
	int fd;

	need_small_folios();
	fd = memfd_create("faultlane-platform", MFD_CLOEXEC);
	PLT_CHECK(fd >= 0, "memfd_create: %s", strerror(errno));
	PLT_CHECK(ftruncate(fd, (off_t)bytes) == 0, "ftruncate: %s", strerror(errno));
	return fd;
}

uint8_t *plt_map(int fd, uint64_t bytes, int flags)
{
	uint8_t *gap = mmap(NULL, bytes + 2 * PLT_BLOCK, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *at;
	void *addr;

	PLT_CHECK(gap != MAP_FAILED, "mmap of a gap: %s", strerror(errno));
	at = gap + (PLT_BLOCK - ((uintptr_t)gap & (PLT_BLOCK - 1)));
	addr = mmap(at, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	PLT_CHECK(addr == at, "mmap: %s", strerror(errno));
	return at;
}

void plt_fill(int fd, uint64_t page, uint64_t nr_pages, uint8_t value)
{
	uint8_t buf[4096];

	memset(buf, value, sizeof(buf));
	for (uint64_t i = page; i < page + nr_pages; i++) {
		ssize_t n = pwrite(fd, buf, sizeof(buf), (off_t)(i * PLT_PAGE));

		PLT_CHECK(n == (ssize_t)sizeof(buf), "pwrite of page %llu: %s",
			  (unsigned long long)i, strerror(errno));
	}
}

bool plt_cached(int fd, uint64_t page)
{
	off_t want = (off_t)(page * PLT_PAGE);

	return lseek(fd, want, SEEK_DATA) == want;
}

uint64_t plt_cached_pages(int fd)
{
	struct stat st;

	PLT_CHECK(fstat(fd, &st) == 0, "fstat: %s", strerror(errno));
	return (uint64_t)st.st_blocks * 512u / PLT_PAGE;
}

/* userfaultfd */

static int uffd_new(int flags)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	flags |= O_CLOEXEC | O_NONBLOCK;
	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, flags);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, flags);
	if (fd < 0 && errno == EPERM)
		fd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		plt_skip("no userfaultfd: %s (neither /dev/userfaultfd nor the system call)",
			 strerror(errno));
	return fd;
}

int plt_uffd_flags(uint64_t features, int flags)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = uffd_new(flags);

	/* What there is can be asked once per descriptor. */
	PLT_CHECK(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API: %s", strerror(errno));
	close(fd);
	if ((api.features & features) != features)
		plt_skip("UFFDIO_API offers features %#llx, without %#llx which this needs",
			 (unsigned long long)api.features,
			 (unsigned long long)(features & ~api.features));

	fd = uffd_new(flags);
	memset(&api, 0, sizeof(api));
	api.api = UFFD_API;
	api.features = features;
	if (ioctl(fd, UFFDIO_API, &api) != 0) {
		if (errno == EPERM)
			plt_skip("no privilege for userfaultfd features %#llx (CAP_SYS_PTRACE)",
				 (unsigned long long)features);
		plt_fail("UFFDIO_API with features %#llx: %s", (unsigned long long)features,
			 strerror(errno));
	}
	return fd;
}

int plt_uffd(uint64_t features)
{
	return plt_uffd_flags(features, 0);
}

int plt_register_try(int uffd, void *addr, uint64_t len, uint64_t mode, uint64_t *ioctls)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	if (ioctl(uffd, UFFDIO_REGISTER, &reg) != 0)
		return errno;
	if (ioctls)
		*ioctls = reg.ioctls;
	return 0;
}

void plt_register(int uffd, void *addr, uint64_t len, uint64_t mode)
{
	plt_expect_err(plt_register_try(uffd, addr, len, mode, NULL), 0, "UFFDIO_REGISTER");
}

void plt_register_need(int uffd, void *addr, uint64_t len, uint64_t mode, unsigned int nr,
		       const char *name)
{
	uint64_t ioctls = 0;

	plt_expect_err(plt_register_try(uffd, addr, len, mode, &ioctls), 0, "UFFDIO_REGISTER");
	if (!(ioctls >> nr & 1))
		plt_skip("UFFDIO_REGISTER offers ioctls %#llx, without %s",
			 (unsigned long long)ioctls, name);
}

void plt_poisonable(int uffd, void *addr, uint64_t len, uint64_t mode)
{
	plt_register_need(uffd, addr, len, mode, _UFFDIO_POISON, "UFFDIO_POISON");
}

int plt_continue(int uffd, void *addr, uint64_t len, uint64_t mode, int64_t *done)
{
	struct uffdio_continue c = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};
	int err = ioctl(uffd, UFFDIO_CONTINUE, &c) == 0 ? 0 : errno;

	if (done)
		*done = c.mapped;
	return err;
}

int plt_copy(int uffd, void *addr, const void *src, uint64_t len, uint64_t mode, int64_t *done)
{
	struct uffdio_copy c = {
		.dst = (uintptr_t)addr,
		.src = (uintptr_t)src,
		.len = len,
		.mode = mode,
	};
	int err = ioctl(uffd, UFFDIO_COPY, &c) == 0 ? 0 : errno;

	if (done)
		*done = c.copy;
	return err;
}

int plt_zeropage(int uffd, void *addr, uint64_t len, uint64_t mode, int64_t *done)
{
	struct uffdio_zeropage z = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};
	int err = ioctl(uffd, UFFDIO_ZEROPAGE, &z) == 0 ? 0 : errno;

	if (done)
		*done = z.zeropage;
	return err;
}

int plt_poison(int uffd, void *addr, uint64_t len, uint64_t mode, int64_t *done)
{
	struct uffdio_poison p = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};
	int err = ioctl(uffd, UFFDIO_POISON, &p) == 0 ? 0 : errno;

	if (done)
		*done = p.updated;
	return err;
}

int plt_wake(int uffd, void *addr, uint64_t len)
{
	struct uffdio_range r = { .start = (uintptr_t)addr, .len = len };

	return ioctl(uffd, UFFDIO_WAKE, &r) == 0 ? 0 : errno;
}

int plt_unregister(int uffd, void *addr, uint64_t len)
{
	struct uffdio_range r = { .start = (uintptr_t)addr, .len = len };

	return ioctl(uffd, UFFDIO_UNREGISTER, &r) == 0 ? 0 : errno;
}

/* Messages */

unsigned int plt_read(int uffd, struct uffd_msg *msgs, unsigned int nr)
{
	ssize_t n = read(uffd, msgs, nr * sizeof(*msgs));

	if (n < 0 && errno == EAGAIN)
		return 0;
	PLT_CHECK(n > 0 && (size_t)n % sizeof(*msgs) == 0,
		  "read of a userfaultfd: expected whole messages, saw %zd (%s)", n,
		  n < 0 ? strerror(errno) : "bytes");
	return (unsigned int)((size_t)n / sizeof(*msgs));
}

bool plt_poll(int uffd, unsigned int ms)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	int n = poll(&p, 1, (int)ms);

	PLT_CHECK(n >= 0, "poll: %s", strerror(errno));
	PLT_CHECK(!(p.revents & (POLLERR | POLLNVAL)),
		  "poll of a userfaultfd: expected POLLIN or nothing, saw %#x",
		  (unsigned int)p.revents);
	return n == 1;
}

static const char *event_name(unsigned int event)
{
	switch (event) {
	case UFFD_EVENT_PAGEFAULT:
		return "PAGEFAULT";
	case UFFD_EVENT_FORK:
		return "FORK";
	case UFFD_EVENT_REMAP:
		return "REMAP";
	case UFFD_EVENT_REMOVE:
		return "REMOVE";
	case UFFD_EVENT_UNMAP:
		return "UNMAP";
	default:
		return "unknown";
	}
}

struct uffd_msg plt_expect_event(int uffd, unsigned int event, const char *what)
{
	struct uffd_msg msg;

	waiting_for = what;
	PLT_CHECK(plt_poll(uffd, PLT_WAIT_MS), "%s: waited %u ms for a %s message, saw none", what,
		  PLT_WAIT_MS, event_name(event));
	PLT_CHECK(plt_read(uffd, &msg, 1) == 1,
		  "%s: poll promised a message, read had none (a %s was expected)", what,
		  event_name(event));
	PLT_CHECK(msg.event == event, "%s: expected a %s message, saw %s (%#x)", what,
		  event_name(event), event_name(msg.event), (unsigned int)msg.event);
	return msg;
}

void plt_expect_fault(int uffd, const void *addr, bool minor, const char *what)
{
	struct uffd_msg msg = plt_expect_event(uffd, UFFD_EVENT_PAGEFAULT, what);
	uint64_t at = msg.arg.pagefault.address & ~(PLT_PAGE - 1);
	uint64_t flags = msg.arg.pagefault.flags;
	uint64_t want = (uintptr_t)addr & ~(PLT_PAGE - 1);

	PLT_CHECK(at == want, "%s: expected a fault at %#llx, saw one at %#llx", what,
		  (unsigned long long)want, (unsigned long long)at);
	PLT_CHECK(!(flags & UFFD_PAGEFAULT_FLAG_MINOR) == !minor,
		  "%s: expected a %s fault, saw flags %#llx", what, minor ? "minor" : "missing",
		  (unsigned long long)flags);
}

void plt_expect_no_message(int uffd, const char *what)
{
	struct uffd_msg msg;

	if (plt_poll(uffd, PLT_QUIET_MS) && plt_read(uffd, &msg, 1) == 1)
		plt_fail("%s: expected no message, saw %s", what, event_name(msg.event));
}

/* Threads */

static void spawn(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, fn, arg);

	PLT_CHECK(err == 0, "pthread_create: %s", strerror(err));
	pthread_detach(thread);
}

static void *touch_main(void *arg)
{
	struct plt_toucher *t = arg;
	int sig;

	self = t;
	atomic_store(&t->tid, (int)syscall(SYS_gettid));
	sig = sigsetjmp(t->env, 1);
	if (sig == 0) {
		if (t->write)
			*t->addr = t->value;
		else
			t->value = *t->addr;
	}
	self = NULL;
	atomic_store(&t->end, sig == 0 ? PLT_DONE : sig == SIGBUS ? PLT_SIGBUS : PLT_SIGSEGV);
	return NULL;
}

/* Never freed: a test is short, and its thread may be stuck for good. */
static struct plt_toucher *touch(void *addr, bool write, uint8_t value)
{
	struct plt_toucher *t = calloc(1, sizeof(*t));

	PLT_CHECK(t, "out of memory");
	t->addr = addr;
	t->write = write;
	t->value = value;
	spawn(touch_main, t);
	return t;
}

struct plt_toucher *plt_touch_read(void *addr)
{
	return touch(addr, false, 0);
}

struct plt_toucher *plt_touch_write(void *addr, uint8_t value)
{
	return touch(addr, true, value);
}

enum plt_end plt_touch_wait(struct plt_toucher *t, unsigned int ms)
{
	uint64_t until = plt_now_ns() + (uint64_t)ms * 1000000u;
	int end;

	while ((end = atomic_load(&t->end)) == PLT_PENDING && plt_now_ns() < until)
		plt_sleep_us(100);
	return (enum plt_end)end;
}

static const char *end_name(enum plt_end end)
{
	switch (end) {
	case PLT_PENDING:
		return "still waiting";
	case PLT_DONE:
		return "access done";
	case PLT_SIGBUS:
		return "SIGBUS";
	case PLT_SIGSEGV:
		return "SIGSEGV";
	}
	return "?";
}

void plt_expect_end(struct plt_toucher *t, enum plt_end end, const char *what)
{
	enum plt_end seen;

	waiting_for = what;
	seen = plt_touch_wait(t, PLT_WAIT_MS);
	PLT_CHECK(seen == end, "%s: expected the touching thread to end with '%s', saw '%s'%s",
		  what, end_name(end), end_name(seen), seen == PLT_PENDING ? " after 8 s" : "");
	if (end == PLT_SIGBUS || end == PLT_SIGSEGV)
		PLT_CHECK(((uintptr_t)t->sig_addr & ~(PLT_PAGE - 1)) ==
				  ((uintptr_t)t->addr & ~(PLT_PAGE - 1)),
			  "%s: expected the signal to name page %p, saw %p", what,
			  (void *)(uintptr_t)t->addr, t->sig_addr);
}

void plt_expect_value(struct plt_toucher *t, uint8_t value, const char *what)
{
	plt_expect_end(t, PLT_DONE, what);
	PLT_CHECK(t->value == value, "%s: expected to read %#x, saw %#x", what, (unsigned int)value,
		  (unsigned int)t->value);
}

void plt_expect_asleep(struct plt_toucher *t, const char *what)
{
	enum plt_end seen = plt_touch_wait(t, PLT_QUIET_MS);

	PLT_CHECK(seen == PLT_PENDING, "%s: expected the touching thread to sleep on, saw '%s'",
		  what, end_name(seen));
}

static int thread_state(int tid)
{
	char path[64];
	char text[256] = "";
	char *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return '?';
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	end = n > 0 ? strrchr(text, ')') : NULL;
	return end && end[1] == ' ' ? end[2] : '?';
}

void plt_wait_blocked(struct plt_toucher *t, const char *what)
{
	uint64_t until = plt_now_ns() + (uint64_t)PLT_WAIT_MS * 1000000u;

	waiting_for = what;
	for (;;) {
		int tid = atomic_load(&t->tid);
		int state = tid ? thread_state(tid) : 'R';

		if (state == 'S' || state == 'D')
			return;
		PLT_CHECK(atomic_load(&t->end) == PLT_PENDING && plt_now_ns() < until,
			  "%s: expected the touching thread to sleep, saw state %c", what, state);
		plt_sleep_us(200);
	}
}

void plt_expect_read(void *addr, uint8_t value, const char *what)
{
	plt_expect_value(plt_touch_read(addr), value, what);
}

void plt_expect_write(void *addr, uint8_t value, const char *what)
{
	plt_expect_end(plt_touch_write(addr, value), PLT_DONE, what);
}

static void *task_main(void *arg)
{
	struct plt_task *task = arg;

	task->rc = task->fn(task);
	atomic_store(&task->done, true);
	return NULL;
}

void plt_task_start(struct plt_task *task)
{
	atomic_store(&task->done, false);
	spawn(task_main, task);
}

bool plt_task_ended(struct plt_task *task, unsigned int ms)
{
	uint64_t until = plt_now_ns() + (uint64_t)ms * 1000000u;

	while (!atomic_load(&task->done)) {
		if (plt_now_ns() >= until)
			return false;
		plt_sleep_us(100);
	}
	return true;
}

int plt_task_wait(struct plt_task *task, const char *what)
{
	waiting_for = what;
	PLT_CHECK(plt_task_ended(task, PLT_WAIT_MS),
		  "%s: expected the call to come back, saw it block for %u ms", what, PLT_WAIT_MS);
	return task->rc;
}

void plt_task_expect_asleep(struct plt_task *task, const char *what)
{
	PLT_CHECK(!plt_task_ended(task, PLT_QUIET_MS),
		  "%s: expected the call to block, saw it return %d", what, task->rc);
}

int plt_do_madvise(struct plt_task *task)
{
	return madvise(task->addr, task->len, task->arg) == 0 ? 0 : errno;
}

int plt_do_munmap(struct plt_task *task)
{
	return munmap(task->addr, task->len) == 0 ? 0 : errno;
}

int plt_do_mremap(struct plt_task *task)
{
	void *at =
		mremap(task->addr, task->len, task->len, MREMAP_MAYMOVE | MREMAP_FIXED, task->to);

	return at == task->to ? 0 : errno;
}

void plt_madvise_served(int uffd, void *addr, uint64_t len, int advice)
{
	struct plt_task task = { .fn = plt_do_madvise, .addr = addr, .len = len, .arg = advice };
	struct uffd_msg msg;

	plt_task_start(&task);
	msg = plt_expect_event(uffd, UFFD_EVENT_REMOVE, "discard");
	PLT_CHECK(msg.arg.remove.start == (uintptr_t)addr &&
			  msg.arg.remove.end == (uintptr_t)addr + len,
		  "REMOVE: expected [%p, +%#llx), saw [%#llx, %#llx)", addr,
		  (unsigned long long)len, (unsigned long long)msg.arg.remove.start,
		  (unsigned long long)msg.arg.remove.end);
	plt_expect_err(plt_task_wait(&task, "the discarding thread, after its event was read"), 0,
		       "madvise");
}

int plt_wait_child(pid_t pid)
{
	uint64_t until = plt_now_ns() + (uint64_t)PLT_WAIT_MS * 1000000u;
	int status = 0;

	waiting_for = "a child to end";
	while (waitpid(pid, &status, WNOHANG) == 0) {
		PLT_CHECK(plt_now_ns() < until, "waited %u ms for a child to end, saw it run on",
			  PLT_WAIT_MS);
		plt_sleep_us(200);
	}
	return status;
}
