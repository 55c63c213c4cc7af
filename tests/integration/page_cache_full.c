/* SPDX-License-Identifier: MIT */
/*
 * Page cache that runs out: faults wait until there is some again.  A small tmpfs
 * stands for the machine's memory; it is mounted where nobody else sees it.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#define NR_PAGES 64u

static char dir[] = "/tmp/fln-full-XXXXXX";

/* Before there are threads; skips the test where it is not permitted. */
static void mount_small(void)
{
	CHECK(mkdtemp(dir), "mkdtemp: %s", strerror(errno));
	if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
		(void)rmdir(dir);
		test_skip("no mount namespace: %s", strerror(errno));
	}
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", dir, "tmpfs", 0, "size=64k") != 0) {
		(void)rmdir(dir);
		test_skip("no tmpfs of our own: %s", strerror(errno));
	}
}

static void unmount(void)
{
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
}

static int open_file(void)
{
	char path[sizeof(dir) + 8];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/image", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, NR_PAGES * PAGE) == 0, "%s: %s", path, strerror(errno));
	return fd;
}

static void faults_wait_for_memory(void)
{
	char buf[PAGE] = { 7 };
	struct toucher held;
	uint64_t before;
	struct bed b;
	int fd = open_file();

	bed_init(&b, NR_PAGES);
	b.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_UNSEALED;
	b.image_opts.memfd = fd;
	maker_source(&b.maker, &b.source);
	b.image_opts.source = b.source;
	bed_up(&b);
	toucher_read(&held, bed_page(&b, NR_PAGES - 1));
	before = cpu_ns();
	toucher_expect_asleep(&held, 500, "there is no page cache");
	CHECK(TEST_TSAN || cpu_ns() - before < 250 * MS, "%llu ms of processor time for waiting",
	      (unsigned long long)((cpu_ns() - before) / MS));
	wait_log(&b.log, FLN_LOG_WARNING, "remount");
	REFUSED(fln_image_put(b.image, (NR_PAGES - 2) * PAGE, buf, PAGE), -ENOSPC, "remount");
	CHECK(mount("none", dir, "tmpfs", MS_REMOUNT, "size=4m") == 0, "%s", strerror(errno));
	toucher_expect_value(&held, word_of(1, NR_PAGES - 1, 0), "there is memory again");
	read_all(&b, 4);
	bed_down(&b);
	(void)close(fd);
}

int main(void)
{
	mount_small();
	(void)atexit(unmount);
	test_init();
	RUN(faults_wait_for_memory);
	return 0;
}
