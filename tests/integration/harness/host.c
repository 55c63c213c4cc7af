/* SPDX-License-Identifier: MIT */
/* What this host permits its user, and its userfaultfd without the library. */
#include "tests/integration/harness/host.h"

#include "tests/integration/harness/touch.h"
#include "tests/integration/harness/verdict.h"

#include <errno.h>
#include <faultlane/engine.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static uint64_t engine_flags;

void test_init(void)
{
	struct fln_engine_opts opts = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine;
	uint64_t bits = 0;
	int rc;

	touch_signals();
	test_watch();
	OK(fln_query_features(0, &bits));
	if (!(bits & FLN_FEATURE_QUEUED)) {
		engine_flags = opts.flags = FLN_ENGINE_F_USER_MODE_ONLY;
		OK(fln_query_features(engine_flags, &bits));
	}
	if (!(bits & FLN_FEATURE_QUEUED))
		test_skip("this user may have no userfaultfd, or the kernel's lacks minor faults");
	rc = fln_engine_create(&opts, &engine);
	if (rc == -ENOSYS || rc == -EOPNOTSUPP)
		test_skip("%s", fln_last_error());
	OK(rc);
	OK(fln_engine_destroy(engine));
}

uint64_t test_engine_flags(void)
{
	return engine_flags;
}

static int open_uffd(void)
{
	int dev, fd = -1;

	if (!engine_flags) {
		dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (dev >= 0) {
			fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
			(void)close(dev);
		}
		if (fd < 0)
			fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	return fd;
}

int raw_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = open_uffd();

	CHECK(fd >= 0, "userfaultfd: %s", strerror(errno));
	CHECK(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API: %s", strerror(errno));
	return fd;
}

int raw_register(int uffd, void *addr, uint64_t len, uint64_t mode)
{
	struct uffdio_register arg = { .range = { (uintptr_t)addr, len }, .mode = mode };

	return ioctl(uffd, UFFDIO_REGISTER, &arg) == 0 ? 0 : errno;
}

int raw_unregister(int uffd, void *addr, uint64_t len)
{
	struct uffdio_range arg = { (uintptr_t)addr, len };

	return ioctl(uffd, UFFDIO_UNREGISTER, &arg) == 0 ? 0 : errno;
}
