/* SPDX-License-Identifier: MIT */
/*
 * An embedder with error handling and statistics: threads touch a guest's memory.
 *
 * Threads stand for vCPUs.  The image is a file that this program writes; every page
 * begins with its number, so that a wrong page is detected.
 */
#include <faultlane/faultlane.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define NR_PAGES 4096u
#define NR_VCPUS 8u
#define EXIT_SKIPPED 77

struct vcpu {
	pthread_t thread;
	const char *memory;
	uint32_t index;
	uint32_t nr_wrong;
};

/* Each thread reads every NR_VCPUS-th page. */
static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;

	for (uint32_t page = v->index; page < NR_PAGES; page += NR_VCPUS) {
		uint64_t word;

		memcpy(&word, v->memory + (size_t)page * PAGE_BYTES, sizeof(word));
		v->nr_wrong += word != page + 1;
	}
	return NULL;
}

static int run_vcpus(const char *memory)
{
	struct vcpu vcpus[NR_VCPUS];
	uint32_t nr = 0, nr_wrong = 0;

	for (; nr < NR_VCPUS; nr++) {
		vcpus[nr] = (struct vcpu){ .memory = memory, .index = nr };
		if (pthread_create(&vcpus[nr].thread, NULL, vcpu_main, &vcpus[nr]) != 0)
			break;
	}
	for (uint32_t i = 0; i < nr; i++) {
		(void)pthread_join(vcpus[i].thread, NULL);
		nr_wrong += vcpus[i].nr_wrong;
	}
	(void)printf("%u threads touched %u pages, %u wrong\n", nr, NR_PAGES, nr_wrong);
	return nr == NR_VCPUS && nr_wrong == 0 ? 0 : -EIO;
}

static void print_stats(const struct fln_stats *s)
{
	(void)printf("%" PRIu64 " faults, %" PRIu64 " pages mapped by %" PRIu64 " calls\n",
		     s->faults, s->pages_installed, s->installs);
}

/* Map the file at @path lazily and let threads read it.  Return: 0 or a negative errno. */
static int serve(const char *path, uint64_t len_bytes)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_stats stats = FLN_STATS_INIT;
	struct fln_engine *engine = NULL;
	struct fln_source *source = NULL;
	struct fln_image *image = NULL;
	struct fln_guest *guest = NULL;
	struct fln_region *region;
	int rc;

	/* Needs no privilege and is enough for threads; omit it for KVM. */
	engine_opts.flags = FLN_ENGINE_F_USER_MODE_ONLY;
	rc = fln_engine_create(&engine_opts, &engine);
	if (rc == 0)
		rc = fln_engine_start(engine);

	/* The image: page cache that is filled from the file when pages are touched. */
	if (rc == 0)
		rc = fln_source_open_file(path, 0, &source);
	image_opts.len_bytes = len_bytes;
	image_opts.source = source;
	if (rc == 0)
		rc = fln_image_create(engine, &image_opts, &image);

	/* A guest with one region: a mapping of the image, served from start to stop. */
	if (rc == 0)
		rc = fln_guest_create(engine, NULL, &guest);
	region_opts.image = image;
	region_opts.len_bytes = len_bytes;
	if (rc == 0)
		rc = fln_region_add(guest, &region_opts, &region);
	if (rc == 0)
		rc = fln_guest_start(guest);
	if (rc == 0)
		rc = run_vcpus(fln_region_addr(region));
	else
		(void)fprintf(stderr, "%s\n", fln_last_error());

	if (rc == 0 && fln_guest_stats(guest, &stats) == 0)
		print_stats(&stats);
	(void)fln_guest_destroy(guest); /* stops it first: unfilled pages become inaccessible */
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
	char path[] = "/tmp/faultlane-threads-XXXXXX";
	int rc = make_image(path);

	if (rc) {
		(void)fprintf(stderr, "threads: %s: %s\n", path, strerror(-rc));
		return EXIT_FAILURE;
	}
	rc = serve(path, (uint64_t)NR_PAGES * PAGE_BYTES);
	(void)unlink(path);
	if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EOPNOTSUPP) {
		(void)printf("SKIP: no userfaultfd with minor faults on shmem here: %s\n",
			     strerror(-rc));
		return EXIT_SKIPPED;
	}
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
