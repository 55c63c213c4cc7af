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

static void refused(void)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine = (void *)0x1;
	int rc;

	if (unprivileged_is_enough()) {
		test_note("SKIP: every user may have userfaultfd here");
		return;
	}
	rc = fln_engine_create(&o, &engine);
	CHECK(rc == -EPERM || rc == -EACCES, "returned %d: %s", rc, fln_last_error());
	CHECK(engine == (void *)0x1, "out was written");
	CHECK(strstr(fln_last_error(), "/dev/userfaultfd") &&
		      strstr(fln_last_error(), "unprivileged_userfaultfd"),
	      "'%s' names no mend", fln_last_error());
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
	become_nobody();
	test_init();
	RUN(refused);
	RUN(user_mode_only);
	return 0;
}
