/* SPDX-License-Identifier: MIT */
/*
 * The process is stopped while faults wait for their source, for longer than the source may
 * take: SIGSTOP, as a paused container.  What was in flight is served when it goes on.
 */
#include "tests/integration/harness.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 4096u
#define TIMEOUT_MS 3500u
#define STOPPED_MS 7000u

static struct bed bed;
static int to_child[2], to_parent[2];

static void tell(int fd)
{
	CHECK(write(fd, "x", 1) == 1, "pipe: %s", strerror(errno));
}

static bool hear(int fd)
{
	char c;
	ssize_t n;

	do
		n = read(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static void prepare(void)
{
	CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0, "pipe: %s", strerror(errno));
}

/* Runs @fn in a child, which is stopped when it says so, for long, and goes on. */
static void stop_and_continue(void (*fn)(void))
{
	int status = 0;
	pid_t pid;

	prepare();
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		test_init(); /* here: a process that has had an engine forks none that may */
		fn();
		(void)fflush(NULL);
		_exit(0);
	}
	(void)close(to_parent[1]);
	if (!hear(to_parent[0])) {
		CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			exit(77);
		CHECK(false, "it ended with 0x%x", (unsigned int)status);
	}
	CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid, "SIGSTOP");
	CHECK(WIFSTOPPED(status), "it ended with 0x%x before it was stopped", (unsigned int)status);
	sleep_ms(STOPPED_MS);
	CHECK(kill(pid, SIGCONT) == 0, "SIGCONT");
	/* The threads run before the source answers: they find what they hold, and the clock. */
	sleep_ms(300);
	tell(to_child[1]);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it ended with 0x%x",
	      (unsigned int)status);
	(void)close(to_child[0]);
	(void)close(to_child[1]);
	(void)close(to_parent[0]);
}

static void begin(void)
{
	bed_init(&bed, NR_PAGES);
	bed.engine_opts.source_timeout_ns = TIMEOUT_MS * MS;
	bed.engine_opts.stall_report_ms = 2500;
	bed.guest_opts.nr_shards = 2;
	atomic_store(&bed.maker.gate_closed, true);
}

static void be_stopped(void)
{
	wait_count(&bed.maker.nr_inside, 1, WAIT_S, "the source is read");
	/* What is held has been noted. */
	sleep_ms(100);
	tell(to_parent[1]);
	CHECK(hear(to_child[0]), "the other process is gone");
	atomic_store(&bed.maker.gate_closed, false);
}

static void no_stall_is_told(void)
{
	struct fln_event e = FLN_EVENT_INIT;

	while (fln_engine_next_event(bed.engine, &e) == 1)
		CHECK(e.kind != FLN_EVENT_FAULT_STALLED && e.kind != FLN_EVENT_WORKER_STALLED &&
			      e.kind != FLN_EVENT_PAGE_POISONED,
		      "an event of kind %u", e.kind);
}

static void faults(void)
{
	struct toucher t[8];

	begin();
	bed_up(&bed);
	for (uint32_t i = 0; i < 8; i++)
		toucher_read(&t[i], bed_page(&bed, i * 500));
	be_stopped();
	for (uint32_t i = 0; i < 8; i++)
		toucher_expect_value(&t[i], word_of(bed.maker.salt, i * 500, 0), "a page");
	no_stall_is_told();
	bed_down(&bed);
}

static void *stopper_main(void *arg)
{
	(void)arg;
	be_stopped();
	return NULL;
}

static void populating(void)
{
	pthread_t thread;

	begin();
	bed_up(&bed);
	CHECK(pthread_create(&thread, NULL, stopper_main, NULL) == 0, "pthread_create");
	OK(fln_guest_populate(bed.guest, (uintptr_t)bed.mem, NR_PAGES * PAGE, NULL));
	(void)pthread_join(thread, NULL);
	no_stall_is_told();
	bed_down(&bed);
}

/* The end waits for a read, as long as a source may take. */
static void ending(void)
{
	pthread_t thread;

	begin();
	bed_up(&bed);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, PAGE, FLN_ADVICE_WILLNEED));
	wait_count(&bed.maker.nr_inside, 1, WAIT_S, "the source is read");
	CHECK(pthread_create(&thread, NULL, stopper_main, NULL) == 0, "pthread_create");
	OK(fln_guest_destroy(bed.guest));
	OK(fln_image_destroy(bed.image));
	(void)pthread_join(thread, NULL);
	OK(fln_engine_destroy(bed.engine));
}

static void run_faults(void)
{
	stop_and_continue(faults);
}

static void run_populating(void)
{
	stop_and_continue(populating);
}

static void run_ending(void)
{
	stop_and_continue(ending);
}

int main(void)
{
	RUN(run_faults);
	RUN(run_populating);
	RUN(run_ending);
	return 0;
}
