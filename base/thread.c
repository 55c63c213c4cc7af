/* SPDX-License-Identifier: MIT */
/*
 * The engine's threads: created and joined by the thread that starts or stops them; each sets up
 * its own name and signal mask when it begins, and restores what it found when it ends.
 */
#include "base/thread.h"

#include "base/error.h"
#include "base/lock.h"

#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const kind_names[] = {
	[FLN_THREAD_WORKER] = "worker", [FLN_THREAD_FILLER] = "filler", [FLN_THREAD_LINK] = "link",
	[FLN_THREAD_GUARD] = "guard",   [FLN_THREAD_ENDER] = "ender",
};

_Static_assert(sizeof(kind_names) / sizeof(kind_names[0]) == FLN_THREAD_NR_KINDS,
	       "every kind has a name");

/*
 * SCHED_DEADLINE, which some C libraries do not define.  A thread of this policy can create
 * threads only with SCHED_FLAG_RESET_ON_FORK.
 */
#define POLICY_DEADLINE 6

int fln_thread_refused(int err, const char *name, uint32_t index)
{
	const char *remedy = "raise RLIMIT_NPROC or the cgroup's pids.max";
	int policy = sched_getscheduler(0);
	struct rlimit locked;

	if (err == EPERM || err == EACCES)
		remedy = "permit clone3 in the seccomp filter, or let it fail with ENOSYS";
	else if (policy >= 0 && (policy & ~SCHED_RESET_ON_FORK) == POLICY_DEADLINE &&
		 !(policy & SCHED_RESET_ON_FORK))
		remedy =
			"a SCHED_DEADLINE thread may not create threads: call from another one, or "
			"set SCHED_FLAG_RESET_ON_FORK";
	else if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
		remedy = "raise RLIMIT_NPROC or the cgroup's pids.max; after "
			 "mlockall(MCL_FUTURE) also RLIMIT_MEMLOCK, which counts thread stacks";
	return fln_fail(err == EPERM || err == EACCES ? EPERM : EAGAIN, "%s thread %u: %s; %s",
			name, index, strerror(err), remedy);
}

int fln_thread_create(struct fln_thread *t, const struct fln_thread_hooks *hooks,
		      enum fln_thread_kind kind, uint32_t index, void *(*main)(void *), void *arg)
{
	sigset_t before;
	int rc;

	memset(t, 0, sizeof(*t));
	t->hooks = hooks && hooks->create ? hooks : NULL;
	fln_signals_block(&before);
	if (t->hooks) {
		fln_lock_assert_none(); /* I2: the hook is the embedder's code */
		rc = t->hooks->create(t->hooks->ctx, kind, index, main, arg, &t->handle);
		rc = rc > 0 ? -EINVAL : rc;
	} else {
		rc = -pthread_create(&t->thread, NULL, main, arg);
	}
	fln_signals_restore(&before);
	if (rc == 0)
		return 0;
	if (t->hooks)
		return fln_fail(-rc, "%s thread %u: the embedder's create hook failed: %s",
				kind_names[kind], index, strerror(-rc));
	return fln_thread_refused(-rc, kind_names[kind], index);
}

void fln_thread_join(struct fln_thread *t)
{
	if (t->hooks)
		t->hooks->join(t->hooks->ctx, t->handle);
	else
		(void)pthread_join(t->thread, NULL);
}

static pid_t thread_id(void)
{
	return (pid_t)syscall(SYS_gettid);
}

void fln_thread_begin(struct fln_thread_before *before, enum fln_thread_kind kind, uint32_t index)
{
	char name[16];

	fln_signals_ours_begin(&before->ours);
	fln_signals_block(&before->signals);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before->cancel);
	if (pthread_getname_np(pthread_self(), before->name, sizeof(before->name)) != 0)
		before->name[0] = '\0';
	before->cpu_bytes =
		syscall(SYS_sched_getaffinity, thread_id(), sizeof(before->cpus), before->cpus);
	before->nice = getpriority(PRIO_PROCESS, (id_t)thread_id());
	(void)snprintf(name, sizeof(name), "fln-%s-%u", kind_names[kind], index % 1000);
	(void)pthread_setname_np(pthread_self(), name);
}

void fln_thread_end(const struct fln_thread_before *before)
{
	/* Best effort: the kernel may not permit a lower nice value. */
	if (getpriority(PRIO_PROCESS, (id_t)thread_id()) != before->nice)
		(void)setpriority(PRIO_PROCESS, (id_t)thread_id(), before->nice);
	if (before->cpu_bytes > 0)
		(void)syscall(SYS_sched_setaffinity, thread_id(), (size_t)before->cpu_bytes,
			      before->cpus);
	if (before->name[0])
		(void)pthread_setname_np(pthread_self(), before->name);
	/*
	 * Leaves SIGXFSZ and SIGPIPE blocked until fln_signals_ours_end() has discarded those that
	 * our own system calls raised.
	 */
	fln_signals_restore(&before->signals);
	fln_signals_ours_end(&before->ours);
	(void)pthread_setcancelstate(before->cancel, NULL);
}
