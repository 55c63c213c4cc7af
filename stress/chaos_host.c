/* SPDX-License-Identifier: MIT */
/*
 * What a host does to a process without being asked: memory is locked as it is mapped,
 * khugepaged makes large pages of small ones, page-table entries and page cache are reclaimed,
 * and the whole process is stopped for a while.
 *
 * A separate process, the keeper, changes host settings and restores them.  It is orphaned and
 * has a session of its own, so that it restores them also when this process is killed with its
 * children or its group.  The keeper also stops and continues this process.
 */
#include "stress/chaos_host.h"

#include "stress/chaos_discard.h"
#include "stress/chaos_regions.h"
#include "stress/collapse.h"
#include "stress/complain.h"
#include "stress/stage.h"
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

/* Time between two freezes that are longer than the source timeout. */
#define LONG_FREEZES_APART_NS UINT64_C(8000000000)

#define THP "/sys/kernel/mm/transparent_hugepage/"

static const struct setting {
	const char *path, *value;
} settings[] = {
	{ THP "shmem_enabled", "advise" },
	{ THP "khugepaged/scan_sleep_millisecs", "5" },
	{ THP "khugepaged/alloc_sleep_millisecs", "0" },
	{ THP "khugepaged/pages_to_scan", "100000" },
	{ THP "khugepaged/max_ptes_none", "511" },
};

#define NR_SETTINGS (sizeof(settings) / sizeof(settings[0]))

enum order {
	ORDER_COLLAPSE, /* settings as above */
	ORDER_PUT_BACK,
	ORDER_FREEZE
};

struct message {
	uint32_t order, ms;
};

static struct keeper {
	int fd;   /* this process's end; the keeper exits when it is closed */
	int self; /* a pidfd of this process */
	bool may_collapse, may_lock, may_page_out, may_reclaim, may_drop;
	bool collapses; /* the keeper has been told to change the settings */
	char reclaim[256];
	uint64_t frozen_ns; /* when the last long freeze ended */
} keeper = { .fd = -1, .self = -1 };

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		(void)close(fd);
	return done;
}

/* Read the value, or the one in brackets where the file lists several. */
static bool read_setting(const char *path, char *value, size_t size)
{
	char line[128] = "", *begin, *end;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;

	if (fd >= 0)
		(void)close(fd);
	if (n <= 0)
		return false;
	begin = strchr(line, '[');
	begin = begin ? begin + 1 : line;
	end = begin + strcspn(begin, "]\n");
	*end = '\0';
	(void)snprintf(value, size, "%s", begin);
	return true;
}

/* The keeper. */

static char before[NR_SETTINGS][64];

static void restore_settings(void)
{
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		if (before[i][0])
			(void)write_text(settings[i].path, before[i]);
	}
}

static void change_settings(void)
{
	for (size_t i = 0; i < NR_SETTINGS; i++)
		(void)write_text(settings[i].path, settings[i].value);
}

static void freeze(int whom, uint32_t ms)
{
	if (syscall(SYS_pidfd_send_signal, whom, SIGSTOP, NULL, 0) != 0)
		return;
	sleep_ms(ms);
	(void)syscall(SYS_pidfd_send_signal, whom, SIGCONT, NULL, 0);
}

static _Noreturn void keeper_main(int fd, int whom)
{
	struct pollfd fds[2] = { { .fd = fd, .events = POLLIN }, { .fd = whom, .events = POLLIN } };
	struct message m;

	(void)setsid();
	for (size_t i = 0; i < NR_SETTINGS; i++) {
		if (!read_setting(settings[i].path, before[i], sizeof(before[i])))
			before[i][0] = '\0';
	}
	for (;;) {
		(void)poll(fds, 2, -1);
		if (fds[1].revents || recv(fd, &m, sizeof(m), 0) != sizeof(m))
			break;
		if (m.order == ORDER_COLLAPSE)
			change_settings();
		else if (m.order == ORDER_PUT_BACK)
			restore_settings();
		else
			freeze(whom, m.ms);
		(void)send(fd, &m, sizeof(m), MSG_NOSIGNAL);
	}
	restore_settings();
	_exit(0);
}

/* Its parent exits at once, so that killing this process and its children spares the keeper. */
static int start_keeper(int self)
{
	int sv[2], status = 0;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) != 0)
		return -errno;
	child = fork();
	if (child == 0) {
		if (fork() != 0)
			_exit(0);
		(void)close(sv[0]);
		keeper_main(sv[1], self);
	}
	(void)close(sv[1]);
	if (child < 0 || waitpid(child, &status, 0) != child) {
		(void)close(sv[0]);
		return -EAGAIN;
	}
	keeper.fd = sv[0];
	return 0;
}

static bool tell_keeper(enum order order, uint64_t ms)
{
	struct message m = { .order = order, .ms = (uint32_t)ms };

	while (send(keeper.fd, &m, sizeof(m), MSG_NOSIGNAL) < 0) {
		if (errno != EINTR)
			return false;
	}
	for (;;) {
		ssize_t n = recv(keeper.fd, &m, sizeof(m), 0);

		if (n == sizeof(m))
			return true;
		if (n >= 0 || errno != EINTR)
			return false;
	}
}

/* The steps. */

/* The kernel populates and locks new mappings: the library must refuse them, or work the same. */
static bool lock_future(struct stress *s, struct rng *rng)
{
	bool done = false;

	if (mlockall(MCL_FUTURE) != 0)
		return false;
	for (uint32_t i = 0; i < 2; i++)
		done |= extra_look(s, rng, 64);
	return munlockall() == 0 && done;
}

static bool page_out(struct stress *s, struct rng *rng)
{
	uint64_t nr = s->nr_pages / 8, first = rng_below(rng, s->nr_pages - nr);
	struct iovec v = { .iov_base = atomic_load(&s->base) + first * PAGE_BYTES,
			   .iov_len = nr * PAGE_BYTES };

	return syscall(SYS_process_madvise, keeper.self, &v, 1, MADV_PAGEOUT, 0) > 0;
}

static bool chaos_host_freeze(uint64_t ms)
{
	stage_begin("stops the process for a while");
	return tell_keeper(ORDER_FREEZE, ms);
}

/* Longer than the source timeout, with reads under way: no page may count as late. */
static bool freeze_long(struct stress *s, struct rng *rng)
{
	bool done;

	atomic_store(&s->source.dragging, true);
	/* In the cold half, where little is filled. */
	for (uint32_t i = 0; i < TRAIL_NR; i++)
		chaos_leave_trail(s, (s->nr_pages + rng_below(rng, s->nr_pages)) / 2, 64);
	sleep_ms(100);
	done = chaos_host_freeze(STRESS_SOURCE_TIMEOUT_MS + 1000);
	atomic_store(&s->source.dragging, false);
	keeper.frozen_ns = now_ns();
	return done;
}

static bool may_freeze_long(const struct stress *s)
{
	uint64_t since = keeper.frozen_ns ? keeper.frozen_ns : atomic_load(&s->begin_ns);

	return s->opts.seconds >= 4 * STRESS_SOURCE_TIMEOUT_MS / 1000.0 &&
	       now_ns() - since > LONG_FREEZES_APART_NS;
}

bool chaos_host(struct stress *s, struct rng *rng)
{
	/* In the first step, because khugepaged takes time. */
	if (keeper.may_collapse && !keeper.collapses) {
		keeper.collapses = true;
		return tell_keeper(ORDER_COLLAPSE, 0);
	}
	if (may_freeze_long(s))
		return freeze_long(s, rng);
	switch (rng_below(rng, 7)) {
	case 0:
	case 1:
		return keeper.may_lock && lock_future(s, rng);
	case 2:
		return keeper.may_collapse &&
		       tell_keeper(rng_below(rng, 8) ? ORDER_COLLAPSE : ORDER_PUT_BACK, 0);
	case 3:
		return !s->opts.huge && collapse_elsewhere(s, rng_below(rng, s->nr_pages));
	case 4:
		return keeper.may_page_out && page_out(s, rng);
	case 5:
		if (keeper.may_reclaim && rng_below(rng, 2))
			return write_text(keeper.reclaim, "16M");
		return keeper.may_drop && write_text("/proc/sys/vm/drop_caches", "1");
	default:
		return chaos_host_freeze(10 + rng_below(rng, 150));
	}
}

/* The parts that are left out, and why. */

static void leave_out(struct stress *s, const char *what, const char *why)
{
	(void)fprintf(s->messages, "chaos host leaves out %s: %s\n", what, why);
}

static bool can_write(const char *path)
{
	return access(path, W_OK) == 0;
}

/* Find memory.reclaim of this process's cgroup (version 2, with the memory controller). */
static bool find_reclaim(char *path, size_t size)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[192];
	bool found = false;

	while (!found && f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) != 0)
			continue;
		(void)snprintf(path, size, "/sys/fs/cgroup%s/memory.reclaim", line + 3);
		found = can_write(path);
	}
	if (f)
		(void)fclose(f);
	return found;
}

static bool has_swap(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[192];
	bool has = f && fgets(line, sizeof(line), f) && fgets(line, sizeof(line), f);

	if (f)
		(void)fclose(f);
	return has;
}

static bool may_collapse(void)
{
	char value[64];

	for (size_t i = 0; i < NR_SETTINGS; i++) {
		/* Write the same value: a read-only /sys refuses that, too. */
		if (!read_setting(settings[i].path, value, sizeof(value)) ||
		    !write_text(settings[i].path, value))
			return false;
	}
	return true;
}

static bool may_lock(void)
{
	return mlockall(MCL_FUTURE) == 0 && munlockall() == 0;
}

static bool may_page_out(void)
{
	struct iovec v = { .iov_base = &keeper, .iov_len = 0 };

	return syscall(SYS_process_madvise, keeper.self, &v, 1, MADV_PAGEOUT, 0) >= 0;
}

static void undo(struct stress *s)
{
	(void)s;
	if (keeper.fd < 0)
		return;
	(void)tell_keeper(ORDER_PUT_BACK, 0);
	(void)close(keeper.fd);
	(void)close(keeper.self);
	keeper.fd = keeper.self = -1;
}

const char *chaos_host_prepare(struct stress *s)
{
	keeper.self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (keeper.self < 0)
		return "the kernel has no pidfds";
	if (start_keeper(keeper.self) != 0)
		return "no process can be started to restore settings";
	undo_at_end(undo);
	keeper.may_collapse = may_collapse();
	if (!keeper.may_collapse)
		leave_out(s, "khugepaged", "its settings in " THP " cannot be written");
	keeper.may_lock = may_lock();
	if (!keeper.may_lock)
		leave_out(s, "locked memory", "mlockall(MCL_FUTURE) is refused");
	keeper.may_page_out = may_page_out();
	if (!keeper.may_page_out)
		leave_out(s, "paging out", "process_madvise() is refused");
	else if (!has_swap())
		leave_out(s, "swap", "there is none; only page-table entries are reclaimed");
	keeper.may_reclaim = find_reclaim(keeper.reclaim, sizeof(keeper.reclaim));
	if (!keeper.may_reclaim)
		leave_out(s, "memory.reclaim",
			  "no cgroup of version 2 with a memory controller "
			  "that may be written");
	keeper.may_drop = can_write("/proc/sys/vm/drop_caches");
	if (!keeper.may_drop)
		leave_out(s, "drop_caches", "/proc/sys/vm/drop_caches cannot be written");
	return NULL;
}
