/* SPDX-License-Identifier: MIT */
/*
 * A user without the privilege: the refusal says what to do, and faults of user
 * mode can be served nevertheless.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define NOBODY 65534u

static void become_nobody(void)
{
	if (getuid() != 0)
		return;
	if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
		test_skip("cannot become another user: %s", strerror(errno));
	(void)prctl(PR_SET_DUMPABLE, 1);
}

static bool unprivileged_is_enough(void)
{
	int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	char c = '0';

	if (fd >= 0) {
		(void)!read(fd, &c, 1);
		(void)close(fd);
	}
	return c == '1' || access("/dev/userfaultfd", R_OK | W_OK) == 0;
}

static struct peer peer;
static uint64_t peer_addr;
static int peer_uffd = -1;

/* An engine may be: what it may not have are userfaultfds of its own. */
static void refused(void)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	struct fln_guest *guest = (void *)0x1;
	struct fln_engine *engine;
	int rc;

	if (unprivileged_is_enough()) {
		test_note("SKIP: every user may have userfaultfd here");
		return;
	}
	OK(fln_engine_create(&o, &engine));
	rc = fln_guest_create(engine, NULL, &guest);
	CHECK(rc == -EPERM || rc == -EACCES, "returned %d: %s", rc, fln_last_error());
	CHECK(guest == (void *)0x1, "out was written");
	CHECK(strstr(fln_last_error(), "/dev/userfaultfd") &&
		      strstr(fln_last_error(), "unprivileged_userfaultfd"),
	      "'%s' names no remedy", fln_last_error());
	OK(fln_engine_destroy(engine));
}

/* Another process's userfaultfd, which had the privilege, is served without any. */
static void foreign(void)
{
	uint64_t value;
	struct bed b;

	if (peer_uffd < 0) {
		test_note("SKIP: no privileged process has handed a userfaultfd over");
		return;
	}
	bed_init(&b, 100);
	b.engine_opts.flags = 0;
	b.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	b.guest_opts.foreign_uffd = peer_uffd;
	b.region_opts.addr = peer_addr;
	bed_up(&b);
	for (uint64_t page = 0; page < 100; page += 7)
		CHECK(peer_do(&peer, PEER_READ, page * PAGE, 0, -1, NULL, &value) == TOUCH_OK &&
			      value == word_of(1, page, 0),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	bed_down(&b);
}

static void user_mode_only(void)
{
	struct bed b;

	bed_init(&b, 3000);
	b.engine_opts.flags |= FLN_ENGINE_F_USER_MODE_ONLY;
	bed_up(&b);
	read_all(&b, 100);
	bed_down(&b);
}

int main(void)
{
	if (getuid() == 0) {
		peer_start(&peer);
		if (peer_do(&peer, PEER_FOREIGN, 0, 100 * PAGE, -1, &peer_uffd, &peer_addr) != 0)
			peer_uffd = -1;
	}
	become_nobody();
	test_init();
	RUN(refused);
	RUN(foreign);
	RUN(user_mode_only);
	if (peer.pid)
		peer_stop(&peer);
	return 0;
}
