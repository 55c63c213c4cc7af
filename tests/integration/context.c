/* SPDX-License-Identifier: MIT */
/*
 * In-context regions: threads that resolve their own faults, with contents that are
 * there, that come late, and that never come; and what is passed on.
 */
#include "tests/integration/context_bed.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES (THREADS * 40u)

static void check_no_worker(const struct fln_stats *s)
{
	CHECK(s->in_context == s->faults, "%llu of %llu faults in context",
	      (unsigned long long)s->in_context, (unsigned long long)s->faults);
	CHECK(s->reads == 0, "a worker has read %llu times", (unsigned long long)s->reads);
	CHECK(s->wakes == 0, "%llu wake calls, and nobody sleeps", (unsigned long long)s->wakes);
}

static void read_with_window(uint32_t window)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, PAGES);
	b.guest_opts.window_first = b.guest_opts.window_max = window;
	context_up(&b, true);
	context_read_all(&b);
	check_stats(b.guest, false, &s);
	check_no_worker(&s);
	CHECK(s.minor == s.faults && s.resumed == s.faults, "%llu faults, %llu minor, %llu resumed",
	      (unsigned long long)s.faults, (unsigned long long)s.minor,
	      (unsigned long long)s.resumed);
	CHECK(s.service.count == s.faults, "%llu times for %llu faults",
	      (unsigned long long)s.service.count, (unsigned long long)s.faults);
	CHECK(s.pages_installed >= PAGES, "%llu of %u pages were mapped",
	      (unsigned long long)s.pages_installed, PAGES);
	if (window == 1)
		CHECK(s.faults >= PAGES, "%llu faults on %u pages", (unsigned long long)s.faults,
		      PAGES);
	else
		CHECK(s.faults < PAGES / 4, "%llu faults on %u pages, windows do nothing",
		      (unsigned long long)s.faults, PAGES);
	bed_down(&b);
}

static void one_page_windows(void)
{
	read_with_window(1);
}

static void default_windows(void)
{
	read_with_window(0);
}

static void contents_that_come_late(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, PAGES);
	b.maker.delay_ns = MS;
	b.maker.every_zero = 0;
	b.engine_opts.fill_pages = 16;
	context_up(&b, false);
	context_read_all(&b);
	check_stats(b.guest, false, &s);
	check_no_worker(&s);
	CHECK(s.major > 0, "of %llu faults none has waited", (unsigned long long)s.faults);
	CHECK(s.in_flight == 0, "%llu faults in flight, and nobody waits",
	      (unsigned long long)s.in_flight);
	bed_down(&b);
}

static void pusher(void *arg, uint32_t index)
{
	struct bed *b = arg;
	_Alignas(8) uint8_t buf[PAGE];

	/* Against the readers' order. */
	for (uint64_t page = b->nr_pages; page-- > 0;) {
		if (page % 4 != index)
			continue;
		contents_of(b->maker.salt, page, buf);
		OK(fln_image_put(b->image, page * PAGE, buf, PAGE));
	}
}

static void contents_that_are_pushed(void)
{
	struct crew pushers, readers;
	struct fln_stats s;
	struct bed b;

	bed_init(&b, PAGES);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	OK(fln_engine_start(b.engine));
	OK(fln_image_create(b.engine, &b.image_opts, &b.image)); /* without a source */
	context_up(&b, false);
	STEP("readers wait, pushers push");
	crew_start(&readers, THREADS, context_reader, &b);
	do {
		sleep_ms(1);
		check_stats(b.guest, false, &s);
	} while (s.in_flight < THREADS);
	crew_start(&pushers, 4, pusher, &b);
	crew_wait(&pushers, 60, "pushers");
	crew_wait(&readers, 60, "readers of what was pushed");
	check_stats(b.guest, false, &s);
	check_no_worker(&s);
	CHECK(s.major >= THREADS, "%llu faults have waited", (unsigned long long)s.major);
	bed_down(&b);
}

/* Pages that the source does not have: each fifth of 16. */
static int64_t holey_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct bed *b = ctx;

	for (uint64_t at = 0; at < len_bytes; at += PAGE) {
		uint64_t page = (offset_bytes + at) / PAGE;

		if (page / 16 % 5 == 4)
			return -EIO;
		contents_of(b->maker.salt, page, (uint8_t *)buf + at);
	}
	return (int64_t)len_bytes;
}

static void failed_toucher(void *arg, uint32_t index)
{
	struct bed *b = arg;

	OK(fln_thread_enter());
	for (uint64_t page = index; page < b->nr_pages; page += THREADS) {
		uint64_t value = 0;
		enum touch want = page / 16 % 5 == 4 ? TOUCH_SIGBUS : TOUCH_OK, end;

		for (uint32_t times = 0; times < 2; times++) {
			end = touch_read(bed_page(b, page), &value);
			CHECK(end == want, "page %llu: the thread %s", (unsigned long long)page,
			      touch_name(end));
		}
		CHECK(end != TOUCH_OK || value == word_of(b->maker.salt, page, 0),
		      "page %llu: wrong contents", (unsigned long long)page);
	}
	fln_thread_leave();
}

static void contents_that_never_come(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "holey",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = holey_read };
	struct fln_stats s;
	struct crew crew;
	struct bed b;

	bed_init(&b, PAGES);
	b.engine_opts.fill_pages = 16;
	b.engine_opts.source_retries = UINT32_MAX;
	OK(fln_source_create(&ops, &b, &b.source));
	b.image_opts.source = b.source;
	context_up(&b, false);
	STEP("touching pages whose source fails");
	crew_start(&crew, THREADS, failed_toucher, &b);
	crew_wait(&crew, 60, "threads that touch pages whose source fails");
	check_stats(b.guest, false, &s);
	CHECK(s.poisoned >= PAGES / 5, "%llu faults ended poisoned",
	      (unsigned long long)s.poisoned);
	CHECK(s.in_flight == 0, "%llu faults in flight", (unsigned long long)s.in_flight);
	bed_down(&b);
}

static void a_source_that_is_late(void)
{
	uint64_t value;
	struct bed b;

	bed_init(&b, 512);
	b.engine_opts.source_timeout_ns = 1500 * MS; /* another page has to come in that */
	atomic_store(&b.maker.gate_closed, true);
	context_up(&b, false);
	OK(fln_thread_enter());
	CHECK(touch_read(bed_page(&b, 3), &value) == TOUCH_SIGBUS, "a late page was read");
	atomic_store(&b.maker.gate_closed, false);
	context_read(&b, 300);
	fln_thread_leave();
	CHECK(log_names(&b.log, FLN_LOG_ERROR, "3"), "nobody said that page 3 was late");
	bed_down(&b);
}

/* Threads that are not resolved for. */

static void unregistered(void *arg, uint32_t index)
{
	struct bed *b = arg;
	uint64_t value;

	(void)index;
	CHECK(touch_read(bed_page(b, 1), &value) == TOUCH_SIGBUS,
	      "a thread that has not entered was resolved");
	OK(fln_thread_enter());
	OK(fln_thread_enter());
	fln_thread_leave();
	context_read(b, 1);
	fln_thread_leave();
	CHECK(touch_read(bed_page(b, 400), &value) == TOUCH_SIGBUS,
	      "a thread that has left was resolved");
}

static struct bed *alternate_bed;
static _Atomic int alternate_end;

static void on_alternate(int sig)
{
	sigset_t bus;
	uint64_t value;

	(void)sig;
	/* ThreadSanitizer calls handlers with every signal blocked. */
	(void)sigemptyset(&bus);
	(void)sigaddset(&bus, SIGBUS);
	(void)pthread_sigmask(SIG_UNBLOCK, &bus, NULL);
	atomic_store(&alternate_end, touch_read(bed_page(alternate_bed, 600), &value));
}

static void on_another_stack(void *arg, uint32_t index)
{
	struct sigaction sa = { .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_size = 256 << 10 }, off = { .ss_flags = SS_DISABLE };

	(void)index;
	alternate_bed = arg;
	OK(fln_thread_enter());
	stack.ss_sp = malloc(stack.ss_size);
	CHECK(sigaltstack(&stack, NULL) == 0, "sigaltstack: %s", strerror(errno));
	sa.sa_handler = on_alternate;
	(void)sigaction(SIGUSR1, &sa, NULL);
	(void)pthread_kill(pthread_self(), SIGUSR1);
	for (uint32_t i = 0; atomic_load(&alternate_end) == TOUCH_PENDING && i < 1000; i++)
		sleep_ms(1);
	CHECK(atomic_load(&alternate_end) == TOUCH_SIGBUS, "on an alternate stack the touch %s",
	      touch_name((enum touch)atomic_load(&alternate_end)));
	(void)sigaltstack(&off, NULL);
	free(stack.ss_sp);
	/* And on its own the thread is resolved. */
	context_read(alternate_bed, 600);
	fln_thread_leave();
}

/* The end of a file, as other SIGBUS are made. */
static uint8_t *beyond_the_end(void)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	uint8_t *mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)close(fd);
	return mem;
}

static void what_is_passed_on(void)
{
	uint8_t *foreign = beyond_the_end();
	siginfo_t info;
	uint64_t value;
	struct crew crew;
	struct bed b;

	bed_init(&b, 1024);
	b.guest_opts.window_first = b.guest_opts.window_max = 1;
	context_up(&b, true);
	STEP("a thread that has not entered");
	crew_start(&crew, 1, unregistered, &b);
	crew_wait(&crew, WAIT_S, "a thread that has not entered");
	STEP("a thread on an alternate stack");
	crew_start(&crew, 1, on_another_stack, &b);
	crew_wait(&crew, WAIT_S, "a thread on an alternate stack");
	STEP("addresses of others");
	OK(fln_thread_enter());
	CHECK(touch_read(foreign, &value) == TOUCH_SIGBUS, "beyond a file's end was read");
	context_read(&b, 5);
	memset(&info, 0, sizeof(info));
	info.si_signo = SIGSEGV;
	info.si_code = BUS_ADRERR;
	info.si_addr = bed_page(&b, 6);
	CHECK(fln_resolve(&info) == FLN_RESOLVED_NOT_OURS, "a SIGSEGV was resolved");
	info.si_signo = SIGBUS;
	info.si_code = SI_USER;
	CHECK(fln_resolve(&info) == FLN_RESOLVED_NOT_OURS, "kill() was resolved");
	info.si_code = BUS_ADRERR;
	errno = 4711;
	CHECK(fln_resolve(&info) == FLN_RESOLVED && errno == 4711,
	      "a page was not resolved, or errno was not kept");
	fln_thread_leave();
	bed_down(&b);
	(void)munmap(foreign, PAGE);
}

/* Chains, each in a process of its own that has no engine. */

static _Atomic int nr_called;

static void count_call(int sig, siginfo_t *info, void *context)
{
	sigset_t now;

	(void)context;
	(void)pthread_sigmask(SIG_BLOCK, NULL, &now);
	if (sig != SIGBUS || !info || !sigismember(&now, SIGUSR1) || !sigismember(&now, SIGBUS))
		_exit(3);
	atomic_fetch_add(&nr_called, 1);
}

enum chain {
	CHAIN_DEFAULT_FAULT,
	CHAIN_DEFAULT_KILL,
	CHAIN_IGNORED_FAULT,
	CHAIN_IGNORED_KILL,
	CHAIN_CALLED_KILL,
	CHAIN_ONCE_FAULT,
	CHAIN_DEFAULT_NEWS,
	CHAIN_IGNORED_NEWS,
	CHAIN_NR
};

/* As the kernel tells of bad memory that nobody has touched so far. */
static void send_news(void)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGBUS;
	info.si_code = BUS_MCEERR_AO;
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info) != 0)
		_exit(6);
}

static void chain_child(enum chain what)
{
	struct sigaction sa = { .sa_flags = 0 };
	bool kills = what == CHAIN_DEFAULT_KILL || what == CHAIN_IGNORED_KILL ||
		     what == CHAIN_CALLED_KILL;

	(void)fln_sigbus_remove();
	sa.sa_handler = what == CHAIN_IGNORED_FAULT || what == CHAIN_IGNORED_KILL ||
					what == CHAIN_IGNORED_NEWS
				? SIG_IGN
				: SIG_DFL;
	if (what == CHAIN_CALLED_KILL || what == CHAIN_ONCE_FAULT) {
		sa.sa_sigaction = count_call;
		sa.sa_flags = SA_SIGINFO | (what == CHAIN_ONCE_FAULT ? (int)SA_RESETHAND : 0);
		(void)sigaddset(&sa.sa_mask, SIGUSR1);
	}
	(void)sigaction(SIGBUS, &sa, NULL);
	if (fln_sigbus_install() != 0 || fln_sigbus_install() != 0)
		_exit(4);
	if (kills)
		(void)kill(getpid(), SIGBUS);
	else if (what == CHAIN_DEFAULT_NEWS || what == CHAIN_IGNORED_NEWS)
		send_news();
	else
		*(volatile uint8_t *)beyond_the_end() = 1;
	_exit(what == CHAIN_CALLED_KILL && atomic_load(&nr_called) != 1 ? 5 : 0);
}

static void handlers_are_chained(void)
{
	static const bool dies[CHAIN_NR] = { [CHAIN_DEFAULT_FAULT] = true,
					     [CHAIN_DEFAULT_KILL] = true,
					     [CHAIN_IGNORED_FAULT] = true,
					     [CHAIN_ONCE_FAULT] = true,
					     [CHAIN_DEFAULT_NEWS] = true };
	struct sigaction mine = { .sa_flags = SA_SIGINFO }, there;

	for (enum chain what = 0; what < CHAIN_NR; what++) {
		int status = 0;
		pid_t pid;

		STEP("chain %u", (unsigned int)what);
		pid = fork();
		CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			(void)alarm(WAIT_S);
			chain_child(what);
		}
		CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
		if (dies[what])
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS,
			      "chain %u: status 0x%x, and not SIGBUS", (unsigned int)what,
			      (unsigned int)status);
		else
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
			      "chain %u: status 0x%x, and not 0", (unsigned int)what,
			      (unsigned int)status);
	}
	STEP("another handler on top");
	mine.sa_sigaction = count_call;
	(void)sigaction(SIGBUS, &mine, &there);
	REFUSED(fln_sigbus_remove(), -EBUSY, "SIGBUS");
	(void)sigaction(SIGBUS, &there, NULL);
	OK(fln_sigbus_remove());
	OK(fln_sigbus_remove());
	OK(fln_sigbus_install());
}

static void expect_in_context(const struct bed *b, uint64_t page, uint64_t due)
{
	uint64_t value = ~due;

	CHECK(touch_read(bed_page(b, page), &value) == TOUCH_OK && value == due,
	      "page %llu reads 0x%llx", (unsigned long long)page, (unsigned long long)value);
}

/* A page whose own contents are due is put where the image is a hole: no zeros for it. */
static void what_is_moved_onto_a_page_fails_closed(void)
{
	uint8_t *hole, *moved;
	uint64_t value;
	struct bed b;

	bed_init(&b, 1024);
	b.guest_opts.nr_shards = 2; /* stripes of a block: it comes from the other one */
	b.maker.every_zero = 8;
	context_up(&b, false);
	hole = bed_page(&b, 7);
	moved = bed_page(&b, 600);
	OK(fln_thread_enter());
	expect_in_context(&b, 7, 0);
	CHECK(mremap(moved, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole) == hole, "mremap: %s",
	      strerror(errno));
	CHECK(touch_read(hole, &value) != TOUCH_OK, "a page that moved was read as 0x%llx",
	      (unsigned long long)value);
	STEP("windows around it");
	for (uint64_t page = 0; page < 600; page++) {
		if (page != 7)
			expect_in_context(&b, page, page % 8 == 7 ? 0 : word_of(1, page, 0));
	}
	CHECK(touch_read(hole, &value) != TOUCH_OK, "a page that moved was read as 0x%llx",
	      (unsigned long long)value);
	fln_thread_leave();
	OK(fln_guest_stop(b.guest));
	CHECK(touch_read(hole, &value) != TOUCH_OK, "0x%llx is read after the stop",
	      (unsigned long long)value);
	bed_down(&b);
}

static void what_is_refused(void)
{
	struct fln_region_opts o;
	struct fln_region *region;
	struct bed b;

	bed_init(&b, 1024);
	context_up(&b, true);
	o = b.region_opts;
	/* Both kinds in one guest, of one image. */
	o.delivery = FLN_DELIVERY_QUEUED;
	OK(fln_region_add(b.guest, &o, &region));
	{
		struct toucher t;

		toucher_read(&t, (uint8_t *)fln_region_addr(region) + 9 * PAGE);
		toucher_expect_value(&t, word_of(1, 9, 0), "a queued region beside");
	}
	OK(fln_region_remove(region));
	OK(fln_thread_enter());
	context_read(&b, 9);
	fln_thread_leave();
	bed_down(&b);
}

int main(void)
{
	test_init();
	context_init();
	RUN(one_page_windows);
	RUN(default_windows);
	RUN(contents_that_come_late);
	RUN(contents_that_are_pushed);
	RUN(contents_that_never_come);
	RUN(a_source_that_is_late);
	RUN(what_is_passed_on);
	RUN(handlers_are_chained);
	RUN(what_is_moved_onto_a_page_fails_closed);
	RUN(what_is_refused);
	return 0;
}
