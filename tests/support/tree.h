/* SPDX-License-Identifier: MIT */
/* A tree of files under a temporary root, which stands for /sys or /proc. */
#ifndef FLN_TESTS_TREE_H
#define FLN_TESTS_TREE_H

#include "tests/support/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char tree_root[64];

/* A file of @text, or with NULL a folder, and the folders on the way.  @path begins with a slash. */
static inline void tree_put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	(void)snprintf(full, sizeof(full), "%s%s%s", tree_root, path, text ? "" : "/");
	for (char *at = full + strlen(tree_root) + 1; (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		(void)mkdir(full, 0700);
		*at = '/';
	}
	if (!text)
		return;
	f = fopen(full, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Set-up and tear-down of a test. */
static inline int tree_begin(void **state)
{
	(void)state;
	(void)snprintf(tree_root, sizeof(tree_root), "/tmp/fln-tree-XXXXXX");
	return mkdtemp(tree_root) ? 0 : -1;
}

static inline int tree_end(void **state)
{
	char command[128];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -r '%s'", tree_root);
	return system(command); /* NOLINT(cert-env33-c): a path of our own */
}

#endif
