/* SPDX-License-Identifier: MIT */
/*
 * Clones: many guests of one image, each of which keeps its own writes.
 *
 * The image is a file that this program writes.  Each guest has a private region of
 * it.  All guests start at once, before anything has been read, and write to different
 * pages.  At the end the memory in use is compared with the expected amount: one image,
 * plus the pages that were written.
 */
#include <faultlane/faultlane.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define NR_PAGES 4096u
#define NR_CLONES 16u
#define WRITE_EVERY 16u
#define EXIT_SKIPPED 77

struct clone {
	struct fln_guest *guest;
	char *memory;
	pthread_t thread; /* stands for the guest's only vCPU */
	uint32_t index;
	uint32_t nr_wrong;
};

/* Read every page, and write to one in WRITE_EVERY. */
static void *vcpu_main(void *arg)
{
	struct clone *c = arg;

	for (uint32_t page = 0; page < NR_PAGES; page++) {
		uint64_t *words = (uint64_t *)(void *)(c->memory + (size_t)page * PAGE_BYTES);

		c->nr_wrong += words[0] != page + 1 || words[1] != 0;
		if (page % WRITE_EVERY == c->index % WRITE_EVERY)
			words[1] = c->index + 1;
	}
	return NULL;
}

static int add_clone(struct fln_engine *engine, struct fln_image *image, struct clone *c)
{
	struct fln_guest_opts guest_opts = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	int rc;

	guest_opts.nr_vcpus = 1;
	rc = fln_guest_create(engine, &guest_opts, &c->guest);
	region_opts.image = image;
	region_opts.len_bytes = (uint64_t)NR_PAGES * PAGE_BYTES;
	region_opts.sharing = FLN_SHARING_PRIVATE;
	if (rc == 0)
		rc = fln_region_add(c->guest, &region_opts, &region);
	if (rc == 0)
		rc = fln_guest_start(c->guest);
	if (rc == 0)
		c->memory = fln_region_addr(region);
	return rc;
}

/* Memory of all clones in KiB, each shared page counted once: the kernel's "Pss". */
static uint64_t memory_in_use(const struct clone *clones)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uint64_t sum_kib = 0, kib;
	bool counts = false;
	char line[512], *end;

	while (smaps && fgets(line, sizeof(line), smaps)) {
		uintptr_t at = (uintptr_t)strtoull(line, &end, 16);

		if (end > line && *end == '-') {
			counts = false;
			for (uint32_t i = 0; i < NR_CLONES; i++)
				counts |= at - (uintptr_t)clones[i].memory <
					  (uintptr_t)NR_PAGES * PAGE_BYTES;
		} else if (counts && sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
			sum_kib += kib;
		}
	}
	if (smaps)
		(void)fclose(smaps);
	return sum_kib;
}

static int run_clones(struct clone *clones)
{
	uint32_t nr = 0, nr_wrong = 0;

	for (; nr < NR_CLONES; nr++) {
		if (pthread_create(&clones[nr].thread, NULL, vcpu_main, &clones[nr]) != 0)
			break;
	}
	for (uint32_t i = 0; i < nr; i++) {
		(void)pthread_join(clones[i].thread, NULL);
		nr_wrong += clones[i].nr_wrong;
	}
	(void)printf("%u guests of %u KiB, %u pages wrong\n", nr, NR_PAGES * PAGE_BYTES / 1024,
		     nr_wrong);
	(void)printf("one image plus what they wrote: %u KiB; in use: %" PRIu64 " KiB\n",
		     (NR_PAGES + NR_CLONES * (NR_PAGES / WRITE_EVERY)) * (PAGE_BYTES / 1024),
		     memory_in_use(clones));
	return nr == NR_CLONES && nr_wrong == 0 ? 0 : -EIO;
}

static int serve(const char *path)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct clone clones[NR_CLONES];
	struct fln_engine *engine = NULL;
	struct fln_source *source = NULL;
	struct fln_image *image = NULL;
	int rc;

	memset(clones, 0, sizeof(clones));
	engine_opts.flags = FLN_ENGINE_F_USER_MODE_ONLY;
	rc = fln_engine_create(&engine_opts, &engine);
	if (rc == 0)
		rc = fln_engine_start(engine);
	if (rc == 0)
		rc = fln_source_open_file(path, 0, &source);
	image_opts.len_bytes = (uint64_t)NR_PAGES * PAGE_BYTES;
	image_opts.source = source;
	if (rc == 0)
		rc = fln_image_create(engine, &image_opts, &image);
	for (uint32_t i = 0; rc == 0 && i < NR_CLONES; i++) {
		clones[i].index = i;
		rc = add_clone(engine, image, &clones[i]);
	}
	if (rc == 0)
		rc = run_clones(clones);
	else
		(void)fprintf(stderr, "%s\n", fln_last_error());
	for (uint32_t i = 0; i < NR_CLONES; i++)
		(void)fln_guest_destroy(clones[i].guest);
	(void)fln_image_destroy(image);
	fln_source_destroy(source);
	(void)fln_engine_destroy(engine);
	return rc;
}

/* Write a file of NR_PAGES pages, each of which begins with its number plus one. */
static int make_image(char *path)
{
	uint64_t words[PAGE_BYTES / sizeof(uint64_t)] = { 0 };
	int fd = mkstemp(path);

	if (fd < 0)
		return -errno;
	for (uint32_t page = 0; page < NR_PAGES; page++) {
		words[0] = page + 1;
		if (write(fd, words, PAGE_BYTES) != (ssize_t)PAGE_BYTES) {
			(void)close(fd);
			(void)unlink(path);
			return -EIO;
		}
	}
	return close(fd) == 0 ? 0 : -errno;
}

int main(void)
{
	char path[] = "/tmp/faultlane-clones-XXXXXX";
	int rc = make_image(path);

	if (rc) {
		(void)fprintf(stderr, "clones: %s: %s\n", path, strerror(-rc));
		return EXIT_FAILURE;
	}
	rc = serve(path);
	(void)unlink(path);
	if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EOPNOTSUPP) {
		(void)printf("SKIP: no userfaultfd with minor faults on shmem here: %s\n",
			     strerror(-rc));
		return EXIT_SKIPPED;
	}
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
