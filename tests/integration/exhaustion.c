/* SPDX-License-Identifier: MIT */
/* Descriptors, mappings and threads that run out half-way: an error, and nothing half done. */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static struct bed bed;

static void begin(uint64_t nr_pages)
{
	bed_init(&bed, nr_pages);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
}

/* Permit @more descriptors than are open now.  Returns the limit as it was. */
static struct rlimit permit_fds(uint32_t more)
{
	struct rlimit was, now;
	int highest = open("/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK(highest >= 0 && getrlimit(RLIMIT_NOFILE, &was) == 0, "%s", strerror(errno));
	(void)close(highest);
	now = was;
	now.rlim_cur = (rlim_t)highest + more;
	CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0, "%s", strerror(errno));
	return was;
}

static void descriptors(void)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
	struct fln_image_opts io = FLN_IMAGE_OPTS_INIT;
	struct fln_engine *engine = NULL;
	struct fln_guest *guest = NULL;
	struct fln_image *image;
	struct rlimit was;
	uint32_t before;
	int rc;

	begin(1000);
	before = count_fds();
	o.nr_shards = 64;
	for (uint32_t more = 1; more < 64; more += 9) {
		was = permit_fds(more);
		rc = fln_guest_create(bed.engine, &o, &guest);
		(void)setrlimit(RLIMIT_NOFILE, &was);
		REFUSED(rc, -EMFILE, "RLIMIT_NOFILE");
		CHECK(count_fds() == before, "%u descriptors are left", count_fds() - before);
	}
	io.len_bytes = PAGE;
	was = permit_fds(0);
	rc = fln_image_create(bed.engine, &io, &image);
	(void)setrlimit(RLIMIT_NOFILE, &was);
	REFUSED(rc, -EMFILE, "RLIMIT_NOFILE");
	CHECK(count_fds() == before, "%u descriptors are left", count_fds() - before);
	/* An engine needs a few for each worker; how many does not matter, half of it must not stay. */
	for (uint32_t more = 0; more < 40; more++) {
		was = permit_fds(more);
		bed.engine_opts.nr_workers = 8;
		rc = fln_engine_create(&bed.engine_opts, &engine);
		(void)setrlimit(RLIMIT_NOFILE, &was);
		if (rc == 0)
			OK(fln_engine_destroy(engine));
		else
			CHECK(rc == -EMFILE || rc == -EIO || rc == -EPERM || rc == -ENOENT,
			      "returned %d: %s", rc, fln_last_error());
		CHECK(count_fds() == before, "%u descriptors are left with %u free",
		      count_fds() - before, more);
	}
	/* The engine is as good as new. */
	bed_up(&bed);
	read_all(&bed, 8);
	bed_down(&bed);
}

static uint32_t max_map_count(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	uint32_t value = 0;
	char line[32];

	if (f && fgets(line, sizeof(line), f))
		value = (uint32_t)strtoul(line, NULL, 10);
	if (f)
		(void)fclose(f);
	return value;
}

/* All mappings of the process but @left: every second page of a long one is made different. */
static uint8_t *use_mappings_up(uint32_t limit, uint32_t left, uint64_t *len)
{
	uint32_t want = limit - count_maps() - left;
	uint8_t *p;

	*len = ((uint64_t)want + 2) * PAGE;
	p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	for (uint32_t i = 1; i + 1 < want; i += 2) {
		if (mprotect(p + i * PAGE, PAGE, PROT_NONE) != 0)
			break;
	}
	return p;
}

static void mappings(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	uint64_t nr_pages = 512 * 64, value, filler_len;
	uint32_t limit = max_map_count(), before;
	struct fln_region *region;
	uint8_t *p, *filler;
	int rc, uffd;

	if (limit == 0 || limit > 300000) {
		test_note("SKIP: vm.max_map_count is %u, too many to use up", limit);
		return;
	}
	begin(nr_pages);
	maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	bed.guest_opts.nr_shards = 16;
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	p = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fln_image_memfd(bed.image), 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	o.image = bed.image;
	o.addr = (uintptr_t)p;
	o.len_bytes = nr_pages * PAGE;
	before = count_maps();
	for (uint32_t left = 12; left < 60; left += 20) {
		STEP("adding a region with %u mappings left", left);
		filler = use_mappings_up(limit, left, &filler_len);
		rc = fln_region_add(bed.guest, &o, &region);
		(void)munmap(filler, filler_len);
		REFUSED(rc, -ENOMEM, "vm.max_map_count");
		/* Whoever comes next may have all of it. */
		uffd = raw_uffd(0);
		CHECK(raw_register(uffd, p, nr_pages * PAGE, UFFDIO_REGISTER_MODE_MISSING) == 0,
		      "a part of the range is registered: %s", strerror(errno));
		CHECK(raw_unregister(uffd, p, nr_pages * PAGE) == 0, "unregister");
		(void)close(uffd);
		/* Sanitizers map as they go. */
		if (!TEST_ASAN && !TEST_TSAN)
			CHECK(count_maps() <= before + 2, "%u mappings more",
			      count_maps() - before);
	}
	OK(fln_region_add(bed.guest, &o, &region));
	OK(fln_guest_start(bed.guest));
	CHECK(touch_read(p + 5000 * PAGE, &value) == TOUCH_OK && value == word_of(1, 5000, 0),
	      "page 5000");
	bed_down(&bed);
	(void)munmap(p, nr_pages * PAGE);
}

/* The budget of stripes: larger stripes before an error, and all of it comes back. */
static void budget(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r[8];
	uint32_t nr = 0;
	int rc = 0;

	bed_init(&bed, 512 * 16);
	bed.engine_opts.max_stripes = 8;
	bed.guest_opts.nr_shards = 4;
	bed_up(&bed);
	o.image = bed.image;
	o.len_bytes = bed.nr_pages * PAGE;
	while (nr < 8 && (rc = fln_region_add(bed.guest, &o, &r[nr])) == 0)
		nr++;
	REFUSED(rc, -ENOMEM, "8 max_stripes");
	CHECK(nr >= 1, "no second region");
	read_all(&bed, 16);
	while (nr > 0)
		OK(fln_region_remove(r[--nr]));
	OK(fln_region_add(bed.guest, &o, &r[0]));
	bed_down(&bed);
}

/* The last quarter of the budget goes a long way: clones come in dozens. */
static void many_regions(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r;
	uint32_t nr = 0;

	bed_init(&bed, 512 * 64);
	bed.engine_opts.max_stripes = 256;
	bed.guest_opts.nr_shards = 4;
	bed_up(&bed);
	o.image = bed.image;
	o.len_bytes = bed.nr_pages * PAGE;
	o.sharing = FLN_SHARING_PRIVATE;
	while (nr < 16 && fln_region_add(bed.guest, &o, &r) == 0)
		nr++;
	CHECK(nr == 16, "%u regions: %s", nr, fln_last_error());
	bed_down(&bed);
}

int main(void)
{
	test_init();
	RUN(descriptors);
	RUN(budget);
	RUN(many_regions);
	RUN(mappings);
	return 0;
}
