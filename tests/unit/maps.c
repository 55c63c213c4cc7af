/* SPDX-License-Identifier: MIT */
/* The walk through this process's mappings, by queries and as text (engine/maps.c). */
#include "engine/maps.h"

#include "base/page.h"
#include "engine/confirm.h"
#include "engine/proc_compat.h"
#include "engine/vacant.h"
#include "tests/support/cm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_MAPPINGS 200u
#define MAX_QUERIES 64u /* of a walk; then it goes on as text */

static bool is_supported(void)
{
	struct procmap_query q = { .size = sizeof(q),
				   .query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA };
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	bool is = ioctl(fd, PROCMAP_QUERY, &q) == 0;

	(void)close(fd);
	return is;
}

static char *reserve(uint32_t nr_pages)
{
	char *p = mmap(NULL, nr_pages * FLN_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Give every other page the access @prot, so that each page is a mapping. */
static void allow_every_other(char *p, int prot)
{
	for (uint32_t i = 0; i < NR_MAPPINGS; i += 2)
		assert_int_equal(mprotect(p + i * FLN_PAGE_BYTES, FLN_PAGE_BYTES, prot), 0);
}

static void put(char *at, int prot, int flags, int fd, uint64_t page)
{
	assert_ptr_equal(mmap(at, FLN_PAGE_BYTES, prot, flags | MAP_FIXED, fd,
			      (off_t)fln_pages_to_bytes(page)),
			 at);
}

static void begin(struct fln_maps *maps, const char *at, bool as_text)
{
	assert_int_equal(fln_maps_open(maps, (uintptr_t)at), 0);
	maps->as_text = as_text;
}

static void each_mapping_is_found_once(void **state)
{
	char *p = reserve(NR_MAPPINGS);

	(void)state;
	allow_every_other(p, PROT_READ);
	for (int as_text = 0; as_text < 2; as_text++) {
		struct fln_maps maps;
		struct fln_map m;

		begin(&maps, p + FLN_PAGE_BYTES, as_text);
		for (uint32_t i = 1; i < NR_MAPPINGS - 1; i++) {
			assert_true(fln_maps_next(&maps, &m));
			assert_int_equal(m.lo, (uintptr_t)p + i * FLN_PAGE_BYTES);
			assert_int_equal(m.hi, m.lo + FLN_PAGE_BYTES);
			assert_int_equal(m.accessible, i % 2 == 0);
			assert_int_equal(maps.as_text,
					 as_text || i > MAX_QUERIES || !is_supported());
		}
		fln_maps_close(&maps);
	}
	assert_int_equal(munmap(p, NR_MAPPINGS * FLN_PAGE_BYTES), 0);
}

/* Each page is passed once, and in order, while mappings before the next one merge with it. */
static void mappings_that_merge_during_a_walk(void **state)
{
	(void)state;
	for (int as_text = 0; as_text < 2; as_text++) {
		char *p = reserve(NR_MAPPINGS);
		uint64_t at = (uintptr_t)p + FLN_PAGE_BYTES, end;
		struct fln_maps maps;
		struct fln_map m;

		end = (uintptr_t)p + (NR_MAPPINGS - 1) * FLN_PAGE_BYTES;
		allow_every_other(p, PROT_READ);
		begin(&maps, p + FLN_PAGE_BYTES, as_text);
		while (at < end) {
			assert_true(fln_maps_next(&maps, &m));
			assert_true(m.lo <= at && m.hi > at);
			at = m.hi;
			/* What has been passed becomes like the next. */
			assert_int_equal(mprotect((void *)(uintptr_t)(at - FLN_PAGE_BYTES),
						  FLN_PAGE_BYTES,
						  m.accessible ? PROT_NONE : PROT_READ),
					 0);
		}
		fln_maps_close(&maps);
		assert_int_equal(munmap(p, NR_MAPPINGS * FLN_PAGE_BYTES), 0);
	}
}

/* Has both calls of proc_compat.h answered with an errno; 0: as if they had succeeded. */
static bool refuse(uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)PROCMAP_QUERY, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)PAGEMAP_SCAN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* In a child; returns its exit code. */
static int look_where_refused(const char *p, uint32_t error)
{
	struct fln_mask mapped;
	struct fln_maps maps;
	struct fln_map m;
	int fd;

	if (!refuse(error))
		return 77;
	if (fln_maps_open(&maps, (uintptr_t)p) != 0)
		return 1;
	for (uint32_t i = 0; i < NR_MAPPINGS; i++) {
		if (!fln_maps_next(&maps, &m) || m.hi != (uintptr_t)p + (i + 1) * FLN_PAGE_BYTES)
			return 2;
	}
	fln_maps_close(&maps);
	fd = fln_pagemap_open();
	if (!fln_pagemap_mapped(fd, (uintptr_t)p, 0, NR_MAPPINGS, &mapped))
		return 3;
	return fln_mask_count(&mapped) == 1 && fln_mask_test(&mapped, 2) ? 0 : 4;
}

static void refused_calls_leave_nothing_out(void **state)
{
	static const uint32_t errors[] = { EPERM, ENOSYS, ENOENT, ENOTTY, 0 };
	char *p = reserve(NR_MAPPINGS);

	(void)state;
	allow_every_other(p, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0) {
			p[2 * FLN_PAGE_BYTES] = 1;
			_exit(look_where_refused(p, errors[i]));
		}
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			skip(); /* no filters here */
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	assert_int_equal(munmap(p, NR_MAPPINGS * FLN_PAGE_BYTES), 0);
}

static void both_ways_tell_the_same(void **state)
{
	int fd = memfd_create("some", MFD_CLOEXEC);
	struct fln_vacant vacant = { .fd = -1 };
	struct fln_map as[2][4];
	char *p = reserve(6);
	struct stat st;

	(void)state;
	fln_vacant_open(&vacant);
	assert_int_equal(fstat(fd, &st), 0);
	put(p + FLN_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 7);
	put(p + 2 * FLN_PAGE_BYTES, PROT_EXEC, MAP_PRIVATE, fd, 8);
	assert_int_equal(fln_vacant_map(&vacant, (uintptr_t)p + 3 * FLN_PAGE_BYTES, FLN_PAGE_BYTES,
					9 * FLN_PAGE_BYTES, false),
			 0);
	for (int as_text = 0; as_text < 2; as_text++) {
		struct fln_maps maps;

		memset(as[as_text], 0, sizeof(as[as_text]));
		begin(&maps, p + FLN_PAGE_BYTES, as_text);
		for (uint32_t i = 0; i < 4; i++)
			assert_true(fln_maps_next(&maps, &as[as_text][i]));
		fln_maps_close(&maps);
	}
	for (uint32_t i = 0; i < 4; i++) {
		const struct fln_map *a = &as[0][i], *b = &as[1][i];

		assert_int_equal(a->lo, (uintptr_t)p + (i + 1) * FLN_PAGE_BYTES);
		assert_int_equal(a->lo, b->lo);
		assert_int_equal(a->hi, b->hi);
		assert_int_equal(a->offset, b->offset);
		assert_int_equal(a->inode, b->inode);
		assert_int_equal(a->device, b->device);
		assert_int_equal(a->shared, b->shared);
		assert_int_equal(a->accessible, b->accessible);
		assert_int_equal(a->vacant, b->vacant);
		assert_int_equal(a->shared, i == 0 || i == 2);
		assert_int_equal(a->accessible, i < 3);
		assert_int_equal(a->vacant, i == 2);
	}
	assert_int_equal(as[0][0].offset, 7 * FLN_PAGE_BYTES);
	assert_int_equal(as[0][0].inode, st.st_ino);
	assert_int_equal(as[0][0].device, st.st_dev);
	assert_int_equal(as[0][3].inode, 0);
	fln_vacant_close(&vacant);
	(void)close(fd);
	assert_int_equal(munmap(p, 6 * FLN_PAGE_BYTES), 0);
}

/* A line that is longer than the buffer for it, and a name that is longer than the one asked for. */
static void a_long_path_ends_no_walk(void **state)
{
	char dir[] = "/tmp/fln-maps-XXXXXX", path[PATH_MAX], *p = reserve(3);
	size_t len;
	int fd;

	(void)state;
	assert_ptr_not_equal(mkdtemp(dir), NULL);
	len = (size_t)snprintf(path, sizeof(path), "%s", dir);
	for (uint32_t i = 0; i < 3; i++) {
		memset(path + len, '/', 1);
		memset(path + len + 1, 'a' + (int)i, 200);
		len += 201;
		path[len] = '\0';
		assert_int_equal(mkdir(path, 0700), 0);
	}
	memcpy(path + len, "/f", sizeof("/f"));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	put(p + FLN_PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
	for (int as_text = 0; as_text < 2; as_text++) {
		struct fln_maps maps;
		struct fln_map m;

		begin(&maps, p + FLN_PAGE_BYTES, as_text);
		assert_true(fln_maps_next(&maps, &m));
		assert_int_equal(m.lo, (uintptr_t)p + FLN_PAGE_BYTES);
		assert_false(m.vacant);
		assert_true(fln_maps_next(&maps, &m));
		assert_int_equal(m.lo, (uintptr_t)p + 2 * FLN_PAGE_BYTES);
		fln_maps_close(&maps);
	}
	(void)close(fd);
	assert_int_equal(munmap(p, 3 * FLN_PAGE_BYTES), 0);
	assert_int_equal(unlink(path), 0);
	for (; len > strlen(dir); len -= 201) {
		path[len] = '\0';
		assert_int_equal(rmdir(path), 0);
	}
	assert_int_equal(rmdir(dir), 0);
}

static void the_walk_ends_behind_the_last(void **state)
{
	struct fln_maps maps;
	struct fln_map m;

	(void)state;
	for (int as_text = 0; as_text < 2; as_text++) {
		assert_int_equal(fln_maps_open(&maps, UINT64_MAX - FLN_PAGE_BYTES), 0);
		maps.as_text = as_text;
		assert_false(fln_maps_next(&maps, &m));
		fln_maps_close(&maps);
	}
}

static void lines_of_smaps_are_told_apart(void **state)
{
	struct fln_map m;

	(void)state;
	assert_true(fln_maps_parse_line("7f00-7f01 ---p 00000000 00:00 0\n", &m));
	assert_false(m.accessible);
	assert_true(fln_maps_parse_line("7f00-7f01 r--s 00002000 00:01 12 /x\n", &m));
	assert_true(m.shared && m.accessible);
	assert_int_equal(m.offset, 0x2000);
	assert_int_equal(m.inode, 12);
	assert_false(fln_maps_parse_line("Size:                  4 kB\n", &m));
	assert_false(fln_maps_parse_line("VmFlags: rd mr mw me sd\n", &m));
	assert_false(fln_maps_parse_line("7f00-7f01\n", &m));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_mapping_is_found_once),
		cmocka_unit_test(mappings_that_merge_during_a_walk),
		cmocka_unit_test(refused_calls_leave_nothing_out),
		cmocka_unit_test(both_ways_tell_the_same),
		cmocka_unit_test(a_long_path_ends_no_walk),
		cmocka_unit_test(the_walk_ends_behind_the_last),
		cmocka_unit_test(lines_of_smaps_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
