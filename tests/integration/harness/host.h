/* SPDX-License-Identifier: MIT */
/* What this host permits its user, and its userfaultfd without the library. */
#ifndef FLN_TESTS_HARNESS_HOST_H
#define FLN_TESTS_HARNESS_HOST_H

#include <stdint.h>

/*
 * First in main().  Installs signal handlers and decides whether userfaultfd is
 * available: exits 77 with the reason when it is not.
 */
void test_init(void);

/* What this process may ask userfaultfd for: 0 or FLN_ENGINE_F_USER_MODE_ONLY. */
uint64_t test_engine_flags(void);

/* A userfaultfd of the test's own; features as asked for, or it ends the test. */
int raw_uffd(uint64_t features);
int raw_register(int uffd, void *addr, uint64_t len, uint64_t mode); /* 0 or errno */
int raw_unregister(int uffd, void *addr, uint64_t len);

#endif
