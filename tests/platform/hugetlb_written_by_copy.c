/* SPDX-License-Identifier: MIT */
/*
 * hugetlb has no write().  process_vm_writev() to this process fills a mapping of it;
 * where there is no huge page, and none is left, it fails with EFAULT and does not
 * kill, and fallocate() says ENOSPC.  No call tells where its holes are.
 */
#include "hugetlb.h"

#include <sys/uio.h>

static int copy(uint8_t *to, uint8_t value)
{
	uint8_t page[4096];
	struct iovec local = { page, sizeof(page) }, remote = { to, sizeof(page) };

	memset(page, value, sizeof(page));
	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)sizeof(page)
		       ? 0
		       : errno;
}

int main(void)
{
	uint8_t *alias, *other;
	int fd, hog;

	hugetlb_init(4);
	fd = hugetlb_memfd(2);
	hog = hugetlb_memfd(3);
	alias = plt_map(fd, 2 * PLT_BLOCK, MAP_SHARED | MAP_NORESERVE);
	PLT_CHECK(pwrite(fd, "x", 1, 0) < 0 && errno == EINVAL,
		  "expected that pwrite() is refused with EINVAL");
	PLT_CHECK(lseek(fd, 0, SEEK_DATA) == 0, "expected that a hole is called data");
	hugetlb_allocate(fd, 0);
	plt_expect_err(copy(alias + 3 * PLT_PAGE, 0x55), 0, "a copy into the middle");
	PLT_CHECK(alias[3 * PLT_PAGE] == 0x55 && alias[2 * PLT_PAGE] == 0 &&
			  alias[4 * PLT_PAGE] == 0,
		  "expected one page of contents between zeros");
	for (uint64_t i = 0; i < 3; i++)
		hugetlb_allocate(hog, i);
	plt_expect_err(copy(alias + PLT_BLOCK, 1), EFAULT, "a copy for which no huge page is left");
	PLT_CHECK(fallocate(fd, 0, (off_t)PLT_BLOCK, (off_t)PLT_BLOCK) < 0 &&
			  (errno == ENOSPC || errno == ENOMEM),
		  "expected ENOSPC of fallocate(), saw %s", strerror(errno));
	other = mmap(NULL, 2 * PLT_BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	PLT_CHECK(other == MAP_FAILED && errno == ENOMEM,
		  "expected that a mapping with a reservation is refused");
	(void)close(hog);
	plt_expect_err(copy(alias + PLT_BLOCK, 1), 0, "a copy, when there is a page again");
	plt_pass();
}
