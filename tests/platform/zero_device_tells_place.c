/* SPDX-License-Identifier: MIT */
/*
 * A private mapping of /dev/zero is anonymous memory that says where it lies: reads are zero
 * and allocate nothing, a write copies, MADV_DONTNEED makes it zero again; and
 * /proc/self/maps has the device's inode and the offset that was given.
 */
#include "platform.h"

#include <sys/stat.h>

#define OFFSET (UINT64_C(77) * PLT_PAGE)

int main(void)
{
	unsigned long lo = 0, hi = 0, offset = 0, inode = 0;
	char line[512], perms[8];
	struct stat st;
	uint8_t *mem;
	FILE *maps;
	int fd;

	plt_init();
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		plt_skip("/dev/zero: %s", strerror(errno));
	mem = mmap(NULL, 4 * PLT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)OFFSET);
	PLT_CHECK(mem != MAP_FAILED, "mmap of /dev/zero: %s", strerror(errno));
	PLT_CHECK(mem[0] == 0 && mem[PLT_PAGE] == 0, "it is not zero");
	mem[PLT_PAGE] = 5;
	PLT_CHECK(mem[PLT_PAGE] == 5 && mem[2 * PLT_PAGE] == 0, "it cannot be written to");
	PLT_CHECK(madvise(mem, 4 * PLT_PAGE, MADV_DONTNEED) == 0 && mem[PLT_PAGE] == 0,
		  "it is not zero after MADV_DONTNEED");
	maps = fopen("/proc/self/maps", "re");
	PLT_CHECK(maps, "/proc/self/maps: %s", strerror(errno));
	while (fgets(line, sizeof(line), maps) && lo != (unsigned long)(uintptr_t)mem)
		(void)sscanf(line, "%lx-%lx %7s %lx %*s %lu", &lo, &hi, perms, &offset, &inode);
	(void)fclose(maps);
	PLT_CHECK(lo == (unsigned long)(uintptr_t)mem, "it is not in /proc/self/maps");
	PLT_CHECK(offset == OFFSET && inode == st.st_ino, "offset 0x%lx, inode %lu", offset, inode);
	plt_pass();
}
