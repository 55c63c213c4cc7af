/* SPDX-License-Identifier: MIT */
/*
 * A host that refuses what the library takes for granted: threads, locked memory, /sys and
 * /proc, the userfaultfd system call, privileges from some moment on.  An error code and a
 * sentence, or another way; never the end of the process, nor a word on standard error.
 *
 * Each case is a process of its own, forked before there is an engine.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534u
#define SKIPPED 77
#define REFUSED_STATUS 3

static uint64_t flags; /* of engines */

static void become_nobody(void)
{
	if (getuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
			      setresuid(NOBODY, NOBODY, NOBODY) != 0))
		test_skip("cannot become another user: %s", strerror(errno));
	(void)prctl(PR_SET_DUMPABLE, 1);
	flags = FLN_ENGINE_F_USER_MODE_ONLY;
}

static int make_engine(struct fln_engine **out)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;

	o.flags = flags;
	return fln_engine_create(&o, out);
}

/* A region of all there is, read through. */
static void serve(enum fln_delivery delivery)
{
	struct bed b;

	bed_init(&b, 600);
	b.engine_opts.flags = flags;
	b.region_opts.delivery = delivery;
	bed_up(&b);
	if (delivery == FLN_DELIVERY_QUEUED) {
		read_all(&b, 2);
	} else {
		OK(fln_sigbus_install());
		OK(fln_thread_enter());
		for (uint64_t page = 0; page < b.nr_pages; page++) {
			const uint64_t *at = (const void *)bed_page(&b, page);

			CHECK(*at == word_of(b.maker.salt, page, 0), "page %llu is wrong",
			      (unsigned long long)page);
		}
		fln_thread_leave();
		OK(fln_sigbus_remove());
	}
	bed_down(&b);
}

static void expect_refused(int want, const char *word)
{
	struct fln_engine *engine = NULL;
	uint32_t before = count_fds();

	REFUSED(make_engine(&engine), want, word);
	CHECK(!engine, "out was written");
	CHECK(count_fds() == before, "%u descriptors are left", count_fds() - before);
}

static void no_more_threads(void)
{
	struct rlimit was, now;

	become_nobody();
	CHECK(getrlimit(RLIMIT_NPROC, &was) == 0, "%s", strerror(errno));
	now = was;
	now.rlim_cur = 0;
	CHECK(setrlimit(RLIMIT_NPROC, &now) == 0, "%s", strerror(errno));
	expect_refused(-EAGAIN, "RLIMIT_NPROC");
	CHECK(setrlimit(RLIMIT_NPROC, &was) == 0, "%s", strerror(errno));
	serve(FLN_DELIVERY_QUEUED);
}

static void a_deadline_thread(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = { .size = 48,
		   .policy = 6, /* SCHED_DEADLINE */
		   .runtime = 20 * MS,
		   .deadline = 100 * MS,
		   .period = 100 * MS };
	struct sched_param other = { .sched_priority = 0 };

	if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0)
		test_skip("no SCHED_DEADLINE here: %s", strerror(errno));
	expect_refused(-EAGAIN, "SCHED_DEADLINE");
	CHECK(sched_setscheduler(0, SCHED_OTHER, &other) == 0, "%s", strerror(errno));
	serve(FLN_DELIVERY_QUEUED);
}

/* System call @nr fails with @err from here on. */
static void refuse_call(unsigned int nr, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		test_skip("no seccomp filter: %s", strerror(errno));
}

static void *nothing(void *arg)
{
	return arg;
}

static void clone3_refused(void)
{
	pthread_t thread;

	refuse_call(SYS_clone3, EPERM);
	if (pthread_create(&thread, NULL, nothing, NULL) == 0) {
		(void)pthread_join(thread, NULL);
		test_skip("this C library makes threads without clone3");
	}
	expect_refused(-EPERM, "clone3");
}

/* Nothing was installed, so the caller must learn of it. */
static void sigaction_refused(void)
{
	refuse_call(SYS_rt_sigaction, EPERM);
	REFUSED(fln_sigbus_install(), -EPERM, "rt_sigaction");
	REFUSED(fln_sigbus_install(), -EPERM, "rt_sigaction");
	OK(fln_sigbus_remove());
}

/* The previous action cannot be restored: the caller learns of that, too. */
static void sigaction_refused_later(void)
{
	OK(fln_sigbus_install());
	refuse_call(SYS_rt_sigaction, EPERM);
	REFUSED(fln_sigbus_remove(), -EPERM, "rt_sigaction");
	REFUSED(fln_sigbus_remove(), -EPERM, "rt_sigaction");
}

/* With more room each time, so that each allocation on the way has failed once. */
static void locked_memory(void)
{
	uint32_t nr_refused = 0, nr_made = 0;
	struct rlimit most;

	if (TEST_ASAN || TEST_TSAN)
		test_skip("sanitizers make mlockall() do nothing");
	CHECK(getrlimit(RLIMIT_MEMLOCK, &most) == 0, "%s", strerror(errno));
	for (uint32_t kib = 64; kib <= 16384 && (rlim_t)kib << 10 <= most.rlim_max;
	     kib += kib < 1024 ? 64 : 1024) {
		struct rlimit limit = { (rlim_t)kib << 10, (rlim_t)kib << 10 };
		int status = 0;
		pid_t pid = fork();

		CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			struct fln_engine *engine;
			int rc;

			CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0, "%s", strerror(errno));
			become_nobody();
			CHECK(mlockall(MCL_FUTURE) == 0, "%s", strerror(errno));
			rc = make_engine(&engine);
			if (rc == 0) {
				rc = fln_engine_start(engine);
				OK(fln_engine_destroy(engine));
			}
			if (rc)
				CHECK(fln_last_error()[0], "%d without a sentence", rc);
			_exit(rc ? REFUSED_STATUS : 0);
		}
		CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
		CHECK(WIFEXITED(status) &&
			      (WEXITSTATUS(status) == REFUSED_STATUS || WEXITSTATUS(status) == 0),
		      "%u KiB: status 0x%x", kib, (unsigned int)status);
		nr_refused += WEXITSTATUS(status) == REFUSED_STATUS;
		nr_made += WEXITSTATUS(status) == 0;
	}
	CHECK(nr_refused > 0, "nothing was refused, %u engines were made", nr_made);
}

static void cover(const char *path)
{
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", path, "tmpfs", 0, NULL) != 0)
		test_skip("%s cannot be covered: %s", path, strerror(errno));
}

/* What is said on standard error meanwhile fails the test. */
static void in_silence(void (*fn)(enum fln_delivery delivery), enum fln_delivery delivery)
{
	int memfd = memfd_create("said", MFD_CLOEXEC), was = dup(STDERR_FILENO);
	char said[256] = "";

	CHECK(memfd >= 0 && was >= 0 && dup2(memfd, STDERR_FILENO) >= 0, "%s", strerror(errno));
	fn(delivery);
	CHECK(dup2(was, STDERR_FILENO) >= 0, "%s", strerror(errno));
	(void)!pread(memfd, said, sizeof(said) - 1, 0);
	CHECK(!said[0], "it was said: %s", said);
}

static void no_nodes(void)
{
	cover("/sys/devices/system/node");
	in_silence(serve, FLN_DELIVERY_QUEUED);
}

static void no_sys(void)
{
	cover("/sys");
	in_silence(serve, FLN_DELIVERY_QUEUED);
}

static void no_proc(void)
{
	cover("/proc");
	in_silence(serve, FLN_DELIVERY_QUEUED);
	in_silence(serve, FLN_DELIVERY_IN_CONTEXT);
}

static void another_device(void)
{
	struct fln_engine *engine;
	struct fln_guest *guest = NULL;

	if (access("/dev/userfaultfd", F_OK) != 0)
		test_skip("there is no /dev/userfaultfd");
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("/dev/null", "/dev/userfaultfd", NULL, MS_BIND, NULL) != 0)
		test_skip("/dev/userfaultfd cannot be covered: %s", strerror(errno));
	serve(FLN_DELIVERY_QUEUED); /* by the system call, where this user has it */
	become_nobody();
	serve(FLN_DELIVERY_QUEUED);
	flags = 0;
	/* An engine may be, for foreign guests. */
	OK(make_engine(&engine));
	REFUSED(fln_guest_create(engine, NULL, &guest), -EPERM, "/dev/userfaultfd");
	CHECK(!guest, "out was written");
	OK(fln_engine_destroy(engine));
}

static void call_refused(int err)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (dev < 0)
		test_skip("/dev/userfaultfd: %s", strerror(errno));
	(void)close(dev);
	refuse_call(SYS_userfaultfd, err);
	serve(FLN_DELIVERY_QUEUED);
	flags = FLN_ENGINE_F_USER_MODE_ONLY;
	serve(FLN_DELIVERY_QUEUED);
}

static void call_refused_by_eperm(void)
{
	call_refused(EPERM);
}

static void call_refused_by_enosys(void)
{
	call_refused(ENOSYS);
}

/* Memory of the monitor's own comes when the privilege has gone, for each way of service. */
static void privileges_given_up(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct bed b;
	void *mem;

	bed_init(&b, 600);
	b.engine_opts.flags = flags;
	bed_up(&b);
	become_nobody();
	o.image = b.image;
	o.len_bytes = b.nr_pages * PAGE;
	for (uint32_t i = 0; i < 2; i++) {
		mem = mmap(NULL, o.len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fln_image_memfd(b.image), 0);
		CHECK(mem != MAP_FAILED, "mmap: %s", strerror(errno));
		o.addr = (uintptr_t)mem;
		o.delivery = i == 0 ? FLN_DELIVERY_QUEUED : FLN_DELIVERY_IN_CONTEXT;
		OK(fln_region_add(b.guest, &o, &region));
		/* A second one there is still seen. */
		REFUSED(fln_region_add(b.guest, &o, &(struct fln_region *){ NULL }), -EEXIST, NULL);
		OK(fln_sigbus_install());
		OK(fln_thread_enter());
		for (uint64_t page = 0; page < b.nr_pages; page++)
			CHECK(*(const uint64_t *)((char *)mem + page * PAGE) ==
				      word_of(b.maker.salt, page, 0),
			      "page %llu is wrong", (unsigned long long)page);
		fln_thread_leave();
		OK(fln_sigbus_remove());
		OK(fln_region_remove(region));
		(void)munmap(mem, o.len_bytes);
	}
	bed_down(&b);
}

/* Runs @fn in a process of its own; false when it skipped. */
static bool apart(const char *name, void (*fn)(void))
{
	int status = 0;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		test_run(name, fn);
		(void)fflush(NULL);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
	CHECK(!WIFSIGNALED(status), "%s: ended by signal %d", name, WTERMSIG(status));
	CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == SKIPPED, "%s: status %d", name,
	      WEXITSTATUS(status));
	return WEXITSTATUS(status) == 0;
}
#define APART(fn) ((void)apart(#fn, fn))

int main(void)
{
	/* Which leaves no engine in this process. */
	if (!apart("test_init", test_init))
		return SKIPPED;
	if (getuid() != 0)
		flags = FLN_ENGINE_F_USER_MODE_ONLY;
	APART(no_more_threads);
	APART(a_deadline_thread);
	APART(clone3_refused);
	APART(sigaction_refused);
	APART(sigaction_refused_later);
	APART(locked_memory);
	APART(no_nodes);
	APART(no_sys);
	APART(no_proc);
	APART(another_device);
	APART(call_refused_by_eperm);
	APART(call_refused_by_enosys);
	APART(privileges_given_up);
	return 0;
}
