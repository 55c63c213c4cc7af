/* SPDX-License-Identifier: MIT */
/* Plays files, or all files of folders: a fuzz target as a plain test. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MAX_BYTES (1u << 20)

static uint32_t nr_played;

static int play_file(const char *path)
{
	uint8_t *bytes = malloc(MAX_BYTES), *exact;
	FILE *file = fopen(path, "rb");
	size_t nr;

	if (!bytes || !file) {
		(void)fprintf(stderr, "%s cannot be read\n", path);
		return 1;
	}
	nr = fread(bytes, 1, MAX_BYTES, file);
	(void)fclose(file);
	/* Of its own length, so that a sanitizer sees reads that go too far. */
	exact = realloc(bytes, nr > 0 ? nr : 1);
	if (!exact)
		abort();
	(void)fprintf(stderr, "%s\n", path); /* the last one is the one that failed */
	(void)LLVMFuzzerTestOneInput(exact, nr);
	free(exact);
	nr_played++;
	return 0;
}

static int play(const char *path)
{
	struct dirent **entries;
	struct stat st;
	int nr, rc = 0;

	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return play_file(path);
	nr = scandir(path, &entries, NULL, alphasort);
	if (nr < 0)
		return play_file(path);
	for (int i = 0; i < nr; i++) {
		char full[4096];

		(void)snprintf(full, sizeof(full), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			rc |= play_file(full);
		free(entries[i]);
	}
	free(entries);
	return rc;
}

int main(int argc, char **argv)
{
	int rc = 0;

	(void)LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		rc |= play(argv[i]);
	if (nr_played == 0) {
		(void)fprintf(stderr, "usage: %s FILE-OR-FOLDER...\n", argv[0]);
		return 2;
	}
	printf("%u inputs\n", nr_played);
	return rc;
}
