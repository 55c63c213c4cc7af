/* SPDX-License-Identifier: MIT */
/* Forked children that keep the guest's memory: many shards, many children, and an end under them. */
#include "tests/integration/harness.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_child(pid_t pid, const char *what)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		CHECK(now_ns() < until, "%s: the child has not ended after %u s", what, WAIT_S);
		sleep_ms(1);
	}
	CHECK(status == 0, "%s: the child ended with status 0x%x", what, status);
}

static void read_some(const struct bed *b, uint64_t first, uint64_t step)
{
	uint64_t value;

	for (uint64_t page = first; page < b->nr_pages; page += step) {
		enum touch end = touch_read(bed_page(b, page), &value);

		CHECK(end == TOUCH_OK && value == word_of(1, page, 0),
		      "page %llu of the child: the thread %s, 0x%llx", (unsigned long long)page,
		      touch_name(end), (unsigned long long)value);
	}
}

/* A userfaultfd of the child's for each of 32 shards. */
static void many_shards(void)
{
	struct bed b;
	pid_t pid;

	bed_init(&b, 512 * 40);
	b.guest_opts.flags = FLN_GUEST_F_FORK;
	b.guest_opts.nr_shards = 32;
	bed_up(&b);
	read_some(&b, 3, 1024);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		read_some(&b, 0, 100);
		_exit(0);
	}
	read_some(&b, 50, 100);
	wait_child(pid, "32 shards");
	bed_down(&b);
}

/* One child after the other, more than are followed at a time: what ends makes room. */
static void many_children(void)
{
	struct bed b;

	bed_init(&b, 512 * 4);
	b.guest_opts.flags = FLN_GUEST_F_FORK;
	b.guest_opts.nr_shards = 2;
	bed_up(&b);
	for (uint32_t i = 0; i < 24; i++) {
		pid_t pid;

		STEP("child %u", i);
		pid = fork();
		CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0) {
			read_some(&b, i, 64);
			_exit(0);
		}
		wait_child(pid, "one child of many");
	}
	bed_down(&b);
}

/* The guest stops while the child waits: SIGBUS there, never zeros. */
static void stopped_under_a_child(void)
{
	struct bed b;
	pid_t pid;

	bed_init(&b, 512 * 4);
	b.guest_opts.flags = FLN_GUEST_F_FORK;
	bed_up(&b);
	read_some(&b, 0, 700);
	atomic_store(&b.maker.gate_closed, true);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		uint64_t value;

		for (uint64_t page = 1; page < b.nr_pages; page += 3) {
			enum touch end = touch_read(bed_page(&b, page), &value);

			CHECK(end == TOUCH_SIGBUS ||
				      (end == TOUCH_OK && value == word_of(1, page, 0)),
			      "page %llu of the child: the thread %s, 0x%llx",
			      (unsigned long long)page, touch_name(end), (unsigned long long)value);
		}
		_exit(0);
	}
	sleep_ms(30);
	STEP("fln_guest_stop under a child that waits");
	OK(fln_guest_stop(b.guest));
	wait_child(pid, "stopped under a child");
	atomic_store(&b.maker.gate_closed, false);
	bed_down(&b);
}

/* What a child gives up while it is not filled is zero for all: the memory is shared. */
static void given_up_by_a_child(void)
{
	uint64_t value;
	struct bed b;
	pid_t pid;

	bed_init(&b, 512 * 4);
	b.engine_opts.fill_pages = 1;
	b.guest_opts.flags = FLN_GUEST_F_FORK;
	bed_up(&b);
	read_some(&b, 0, 700);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		_exit(madvise(bed_page(&b, 100), 10 * PAGE, MADV_REMOVE) == 0 ? 0 : 1);
	wait_child(pid, "MADV_REMOVE in a child");
	CHECK(touch_read(bed_page(&b, 105), &value) == TOUCH_OK && value == 0,
	      "a page that a child gave up reads 0x%llx", (unsigned long long)value);
	CHECK(touch_read(bed_page(&b, 110), &value) == TOUCH_OK && value == word_of(1, 110, 0),
	      "the page behind");
	bed_down(&b);
}

int main(void)
{
	test_init();
	if (test_engine_flags())
		test_skip("following fork() needs CAP_SYS_PTRACE");
	RUN(many_shards);
	RUN(many_children);
	RUN(stopped_under_a_child);
	RUN(given_up_by_a_child);
	return 0;
}
