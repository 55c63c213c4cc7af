/* SPDX-License-Identifier: MIT */
/*
 * A monitor whose SIGBUS handler is its own, and one that borrows the library's: in
 * both, what is not the library's goes where it went before.
 */
#include "tests/integration/actions.h"
#include "tests/integration/context_bed.h"
#include "tests/support/interpose.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic uint32_t nr_resolved, nr_own;
static _Thread_local sigjmp_buf own_env;
static _Thread_local volatile sig_atomic_t own_touch;

/* What the documents tell an embedder to write. */
static void own_handler(int sig, siginfo_t *info, void *context)
{
	enum fln_resolved resolved;

	(void)sig;
	(void)context;
	interpose_inside = true;
	resolved = fln_resolve(info);
	interpose_inside = false;
	if (resolved == FLN_RESOLVED) {
		atomic_fetch_add(&nr_resolved, 1);
		return;
	}
	atomic_fetch_add(&nr_own, 1);
	if (own_touch)
		siglongjmp(own_env, 1);
}

/* Memory of the monitor's own that gives SIGBUS: behind the end of its file. */
static bool own_sigbus(void)
{
	int fd = memfd_create("own", MFD_CLOEXEC);
	volatile char *own = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	bool came;

	CHECK(fd >= 0 && own != MAP_FAILED, "a file of no length: %s", strerror(errno));
	came = sigsetjmp(own_env, 1) != 0;
	if (!came) {
		own_touch = 1;
		(void)*own;
	}
	own_touch = 0;
	(void)munmap((void *)(uintptr_t)own, PAGE);
	(void)close(fd);
	return came;
}

static void handler_of_its_own(void)
{
	struct sigaction mine = { .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART }, before, found;
	uint64_t nr;
	void *caller;
	struct bed b;

	mine.sa_sigaction = own_handler;
	(void)sigaddset(&mine.sa_mask, SIGUSR1);
	CHECK(sigaction(SIGBUS, &mine, &before) == 0, "sigaction: %s", strerror(errno));
	CHECK(sigaction(SIGBUS, NULL, &found) == 0, "sigaction: %s", strerror(errno));
	bed_init(&b, 512ull * 25);
	context_up(&b, false);
	interpose_watch(true);
	context_read_all(&b);
	interpose_watch(false);
	CHECK(atomic_load(&nr_resolved) > 0, "no fault was resolved by the handler");
	CHECK(atomic_load(&nr_own) == 0, "%u faults of the guest's were called somebody else's",
	      atomic_load(&nr_own));
	nr = interpose_nr_watched(&caller);
	CHECK(!interpose_works() || nr == 0, "malloc or free were called %llu times, from %p",
	      (unsigned long long)nr, caller);
	OK(fln_thread_enter());
	CHECK(own_sigbus() && atomic_load(&nr_own) == 1, "the monitor's own SIGBUS came %u times",
	      atomic_load(&nr_own));
	CHECK(raise(SIGBUS) == 0 && atomic_load(&nr_own) == 2, "a SIGBUS that was sent");
	fln_thread_leave();
	same_action(SIGBUS, &found, "the guest ran in context");
	bed_down(&b);
	same_action(SIGBUS, &found, "the engine is gone");
	CHECK(sigaction(SIGBUS, &before, NULL) == 0, "sigaction: %s", strerror(errno));
}

static void plain_handler(int sig)
{
	(void)sig;
}

/* Install and remove, over actions of every kind: each is back as it was. */
static void installed_and_removed(void)
{
	struct sigaction was[5], before, during;

	memset(was, 0, sizeof(was));
	was[0].sa_sigaction = own_handler;
	was[0].sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	(void)sigaddset(&was[0].sa_mask, SIGUSR1);
	(void)sigaddset(&was[0].sa_mask, SIGTERM);
	was[1].sa_handler = plain_handler;
	was[1].sa_flags = (int)SA_RESETHAND | SA_NODEFER;
	was[2].sa_handler = SIG_DFL;
	was[3].sa_handler = SIG_IGN;
	was[3].sa_flags = SA_RESTART;
	was[4].sa_handler = plain_handler;
	(void)sigfillset(&was[4].sa_mask);
	CHECK(sigaction(SIGBUS, NULL, &before) == 0, "sigaction: %s", strerror(errno));
	for (uint32_t i = 0; i < sizeof(was) / sizeof(was[0]); i++) {
		STEP("action %u", i);
		CHECK(sigaction(SIGBUS, &was[i], NULL) == 0, "sigaction: %s", strerror(errno));
		/* As the kernel tells it: the C library adds a flag, and some signals go. */
		CHECK(sigaction(SIGBUS, NULL, &was[i]) == 0, "sigaction: %s", strerror(errno));
		OK(fln_sigbus_install());
		OK(fln_sigbus_install());
		CHECK(sigaction(SIGBUS, NULL, &during) == 0, "sigaction: %s", strerror(errno));
		CHECK(during.sa_sigaction != was[i].sa_sigaction, "nothing was installed");
		OK(fln_sigbus_remove());
		same_action(SIGBUS, &was[i], "installed and removed");
		OK(fln_sigbus_remove());
		same_action(SIGBUS, &was[i], "removed twice");
	}
	CHECK(sigaction(SIGBUS, &before, NULL) == 0, "sigaction: %s", strerror(errno));
}

#if !TEST_TSAN /* which has a pthread_sigmask() of its own */
static _Thread_local void (*volatile within_sigmask)(void);
static _Atomic uint32_t nr_first, nr_third;

/* The program's own: the library calls it between reading an action and calling its handler. */
#pragma GCC visibility push(default)
int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	void (*fn)(void) = within_sigmask;

	within_sigmask = NULL;
	if (fn)
		fn();
	return syscall(SYS_rt_sigprocmask, how, set, old, sizeof(uint64_t)) == 0 ? 0 : errno;
}
#pragma GCC visibility pop

static void first_handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&nr_first, 1);
}

static void third_handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&nr_third, 1);
}

static void reinstall_over(void (*handler)(int))
{
	struct sigaction sa = { .sa_flags = SA_RESTART };

	sa.sa_handler = handler;
	OK(fln_sigbus_remove());
	CHECK(sigaction(SIGBUS, &sa, NULL) == 0, "sigaction: %s", strerror(errno));
	OK(fln_sigbus_install());
}

static void reinstall_twice(void)
{
	reinstall_over(plain_handler);
	reinstall_over(third_handler);
}

/* A signal that is being passed on goes to the action that was there when it came. */
static void reinstalled_meanwhile(void)
{
	struct sigaction before;

	CHECK(sigaction(SIGBUS, NULL, &before) == 0, "sigaction: %s", strerror(errno));
	OK(fln_sigbus_install());
	reinstall_over(first_handler);
	within_sigmask = reinstall_twice;
	CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGBUS) == 0, "tgkill: %s", strerror(errno));
	CHECK(!within_sigmask, "the signal was not passed on");
	CHECK(atomic_load(&nr_first) == 1 && atomic_load(&nr_third) == 0,
	      "the first handler was called %u times, the third %u times", atomic_load(&nr_first),
	      atomic_load(&nr_third));
	CHECK(raise(SIGBUS) == 0 && atomic_load(&nr_third) == 1, "the third handler is due now");
	OK(fln_sigbus_remove());
	CHECK(sigaction(SIGBUS, &before, NULL) == 0, "sigaction: %s", strerror(errno));
}
#endif

/* A system call does not wait for memory in context; populated, it need not. */
static void system_calls_need_memory_that_is_there(void)
{
	static char right[PAGE], got[PAGE];
	int fds[2];
	struct bed b;

	OK(fln_sigbus_install());
	bed_init(&b, 512 * 2);
	context_up(&b, true);
	OK(fln_thread_enter());
	CHECK(pipe(fds) == 0, "pipe: %s", strerror(errno));
	errno = 0;
	CHECK(write(fds[1], bed_page(&b, 600), PAGE) == -1 && errno == EFAULT,
	      "write() of a page that is not mapped: %s", strerror(errno));
	OK(fln_guest_populate(b.guest, (uintptr_t)bed_page(&b, 600), PAGE, NULL));
	CHECK(write(fds[1], bed_page(&b, 600), PAGE) == (ssize_t)PAGE,
	      "write() of a page that was populated: %s", strerror(errno));
	CHECK(read(fds[0], got, PAGE) == (ssize_t)PAGE, "read: %s", strerror(errno));
	contents_of(b.maker.salt, 600, right);
	CHECK(memcmp(got, right, PAGE) == 0, "the page went out with other contents");
	(void)close(fds[0]);
	(void)close(fds[1]);
	fln_thread_leave();
	bed_down(&b);
	OK(fln_sigbus_remove());
}

int main(void)
{
	test_init();
	context_init();
	OK(fln_sigbus_remove());
	RUN(handler_of_its_own);
	RUN(installed_and_removed);
#if !TEST_TSAN
	RUN(reinstalled_meanwhile);
#endif
	RUN(system_calls_need_memory_that_is_there);
	return 0;
}
