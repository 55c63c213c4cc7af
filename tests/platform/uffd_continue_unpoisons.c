/* SPDX-License-Identifier: MIT */
/*
 * CONTINUE over a poisoned page succeeds and takes the poison away, and so do
 * COPY and ZEROPAGE over a poisoned hole of a shared mapping: what is poisoned
 * must be left out of every window.  CONTINUE of a poisoned hole is EFAULT.  For
 * private anonymous memory (foreign shards) COPY takes the poison away; ZEROPAGE
 * says EEXIST and leaves it.
 */
#include "platform.h"

static uint8_t ones[4096];

int main(void)
{
	uint8_t *mem;
	uint8_t *anon;
	int fd;
	int uffd;

	plt_init();
	memset(ones, 1, sizeof(ones));
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_POISON);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x75);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_poisonable(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);
	plt_expect_err(plt_poison(uffd, mem, 8 * PLT_PAGE, 0, NULL), 0, "POISON");
	plt_expect_end(plt_touch_read(mem + PLT_PAGE), PLT_SIGBUS, "a poisoned page");

	plt_expect_err(plt_continue(uffd, mem, 4 * PLT_PAGE, 0, NULL), 0,
		       "CONTINUE over poisoned pages");
	plt_expect_read(mem + PLT_PAGE, 0x75, "a page that CONTINUE un-poisoned");
	plt_expect_err(plt_continue(uffd, mem + 4 * PLT_PAGE, PLT_PAGE, 0, NULL), EFAULT,
		       "CONTINUE of a poisoned hole");
	plt_expect_end(plt_touch_read(mem + 4 * PLT_PAGE), PLT_SIGBUS, "the poisoned hole");
	plt_expect_err(plt_copy(uffd, mem + 5 * PLT_PAGE, ones, PLT_PAGE, 0, NULL), 0,
		       "COPY over a poisoned hole");
	plt_expect_read(mem + 5 * PLT_PAGE, 1, "a hole that COPY un-poisoned");
	plt_expect_err(plt_zeropage(uffd, mem + 6 * PLT_PAGE, PLT_PAGE, 0, NULL), 0,
		       "ZEROPAGE over a poisoned hole");
	plt_expect_read(mem + 6 * PLT_PAGE, 0, "a hole that ZEROPAGE un-poisoned");
	plt_expect_end(plt_touch_read(mem + 7 * PLT_PAGE), PLT_SIGBUS, "the last poisoned hole");

	anon = plt_map(-1, 4 * PLT_PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
	plt_poisonable(uffd, anon, 4 * PLT_PAGE, PLT_MISSING);
	plt_expect_err(plt_poison(uffd, anon, 4 * PLT_PAGE, 0, NULL), 0, "POISON, anonymous");
	plt_expect_err(plt_zeropage(uffd, anon, PLT_PAGE, 0, NULL), EEXIST,
		       "ZEROPAGE over poison, anonymous");
	plt_expect_end(plt_touch_read(anon), PLT_SIGBUS, "what ZEROPAGE left poisoned");
	plt_expect_err(plt_copy(uffd, anon + PLT_PAGE, ones, PLT_PAGE, 0, NULL), 0,
		       "COPY over poison, anonymous");
	plt_expect_read(anon + PLT_PAGE, 1, "what COPY un-poisoned");
	plt_pass();
}
