/* SPDX-License-Identifier: MIT */
/*
 * The receiving end of a post-copy migration: vCPUs run while contents arrive.
 *
 * The image has no source.  A stream pushes its pages with fln_image_put(), in any
 * order.  A vCPU that touches a page which has not arrived yet waits for that page
 * alone, for as long as it takes.
 *
 * A real stream is also asked for the pages that vCPUs wait for.  Give the image
 * a source for that: its read function requests the page, waits for the answer, and
 * returns the contents.  Meanwhile the push continues, and the first contents win.
 */
#include <faultlane/faultlane.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_BYTES 4096u
#define NR_PAGES 4096u
#define PIECE_PAGES 64u
#define NR_VCPUS 8u
#define EXIT_SKIPPED 77

struct migration {
	struct fln_engine *engine;
	struct fln_image *image;
	struct fln_guest *guest;
	char *memory;
};

struct vcpu {
	pthread_t thread;
	const char *memory;
	uint32_t index;
	uint32_t nr_wrong;
};

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

/* The stream: pieces of 256 KiB, the last one first, with a short pause between them. */
static void *stream_main(void *arg)
{
	static uint64_t piece[PIECE_PAGES][PAGE_BYTES / sizeof(uint64_t)];
	const struct timespec apart = { .tv_nsec = 500000 };
	struct migration *m = arg;

	for (uint32_t end = NR_PAGES; end > 0; end -= PIECE_PAGES) {
		uint32_t first = end - PIECE_PAGES;
		int rc;

		for (uint32_t i = 0; i < PIECE_PAGES; i++)
			piece[i][0] = first + i + 1;
		rc = fln_image_put(m->image, (uint64_t)first * PAGE_BYTES, piece, sizeof(piece));
		if (rc) {
			/* The vCPUs would wait for ever: a real embedder stops the guest here. */
			(void)fprintf(stderr, "put: %s\n", fln_last_error());
			abort();
		}
		(void)nanosleep(&apart, NULL);
	}
	return NULL;
}

static int start(struct migration *m)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	int rc;

	engine_opts.flags = FLN_ENGINE_F_USER_MODE_ONLY; /* no KVM here */
	rc = fln_engine_create(&engine_opts, &m->engine);
	if (rc == 0)
		rc = fln_engine_start(m->engine);
	image_opts.len_bytes = (uint64_t)NR_PAGES * PAGE_BYTES;
	if (rc == 0)
		rc = fln_image_create(m->engine, &image_opts, &m->image);
	if (rc == 0)
		rc = fln_guest_create(m->engine, NULL, &m->guest);
	region_opts.image = m->image;
	region_opts.len_bytes = image_opts.len_bytes;
	if (rc == 0)
		rc = fln_region_add(m->guest, &region_opts, &region);
	if (rc == 0)
		rc = fln_guest_start(m->guest);
	if (rc == 0)
		m->memory = fln_region_addr(region);
	return rc;
}

static int run(struct migration *m)
{
	struct fln_stats stats = FLN_STATS_INIT;
	struct vcpu vcpus[NR_VCPUS];
	uint32_t nr = 0, nr_wrong = 0;
	pthread_t stream;

	for (; nr < NR_VCPUS; nr++) {
		vcpus[nr] = (struct vcpu){ .memory = m->memory, .index = nr };
		if (pthread_create(&vcpus[nr].thread, NULL, vcpu_main, &vcpus[nr]) != 0)
			break;
	}
	/* If no thread can be created for the stream, run it on this one. */
	if (pthread_create(&stream, NULL, stream_main, m) == 0)
		(void)pthread_join(stream, NULL);
	else
		(void)stream_main(m);
	for (uint32_t i = 0; i < nr; i++) {
		(void)pthread_join(vcpus[i].thread, NULL);
		nr_wrong += vcpus[i].nr_wrong;
	}
	(void)fln_guest_stats(m->guest, &stats);
	(void)printf("%u threads touched %u pages, %u wrong; %" PRIu64 " of %" PRIu64
		     " faults waited for the stream\n",
		     nr, NR_PAGES, nr_wrong, stats.major, stats.faults);
	return nr == NR_VCPUS && nr_wrong == 0 ? 0 : -EIO;
}

int main(void)
{
	struct migration m = { .engine = NULL };
	int rc = start(&m);

	if (rc == 0)
		rc = run(&m);
	else
		(void)fprintf(stderr, "%s\n", fln_last_error());
	(void)fln_guest_destroy(m.guest);
	(void)fln_image_destroy(m.image);
	(void)fln_engine_destroy(m.engine);
	if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EOPNOTSUPP) {
		(void)printf("SKIP: no userfaultfd with minor faults on shmem here: %s\n",
			     strerror(-rc));
		return EXIT_SKIPPED;
	}
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
