/* SPDX-License-Identifier: MIT */
/*
 * With UFFD_FEATURE_SIGBUS a fault raises SIGBUS with BUS_ADRERR and the address.  A
 * poisoned page raises one too (BUS_ADRERR, or BUS_MCEERR_AR where the kernel is built
 * with memory failure), and goes on doing so; nothing is queued for either.  After
 * UNREGISTER the kernel serves what is in the cache.
 */
#include "platform.h"

#include <signal.h>

int main(void)
{
	struct plt_toucher *t;
	uint8_t *mem;
	int uffd, fd;

	plt_init();
	uffd = plt_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_SIGBUS | UFFD_FEATURE_POISON);
	fd = plt_memfd(8 * PLT_PAGE);
	plt_fill(fd, 0, 4, 0x5c);
	mem = plt_map(fd, 8 * PLT_PAGE, MAP_SHARED);
	plt_poisonable(uffd, mem, 8 * PLT_PAGE, PLT_BOTH);

	t = plt_touch_read(mem + PLT_PAGE + 16);
	plt_expect_end(t, PLT_SIGBUS, "a touch of a cached page");
	PLT_CHECK(t->sig_code == BUS_ADRERR, "cached page: expected BUS_ADRERR, saw code %d",
		  t->sig_code);
	PLT_CHECK(((uintptr_t)t->sig_addr & ~(uintptr_t)(PLT_PAGE - 1)) ==
			  (uintptr_t)mem + PLT_PAGE,
		  "expected the page's address, saw %p", t->sig_addr);
	t = plt_touch_write(mem + 6 * PLT_PAGE, 1);
	plt_expect_end(t, PLT_SIGBUS, "a touch of a hole");
	PLT_CHECK(t->sig_code == BUS_ADRERR, "hole: expected BUS_ADRERR, saw code %d", t->sig_code);

	plt_expect_err(plt_poison(uffd, mem + 6 * PLT_PAGE, PLT_PAGE, 0, NULL), 0, "POISON");
	plt_expect_err(plt_poison(uffd, mem + 6 * PLT_PAGE, PLT_PAGE, 0, NULL), EEXIST,
		       "POISON of a page that is poisoned");
	for (int i = 0; i < 2; i++) {
		t = plt_touch_read(mem + 6 * PLT_PAGE);
		plt_expect_end(t, PLT_SIGBUS, "a touch of a poisoned page");
		PLT_CHECK(t->sig_code == BUS_ADRERR || t->sig_code == BUS_MCEERR_AR,
			  "poison: expected BUS_ADRERR or BUS_MCEERR_AR, saw code %d", t->sig_code);
	}
	plt_note("a poisoned page raises code %d", t->sig_code);
	plt_expect_no_message(uffd, "SIGBUS mode");
	plt_expect_err(plt_unregister(uffd, mem, 8 * PLT_PAGE), 0, "UNREGISTER");
	plt_expect_read(mem + PLT_PAGE, 0x5c, "a cached page after UNREGISTER");
	plt_pass();
}
