/* SPDX-License-Identifier: MIT */
/*
 * A process that has handed its userfaultfd over forks: its children are not served, read
 * no zeros where contents are due, and leave no descriptor behind.
 */
#include "tests/integration/harness.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 1536u
#define LEN (NR_PAGES * PAGE)
#define NR_TOUCHED 40u /* pages, each seventh */

static uint8_t *mem;

static void begin(struct bed *b)
{
	uint64_t value;
	int uffd;

	bed_init(b, NR_PAGES);
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	(void)madvise(mem, LEN, MADV_NOHUGEPAGE);
	uffd = raw_uffd(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMOVE |
			UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP);
	CHECK(raw_register(uffd, mem, LEN, UFFDIO_REGISTER_MODE_MISSING) == 0, "register");
	b->guest_opts.flags = FLN_GUEST_F_FOREIGN;
	b->guest_opts.foreign_uffd = uffd;
	b->guest_opts.window_first = b->guest_opts.window_max = 1;
	b->region_opts.addr = (uintptr_t)mem;
	bed_up(b);
	for (uint32_t i = 0; i < NR_TOUCHED; i++)
		CHECK(touch_read(mem + 7 * i * PAGE, &value) == TOUCH_OK &&
			      value == word_of(1, 7 * i, 0),
		      "page %u in the parent: 0x%llx", 7 * i, (unsigned long long)value);
}

static void end(struct bed *b)
{
	bed_down(b);
	(void)munmap(mem, LEN);
}

static pid_t forked(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	return pid;
}

static int wait_child(pid_t pid, const char *what)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		CHECK(now_ns() < until, "%s: the child has not ended after %u s", what, WAIT_S);
		sleep_ms(1);
	}
	return status;
}

/* In a child: what the parent had is there, the rest a signal.  Else exit() with the page. */
static void look(uint8_t *at, uint64_t first, uint64_t nr)
{
	uint64_t value;

	for (uint64_t i = 0; i < nr; i++) {
		uint64_t page = first + i;
		enum touch t = touch_read(at + i * PAGE, &value);
		bool had = page % 7 == 0 && page / 7 < NR_TOUCHED;

		if (had ? t != TOUCH_OK || value != word_of(1, page, 0) : t != TOUCH_SIGBUS) {
			test_note("page %llu of the child: the thread %s, 0x%llx",
				  (unsigned long long)page, touch_name(t),
				  (unsigned long long)value);
			_exit(1);
		}
	}
}

/* The guard closes what children have left, soon, or at its next look. */
static void expect_fds(uint32_t nr)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;

	while (count_fds() > nr) {
		CHECK(now_ns() < until, "%u descriptors are open after %u s, %u before",
		      count_fds(), WAIT_S, nr);
		sleep_ms(5);
	}
}

static void a_child_and_a_child_of_it(void)
{
	uint32_t fds;
	struct bed b;
	pid_t pid;

	begin(&b);
	fds = count_fds();
	pid = forked();
	if (pid == 0) {
		pid = forked();
		look(mem, 0, NR_PAGES);
		_exit(pid == 0 ? 0 : wait_child(pid, "the grandchild") != 0);
	}
	CHECK(wait_child(pid, "the child") == 0, "the child has seen something else");
	expect_fds(fds);
	end(&b);
}

/* More than there is room for at a time: what has ended leaves nothing. */
static void many_children(void)
{
	uint32_t fds, nr = 100;
	struct bed b;

	begin(&b);
	fds = count_fds();
	for (uint32_t i = 0; i < nr; i++) {
		pid_t pid = forked();

		if (pid == 0)
			_exit(0);
		(void)wait_child(pid, "one of many");
	}
	expect_fds(fds);
	end(&b);
	expect_fds(fds - 1);
}

/* It lives on when the guest has gone. */
static void a_child_outlives_the_guest(void)
{
	int go[2];
	struct bed b;
	pid_t pid;
	char c;

	CHECK(pipe(go) == 0, "pipe: %s", strerror(errno));
	begin(&b);
	pid = forked();
	if (pid == 0) {
		(void)!read(go[0], &c, 1);
		look(mem, 0, NR_PAGES);
		_exit(0);
	}
	end(&b);
	CHECK(write(go[1], "", 1) == 1, "write");
	CHECK(wait_child(pid, "the child") == 0, "the child has seen something else");
	(void)close(go[0]);
	(void)close(go[1]);
}

/* It moves its memory at once: it waits there, or dies, and what it leaves is closed when it ends. */
static void a_child_moves_its_memory(void)
{
	uint8_t *to = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t fds;
	struct bed b;
	pid_t pid;
	int status;

	begin(&b);
	fds = count_fds();
	pid = forked();
	if (pid == 0) {
		void *p = mremap(mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to);

		if (p != to)
			_exit(2);
		look(to, 0, NR_PAGES);
		_exit(0);
	}
	sleep_ms(300);
	(void)kill(pid, SIGKILL);
	status = wait_child(pid, "the child");
	CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
	      "the child ended with 0x%x", status);
	expect_fds(fds);
	end(&b);
	(void)munmap(to, LEN);
}

int main(void)
{
	test_init();
	if (test_engine_flags())
		test_skip("UFFD_FEATURE_EVENT_FORK needs CAP_SYS_PTRACE");
	RUN(a_child_and_a_child_of_it);
	RUN(many_children);
	RUN(a_child_outlives_the_guest);
	RUN(a_child_moves_its_memory);
	return 0;
}
