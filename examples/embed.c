/* SPDX-License-Identifier: MIT */
/* embed IMAGE: maps a file lazily and prints it by touching one page after the other. */
#include <faultlane/faultlane.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_engine *engine = NULL;
	struct fln_guest *guest = NULL;
	struct fln_region *region;
	struct stat st;
	char page[4096];

	if (argc != 2 || stat(argv[1], &st) != 0)
		return 1;
	/* Omit this for KVM, and where system calls are given guest memory. */
	engine_opts.flags = FLN_ENGINE_F_USER_MODE_ONLY;
	image_opts.len_bytes = region_opts.len_bytes = (uint64_t)st.st_size;
	if (fln_engine_create(&engine_opts, &engine) || fln_engine_start(engine) ||
	    fln_source_open_file(argv[1], 0, &image_opts.source) ||
	    fln_image_create(engine, &image_opts, &region_opts.image) ||
	    fln_guest_create(engine, NULL, &guest) ||
	    fln_region_add(guest, &region_opts, &region) || fln_guest_start(guest)) {
		(void)fprintf(stderr, "embed: %s\n", fln_last_error());
		return 1;
	}
	for (uint64_t at = 0; at < image_opts.len_bytes; at += sizeof(page)) {
		memcpy(page, (char *)fln_region_addr(region) + at, sizeof(page)); /* may fault */
		(void)fwrite(page, sizeof(page), 1, stdout);
	}
	(void)fln_guest_destroy(guest); /* in reverse order of creation */
	(void)fln_image_destroy(region_opts.image);
	fln_source_destroy(image_opts.source);
	return fln_engine_destroy(engine) ? 1 : 0;
}
