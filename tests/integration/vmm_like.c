/* SPDX-License-Identifier: MIT */
/*
 * A process like a virtual machine monitor's: signal handlers, an allocator and
 * children of its own, all of which the library leaves to it.
 */
#include "tests/integration/actions.h"
#include "tests/integration/harness.h"
#include "tests/support/interpose.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_FAULTING 64u
#define CHILD_OPTION "--after-exec"
#define GUEST_NAME "vmm-like-memory"

/* Signals. */

static void on_any(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
}

/* Those of the C library's threads cannot be asked for; the harness keeps its watchdog. */
static bool is_ours(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP && sig != SIGALRM && sig != 32 && sig != 33;
}

/* An action for each signal that no library would come to by itself. */
static void take_signals(void)
{
	for (int sig = 1; sig < NR_SIGNALS; sig++) {
		struct sigaction sa = { .sa_flags = SA_SIGINFO | (sig % 2 ? SA_RESTART : 0) |
						    (sig % 3 ? SA_NODEFER : SA_ONSTACK) };

		/* The harness's handlers of these are how touches end. */
		if (!is_ours(sig) || sig == SIGBUS || sig == SIGSEGV)
			continue;
		sa.sa_sigaction = on_any;
		(void)sigemptyset(&sa.sa_mask);
		(void)sigaddset(&sa.sa_mask, sig % 31 + 1);
		CHECK(sigaction(sig, &sa, NULL) == 0, "signal %d: %s", sig, strerror(errno));
	}
}

static void remember_signals(struct sigaction *actions)
{
	for (int sig = 1; sig < NR_SIGNALS; sig++) {
		if (is_ours(sig))
			CHECK(sigaction(sig, NULL, &actions[sig]) == 0, "signal %d: %s", sig,
			      strerror(errno));
	}
}

static void same_signals(const struct sigaction *was, const sigset_t *mask_was, const char *when)
{
	sigset_t mask;

	for (int sig = 1; sig < NR_SIGNALS; sig++) {
		if (is_ours(sig))
			same_action(sig, &was[sig], when);
	}
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0, "the signal mask");
	for (int sig = 1; sig < NR_SIGNALS; sig++)
		CHECK(sigismember(&mask, sig) == sigismember(mask_was, sig),
		      "%s: signal %d is %sblocked on the caller's thread", when, sig,
		      sigismember(&mask, sig) ? "" : "not ");
}

/* Through the life of an engine every action and the caller's mask stay as they were. */
static void handlers_stay(void)
{
	struct sigaction before[NR_SIGNALS];
	sigset_t mask;
	struct bed b;

	take_signals();
	remember_signals(before);
	CHECK(sigemptyset(&mask) == 0 && sigaddset(&mask, SIGUSR2) == 0, "a mask");
	CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0, "the signal mask");
	bed_init(&b, 512 * 4);
	bed_up(&b);
	same_signals(before, &mask, "a guest was started");
	read_all(&b, NR_FAULTING);
	CHECK(madvise(bed_page(&b, 8), 8 * PAGE, MADV_REMOVE) == 0, "MADV_REMOVE: %s",
	      strerror(errno));
	same_signals(before, &mask, "memory was touched");
	OK(fln_guest_stop(b.guest));
	same_signals(before, &mask, "the guest was stopped");
	bed_down(&b);
	same_signals(before, &mask, "the engine is gone");
	CHECK(sigemptyset(&mask) == 0, "a mask");
	CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0, "the signal mask");
}

/* The allocator. */

struct table {
	_Atomic int64_t bytes;
	_Atomic uint64_t nr_calls;
};

static void *table_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	struct table *t = ctx;
	size_t align = align_bytes < sizeof(void *) ? sizeof(void *) : align_bytes;
	void *ptr = NULL;

	(void)node;
	if (posix_memalign(&ptr, align, size_bytes) != 0)
		return NULL;
	atomic_fetch_add(&t->bytes, (int64_t)size_bytes);
	atomic_fetch_add(&t->nr_calls, 1);
	return ptr;
}

static void table_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	struct table *t = ctx;

	(void)node;
	atomic_fetch_sub(&t->bytes, (int64_t)size_bytes);
	atomic_fetch_add(&t->nr_calls, 1);
	free(ptr);
}

static void touch_failing(const struct bed *b, uint64_t from, uint64_t to)
{
	uint64_t value;

	for (uint64_t page = from; page < to; page++)
		CHECK(touch_read(bed_page(b, page), &value) == TOUCH_SIGBUS,
		      "page %llu whose source fails was read", (unsigned long long)page);
}

/* Every kind of fault, and no thread of the engine calls malloc, nor the embedder's table. */
static void allocator_is_not_called(void)
{
	struct fln_source_error_opts errors = FLN_SOURCE_ERROR_OPTS_INIT;
	struct table table = { .bytes = 0 };
	struct fln_allocator allocator = {
		.size = sizeof(allocator), .ctx = &table, .alloc = table_alloc, .free = table_free
	};
	struct fln_source *inner;
	uint64_t nr, value;
	void *caller;
	struct bed b;

	bed_init(&b, 512 * 8);
	b.engine_opts.allocator = &allocator;
	b.engine_opts.source_retries = UINT32_MAX;
	b.maker.every_zero = 7;
	maker_source(&b.maker, &inner);
	errors.offset_bytes = 512 * 7 * PAGE;
	errors.len_bytes = 512 * PAGE;
	errors.error = EIO;
	OK(fln_source_with_errors(inner, &errors, &b.source));
	fln_source_destroy(inner);
	b.image_opts.source = b.source;
	bed_up(&b);
	CHECK(atomic_load(&table.nr_calls) > 0, "the table of the options was not used");

	STEP("faults that were major, minor, zero, discarded and failed");
	interpose_watch(true);
	nr = atomic_load(&table.nr_calls);
	for (uint64_t page = 0; page < 512ull * 7; page++) {
		CHECK(touch_read(bed_page(&b, page), &value) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
		CHECK(value == (page % 7 == 6 ? 0 : word_of(1, page, 0)), "page %llu reads 0x%llx",
		      (unsigned long long)page, (unsigned long long)value);
	}
	touch_failing(&b, 512 * 7, 512 * 7 + 6); /* the next is a hole */
	CHECK(madvise(bed_page(&b, 0), BLOCK, MADV_REMOVE) == 0, "MADV_REMOVE: %s",
	      strerror(errno));
	CHECK(madvise(bed_page(&b, 512), BLOCK, MADV_DONTNEED) == 0, "MADV_DONTNEED: %s",
	      strerror(errno));
	for (uint64_t page = 0; page < 1024; page++)
		CHECK(touch_write(bed_page(&b, page), page) == TOUCH_OK, "page %llu",
		      (unsigned long long)page);
	interpose_watch(false);
	CHECK(atomic_load(&table.nr_calls) == nr,
	      "the allocator table was called %llu times while faults were served",
	      (unsigned long long)(atomic_load(&table.nr_calls) - nr));
	if (interpose_works()) {
		CHECK(interpose_nr_calls() > 0, "the program's malloc is not the one in use");
		nr = interpose_nr_watched(&caller);
		CHECK(nr == 0, "threads of the engine called malloc or free %llu times, from %p",
		      (unsigned long long)nr, caller);
	}
	bed_down(&b);
	CHECK(atomic_load(&table.bytes) == 0, "%lld bytes were not given back",
	      (long long)atomic_load(&table.bytes));
}

/* Children. */

/* How many mappings of the guest's memory this process has; in a child: async-signal-safe. */
static int nr_guest_maps(void)
{
	static char buf[1 << 16];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t have = 0, keep = sizeof(GUEST_NAME) - 2;
	ssize_t got;
	int nr = 0;

	if (fd < 0)
		return -1;
	while ((got = read(fd, buf + have, sizeof(buf) - have)) > 0) {
		size_t all = have + (size_t)got;

		for (size_t i = 0; i + keep < all; i++)
			nr += memcmp(buf + i, GUEST_NAME, keep + 1) == 0;
		have = all < keep ? all : keep;
		memmove(buf, buf + all - have, have);
	}
	(void)close(fd);
	return nr;
}

static void wait_for(pid_t pid, const char *what)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		CHECK(now_ns() < until, "%s has not ended after %u s", what, WAIT_S);
		sleep_ms(1);
	}
	CHECK(status == 0, "%s ended with status 0x%x", what, status);
}

struct forking {
	uint32_t nr;
	const char *self;
};

static void fork_many(void *arg, uint32_t index)
{
	const struct forking *f = arg;

	(void)index;
	for (uint32_t i = 0; i < f->nr; i++) {
		bool exec = i % 2;
		pid_t pid = fork();

		CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			if (exec)
				(void)execl(f->self, f->self, CHILD_OPTION, (char *)NULL);
			_exit(exec ? 98 : nr_guest_maps());
		}
		wait_for(pid, exec ? "a child that executes a program"
				   : "a child that looks for the guest's memory");
	}
}

/* 64 threads wait for pages while others fork: children are without the memory, nobody hangs. */
static void forks_under_faults(void)
{
	struct forking f = { .nr = test_scale(4, 12, 100), .self = "/proc/self/exe" };
	struct crew forkers;
	struct bed b;

	bed_init(&b, 512ull * 16);
	b.image_opts.name = GUEST_NAME;
	b.maker.delay_ns = MS;
	bed_up(&b);
	CHECK(nr_guest_maps() >= 2, "the parent has %d mappings of the memory; the test is blind",
	      nr_guest_maps());
	STEP("%u children while %u threads fault", 2 * f.nr, NR_FAULTING);
	crew_start(&forkers, 2, fork_many, &f);
	read_all(&b, NR_FAULTING);
	crew_wait(&forkers, 60, "threads that fork");
	bed_down(&b);
}

/* After execve() nothing of the engine's is open. */
static int after_exec(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int bad = 0;

	if (!dir)
		return 99;
	while ((entry = readdir(dir)) != NULL) {
		char target[256] = "";

		if (atoi(entry->d_name) <= STDERR_FILENO)
			continue;
		(void)!readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		if (strstr(target, "userfaultfd") || strstr(target, GUEST_NAME) ||
		    strstr(target, "eventfd") || strstr(target, "eventpoll")) {
			(void)fprintf(stderr, "descriptor %s after execve(): %s\n", entry->d_name,
				      target);
			bad++;
		}
	}
	(void)closedir(dir);
	return bad + nr_guest_maps();
}

/* Core dumps: our own mapping of the image is left out, the guest's is the embedder's affair. */
static void dumps_leave_the_alias_out(void)
{
	uint32_t nr_left_out = 0, nr_dumped = 0;
	bool in_image = false;
	char line[512];
	struct bed b;
	FILE *f;

	bed_init(&b, 512 * 4);
	b.image_opts.name = GUEST_NAME;
	bed_up(&b);
	f = fopen("/proc/self/smaps", "re");
	CHECK(f, "/proc/self/smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		bool flags = strncmp(line, "VmFlags:", 8) == 0;

		if (flags && in_image && strstr(line, " dd"))
			nr_left_out++;
		else if (flags && in_image)
			nr_dumped++;
		else if (strchr("0123456789abcdef", line[0]))
			in_image = strstr(line, GUEST_NAME) != NULL;
	}
	(void)fclose(f);
	CHECK(nr_left_out == 1,
	      "%u mappings of the image are left out of core dumps, not 1: its "
	      "alias",
	      nr_left_out);
	CHECK(nr_dumped > 0, "the guest's own mapping is not in core dumps");
	bed_down(&b);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], CHILD_OPTION) == 0)
		return after_exec();
	test_init();
	RUN(handlers_stay);
	RUN(allocator_is_not_called);
	RUN(forks_under_faults);
	RUN(dumps_leave_the_alias_out);
	return 0;
}
