/* SPDX-License-Identifier: MIT */
/*
 * REMOVE is delivered before the pages are zapped: an install between the two
 * finds a page that is about to go (EEXIST), or puts one in that is taken away
 * again.  In both cases the page faults again afterwards, and then it is served
 * with the right contents.  How often each was met is printed.
 */
#include "platform.h"

enum {
	ROUNDS = 40,
	BLOCKS = 16
};

static uint8_t *mem;
static int uffd;

static void map_all(uint64_t pages)
{
	uint64_t page = 0;

	while (page < pages) {
		uint64_t nr = pages - page < 512 ? pages - page : 512;
		int64_t mapped;
		int err = plt_continue(uffd, mem + page * PLT_PAGE, nr * PLT_PAGE, 0, &mapped);

		PLT_CHECK(err == 0 || err == EEXIST || (err == EAGAIN && mapped > 0),
			  "CONTINUE: %s", strerror(err));
		page += err == EEXIST ? 1 : (uint64_t)mapped / PLT_PAGE;
	}
}

/* Touch, serve what comes, and say whether anything did. */
static bool refaults(uint8_t *at)
{
	struct plt_toucher *t = plt_touch_read(at);
	uint64_t until = plt_now_ns() + (uint64_t)PLT_WAIT_MS * 1000000u;
	bool any = false;

	while (plt_touch_wait(t, 0) == PLT_PENDING) {
		struct uffd_msg msg;

		PLT_CHECK(plt_now_ns() < until, "waited 8 s for a touch, or for its message");
		if (!plt_poll(uffd, 1) || plt_read(uffd, &msg, 1) == 0)
			continue;
		any = true;
		plt_expect_err(plt_continue(uffd, at, PLT_PAGE, 0, NULL), 0,
			       "CONTINUE of a page that was zapped");
	}
	plt_expect_value(t, 0x54, "contents after MADV_DONTNEED");
	return any;
}

int main(void)
{
	const uint64_t pages = BLOCKS * PLT_BLOCK / PLT_PAGE;
	unsigned int exists = 0;
	unsigned int lost = 0;
	unsigned int kept = 0;
	uint8_t *last;
	int fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
	fd = plt_memfd(BLOCKS * PLT_BLOCK);
	plt_fill(fd, 0, pages, 0x54);
	mem = plt_map(fd, BLOCKS * PLT_BLOCK, MAP_SHARED);
	last = mem + (pages - 1) * PLT_PAGE;
	plt_register(uffd, mem, BLOCKS * PLT_BLOCK, PLT_BOTH);

	for (int i = 0; i < ROUNDS; i++) {
		struct plt_task task = { .fn = plt_do_madvise,
					 .addr = mem,
					 .len = BLOCKS * PLT_BLOCK,
					 .arg = MADV_DONTNEED };
		uint64_t until;
		bool again;
		int err;

		/* The last page is there in one round and missing in the next. */
		map_all(i % 2 ? pages - 1 : pages);
		plt_task_start(&task);
		plt_expect_event(uffd, UFFD_EVENT_REMOVE, "discard");
		until = plt_now_ns() + (uint64_t)PLT_WAIT_MS * 1000000u;
		do {
			PLT_CHECK(plt_now_ns() < until,
				  "waited 8 s after the REMOVE was read for EAGAIN to end");
			err = plt_continue(uffd, last, PLT_PAGE, 0, NULL);
		} while (err == EAGAIN);
		PLT_CHECK(err == 0 || err == EEXIST, "CONTINUE after REMOVE: %s", strerror(err));
		plt_expect_err(plt_task_wait(&task, "madvise"), 0, "madvise");
		again = refaults(last);
		PLT_CHECK(err == 0 || again,
			  "expected a page that was there before the zap to fault again");
		exists += err == EEXIST;
		lost += err == 0 && again;
		kept += err == 0 && !again;
		plt_madvise_served(uffd, last, PLT_PAGE, MADV_DONTNEED);
	}
	plt_note("install after REMOVE was read, %d rounds: found the page not yet zapped (EEXIST) "
		 "%u times, was itself zapped %u times, stayed %u times",
		 ROUNDS, exists, lost, kept);
	plt_pass();
}
