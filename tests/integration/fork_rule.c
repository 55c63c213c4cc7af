/* SPDX-License-Identifier: MIT */
/*
 * A process with a running engine forks: the child's calls are refused and change
 * nothing, it ends as processes do, and the parent goes on.
 */
#include "engine/events.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "sources/image.h"
#include "tests/integration/harness.h"

#include <errno.h>
#include <faultlane/advice.h>
#include <faultlane/base.h>
#include <faultlane/context.h>
#include <faultlane/engine.h>
#include <faultlane/event.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <faultlane/stats.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: the harness may not be used, for its locks may be held. */
#define CHILD(cond)                                                                     \
	do {                                                                            \
		if (!(cond)) {                                                          \
			(void)!write(2, "child: " #cond "\n", sizeof("child: " #cond)); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

static void refused_calls(struct bed *b)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_stats stats = FLN_STATS_INIT;
	struct fln_event event = FLN_EVENT_INIT;
	struct fln_engine *engine = NULL;
	struct fln_guest *guest = NULL;
	struct fln_region *region = NULL;
	struct fln_image *image = NULL;
	static char buf[PAGE];

	CHILD(fln_engine_create(&engine_opts, &engine) == -ECHILD && !engine);
	CHILD(strstr(fln_last_error(), "fln_engine_create"));
	CHILD(fln_engine_start(b->engine) == -ECHILD);
	CHILD(fln_engine_next_event(b->engine, &event) == -ECHILD);
	CHILD(fln_engine_stats_prometheus(b->engine, buf, sizeof(buf)) == -ECHILD);
	CHILD(fln_guest_create(b->engine, NULL, &guest) == -ECHILD && !guest);
	CHILD(fln_guest_start(b->guest) == -ECHILD);
	CHILD(fln_guest_stats(b->guest, &stats) == -ECHILD);
	CHILD(fln_guest_stats_json(b->guest, buf, sizeof(buf)) == -ECHILD);
	CHILD(fln_shard_stats(b->guest, 0, &stats) == -ECHILD);
	CHILD(fln_region_add(b->guest, &b->region_opts, &region) == -ECHILD && !region);
	CHILD(fln_image_create(b->engine, &b->image_opts, &image) == -ECHILD && !image);
	CHILD(fln_image_put(b->image, 0, buf, PAGE) == -ECHILD);
	CHILD(fln_image_fill(b->image, 0, PAGE) == -ECHILD);
	CHILD(fln_image_discard(b->image, 0, PAGE) == -ECHILD);
	CHILD(fln_guest_populate(b->guest, (uintptr_t)b->mem, PAGE, NULL) == -ECHILD);
	CHILD(fln_guest_advise(b->guest, (uintptr_t)b->mem, PAGE, FLN_ADVICE_DONTNEED) == -ECHILD);
	CHILD(fln_guest_stop(b->guest) == -ECHILD);
	CHILD(fln_region_remove(b->region) == -ECHILD);
	CHILD(fln_guest_destroy(b->guest) == -ECHILD);
	CHILD(fln_image_destroy(b->image) == -ECHILD);
	CHILD(fln_engine_stop(b->engine) == -ECHILD);
	CHILD(fln_engine_destroy(b->engine) == -ECHILD);
	CHILD(fln_thread_enter() == -ECHILD);
	/* What asks for nothing. */
	CHILD(fln_engine_destroy(NULL) == 0 && fln_guest_destroy(NULL) == 0);
	CHILD(fln_image_destroy(NULL) == 0 && fln_region_remove(NULL) == 0);
	CHILD(fln_engine_nr_workers(b->engine) > 0 && fln_version()[0]);
	CHILD(fln_region_addr(b->region) == b->mem);
}

static int wait_for(pid_t pid)
{
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now_ns() > end) {
			(void)kill(pid, SIGKILL);
			CHECK(false, "the child has not ended");
		}
		sleep_ms(2);
	}
	return status;
}

/*
 * LeakSanitizer looks for leaks in a child that calls exit(), too, and waits for ever for
 * its allocator's lock where another thread had it at the fork().
 */
static bool is_child;
int __lsan_is_turned_off(void);
__attribute__((visibility("default"))) int __lsan_is_turned_off(void)
{
	return is_child;
}

static pid_t fork_a_child(struct bed *b, bool by_exit)
{
	pid_t pid = fork();

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	is_child = true;
	(void)alarm(WAIT_S);
	refused_calls(b);
	if (by_exit)
		exit(0); /* with all that is registered for it */
	_exit(0);
}

struct touching {
	struct bed *bed;
	_Atomic bool stop;
};

static void touch_and_count(void *arg, uint32_t index)
{
	struct touching *t = arg;
	struct fln_stats stats = FLN_STATS_INIT;
	uint64_t random = index + 1, value;

	while (!atomic_load(&t->stop)) {
		uint64_t page = next_random(&random) % t->bed->nr_pages;

		CHECK(touch_read(bed_page(t->bed, page), &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
		OK(fln_guest_stats(t->bed->guest, &stats));
	}
}

static void children_are_refused(void)
{
	struct pollfd p = { .events = POLLIN };
	struct touching t = { .stop = false };
	struct crew crew;
	struct bed b;

	bed_init(&b, 40000);
	b.maker.delay_ns = MS / 10;
	bed_up(&b);
	t.bed = &b;
	crew_start(&crew, 8, touch_and_count, &t);
	for (uint32_t i = 0; i < test_scale(6, 20, 60); i++) {
		int status;

		STEP("child %u", i);
		status = wait_for(fork_a_child(&b, i % 2));
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: status 0x%x",
		      (unsigned)status);
	}
	atomic_store(&t.stop, true);
	crew_wait(&crew, 60, "threads that touch while children come and go");
	read_all(&b, 8);
	/* The children have taken none of the parent's events. */
	p.fd = fln_engine_event_fd(b.engine);
	CHECK(poll(&p, 1, WAIT_S * 1000) == 1, "the image's event is gone");
	bed_down(&b);
}

/* A process that forks first and makes its engine then is like any other. */
static void fork_first(void)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		struct bed b;

		test_init();
		bed_init(&b, 600);
		bed_up(&b);
		read_all(&b, 2);
		bed_down(&b);
		exit(0);
	}
	status = wait_for(pid);
	CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77),
	      "the child: status 0x%x", (unsigned)status);
}

int main(void)
{
	fork_first();
	test_init(); /* has an engine */
	RUN(children_are_refused);
	return 0;
}
