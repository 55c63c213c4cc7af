/* SPDX-License-Identifier: MIT */
/*
 * Bad input: each refusal has its code, and its sentence names the value.  Also
 * what goes bad later: files cut short while in use, and options of older and
 * newer callers.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void engine_refused(const char *word, struct fln_engine_opts o, int want)
{
	struct fln_engine *engine = (void *)0x1;

	REFUSED(fln_engine_create(&o, &engine), want, word);
	CHECK(engine == (void *)0x1, "out was written");
}

#define ENGINE(field_, value_)                                             \
	((struct fln_engine_opts){ .size = sizeof(struct fln_engine_opts), \
				   .flags = test_engine_flags(),           \
				   .field_ = (value_) })

static void engines(void)
{
	REFUSED(fln_engine_create(NULL, NULL), -EINVAL, "out");
	engine_refused("0x80",
		       (struct fln_engine_opts){ .size = sizeof(struct fln_engine_opts),
						 .flags = 0x80 },
		       -EINVAL);
	engine_refused("nr_workers 65", ENGINE(nr_workers, 65), -EINVAL);
	engine_refused("nr_fillers 257", ENGINE(nr_fillers, 257), -EINVAL);
	engine_refused("batch_max 257", ENGINE(batch_max, 257), -EINVAL);
	engine_refused("held_max 3", ENGINE(held_max, 3), -EINVAL);
	engine_refused("fill_pages 513", ENGINE(fill_pages, 513), -EINVAL);
	engine_refused("fill_pages 3", ENGINE(fill_pages, 3), -EINVAL);
	engine_refused("reserved 1", ENGINE(reserved, 1), -EINVAL);
	engine_refused("size 7", (struct fln_engine_opts){ .size = 7 }, -EINVAL);
	REFUSED(fln_engine_start(NULL), -EINVAL, "NULL");
	REFUSED(fln_engine_stop(NULL), -EINVAL, "NULL");
	OK(fln_engine_destroy(NULL));
}

/* A struct of a caller that knows more, or less, than the library. */
static void sizes_of_options(void)
{
	union {
		struct fln_engine_opts opts;
		unsigned char bytes[sizeof(struct fln_engine_opts) + 24];
	} longer = { .bytes = { 0 } };
	struct fln_engine_opts shorter;
	struct fln_engine *engine;

	longer.opts.size = sizeof(longer);
	longer.opts.flags = test_engine_flags();
	OK(fln_engine_create(&longer.opts, &engine));
	OK(fln_engine_destroy(engine));
	longer.bytes[sizeof(struct fln_engine_opts) + 7] = 1;
	REFUSED(fln_engine_create(&longer.opts, &engine), -E2BIG, "byte");

	/* What lies behind the end of a short one is not looked at. */
	memset(&shorter, 0xff, sizeof(shorter));
	shorter.size = offsetof(struct fln_engine_opts, spin_ns);
	shorter.allocator = NULL;
	shorter.log = NULL;
	shorter.flags = test_engine_flags();
	OK(fln_engine_create(&shorter, &engine));
	OK(fln_engine_destroy(engine));
}

static struct bed bed;

static void begin(uint64_t nr_pages)
{
	bed_init(&bed, nr_pages);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
}

static void image_refused(const char *word, int want, struct fln_image_opts o)
{
	struct fln_image *image = (void *)0x1;

	o.size = sizeof(o);
	REFUSED(fln_image_create(bed.engine, &o, &image), want, word);
	CHECK(image == (void *)0x1, "out was written");
}

static void images(void)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int shm = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING), readonly, file;
	struct fln_image *image;
	char path[64];

	begin(16);
	maker_source(&bed.maker, &bed.source);
	REFUSED(fln_image_create(NULL, &o, &image), -EINVAL, "NULL");
	image_refused("len_bytes 0", -EINVAL, o);
	o.len_bytes = PAGE + 1;
	image_refused("len_bytes 4097", -EINVAL, o);
	o.len_bytes = UINT64_MAX - PAGE + 1;
	image_refused("18446744073709547520", -EINVAL, o);
	o.len_bytes = 16 * PAGE;
	o.flags = 0x40;
	image_refused("0x40", -EINVAL, o);
	o.flags = FLN_IMAGE_F_FILLED;
	image_refused("FLN_IMAGE_F_ADOPT", -EINVAL, o);
	o.flags = FLN_IMAGE_F_FILLED | FLN_IMAGE_F_ADOPT;
	o.source = bed.source;
	o.memfd = shm;
	image_refused("source", -EINVAL, o);
	o.source = NULL;
	o.flags = 0;
	o.memfd = 0;
	o.folio = FLN_FOLIO_NR;
	image_refused("folio 3", -EINVAL, o);
	o.folio = FLN_FOLIO_SMALL;
	o.folio_spare_bytes = 12345;
	image_refused("folio_spare_bytes 12345", -EINVAL, o);
	o.folio = FLN_FOLIO_LARGE;
	image_refused("folio_spare_bytes 12345", -EINVAL, o);
	o.folio = FLN_FOLIO_AUTO;
	o.folio_spare_bytes = 0;
	o.memfd = shm;
	(void)snprintf(path, sizeof(path), "memfd %d", shm);
	image_refused(path, -EINVAL, o);

	/* Adopted descriptors. */
	o.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	CHECK(ftruncate(shm, 15 * PAGE) == 0, "ftruncate");
	image_refused("61440", -ENODATA, o);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", shm);
	readonly = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(readonly >= 0, "%s: %s", path, strerror(errno));
	CHECK(ftruncate(shm, 16 * PAGE) == 0, "ftruncate");
	o.memfd = readonly;
	(void)snprintf(path, sizeof(path), "%d", readonly);
	image_refused(path, -EINVAL, o);
	(void)close(readonly);
	o.memfd = 987654;
	image_refused("987654", -EBADF, o);
	file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	o.memfd = file;
	image_refused("descriptor", -EINVAL, o);
	(void)close(file);
	(void)close(shm);

	fln_source_destroy(bed.source);
	OK(fln_image_destroy(NULL));
	OK(fln_engine_destroy(bed.engine));
}

/* The image is longer than its source: known in advance for some, found out by faults for others. */
static void image_longer_than_source(void)
{
	static char contents[4 * PAGE];
	char path[] = "/tmp/faultlane-test-XXXXXX";
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	struct fln_source *source;
	int fd = mkstemp(path);

	begin(16);
	CHECK(fd >= 0 && ftruncate(fd, 5 * PAGE - 1) == 0, "%s", strerror(errno));
	OK(fln_source_open_file(path, PAGE, &source));
	o.source = source;
	o.len_bytes = 4 * PAGE;
	image_refused("16383", -ENODATA, o);
	fln_source_destroy(source);
	OK(fln_source_from_memory(contents, sizeof(contents), &source));
	o.source = source;
	o.len_bytes = 5 * PAGE;
	image_refused("16384", -ENODATA, o);
	fln_source_destroy(source);
	OK(fln_engine_destroy(bed.engine));
	(void)close(fd);
	(void)unlink(path);
}

static void guest_refused(const char *word, int want, struct fln_guest_opts o)
{
	struct fln_guest *guest = (void *)0x1;

	o.size = sizeof(o);
	REFUSED(fln_guest_create(bed.engine, &o, &guest), want, word);
	CHECK(guest == (void *)0x1, "out was written");
}

static void guests(void)
{
	struct fln_stats s = FLN_STATS_INIT;

	begin(16);
	guest_refused("0x40", -EINVAL, (struct fln_guest_opts){ .flags = 0x40 });
	guest_refused("nr_shards 1025", -EINVAL, (struct fln_guest_opts){ .nr_shards = 1025 });
	guest_refused("release 4", -EINVAL, (struct fln_guest_opts){ .release = FLN_RELEASE_NR });
	guest_refused("window_first 3", -EINVAL, (struct fln_guest_opts){ .window_first = 3 });
	guest_refused("window_max 1024", -EINVAL, (struct fln_guest_opts){ .window_max = 1024 });
	guest_refused("window_first 8", -EINVAL,
		      (struct fln_guest_opts){ .window_first = 8, .window_max = 4 });
	guest_refused("foreign_uffd 5", -EINVAL, (struct fln_guest_opts){ .foreign_uffd = 5 });
	guest_refused("987654", -EINVAL,
		      (struct fln_guest_opts){ .flags = FLN_GUEST_F_FOREIGN,
					       .foreign_uffd = 987654 });
	guest_refused("nr_shards 2", -EINVAL,
		      (struct fln_guest_opts){ .flags = FLN_GUEST_F_FOREIGN, .nr_shards = 2 });
	guest_refused("0x2", -EINVAL, (struct fln_guest_opts){ .flags = 0x2 });
	OK(fln_guest_create(bed.engine, NULL, &bed.guest));
	s.size = 0;
	REFUSED(fln_guest_stats(bed.guest, &s), -EINVAL, "size 0");
	s.size = sizeof(s);
	REFUSED(fln_shard_stats(bed.guest, 4096, &s), -EINVAL, "4096");
	OK(fln_guest_start(bed.guest));
	OK(fln_guest_start(bed.guest));
	REFUSED(fln_engine_destroy(bed.engine), -EBUSY, "1");
	OK(fln_guest_stop(bed.guest));
	OK(fln_guest_stop(bed.guest));
	REFUSED(fln_guest_start(bed.guest), -EINVAL, NULL);
	OK(fln_guest_destroy(bed.guest));
	OK(fln_guest_destroy(NULL));
	OK(fln_engine_stop(bed.engine));
	OK(fln_guest_create(bed.engine, NULL, &bed.guest));
	REFUSED(fln_guest_start(bed.guest), -EINVAL, "fln_engine_start");
	OK(fln_engine_start(bed.engine));
	OK(fln_guest_start(bed.guest));
	OK(fln_guest_destroy(bed.guest));
	OK(fln_engine_destroy(bed.engine));
}

static void region_refused(const char *word, int want, struct fln_region_opts o)
{
	struct fln_region *region = (void *)0x1;

	o.size = sizeof(o);
	if (!o.image)
		o.image = bed.image;
	REFUSED(fln_region_add(bed.guest, &o, &region), want, word);
	CHECK(region == (void *)0x1, "out was written");
}

static void regions(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	uint64_t huge = UINT64_C(1) << 62;

	begin(64);
	bed_up(&bed);
	REFUSED(fln_region_add(bed.guest, &o, &region), -EINVAL, "image NULL");
	region_refused("len_bytes 0", -EINVAL, (struct fln_region_opts){ .len_bytes = 0 });
	region_refused("len_bytes 4095", -EINVAL, (struct fln_region_opts){ .len_bytes = 4095 });
	region_refused("addr 0x1001", -EINVAL,
		       (struct fln_region_opts){ .addr = 0x1001, .len_bytes = PAGE });
	region_refused("image_offset_bytes 8", -EINVAL,
		       (struct fln_region_opts){ .image_offset_bytes = 8, .len_bytes = PAGE });
	region_refused("4611686018427387904", -EINVAL,
		       (struct fln_region_opts){ .len_bytes = huge });
	region_refused("0xfffffffffffff000", -EINVAL,
		       (struct fln_region_opts){ .addr = UINT64_MAX - PAGE + 1,
						 .len_bytes = 2 * PAGE });
	region_refused("266240", -EINVAL, (struct fln_region_opts){ .len_bytes = 65 * PAGE });
	region_refused("245760", -EINVAL,
		       (struct fln_region_opts){ .image_offset_bytes = 60 * PAGE,
						 .len_bytes = 5 * PAGE });
	region_refused("18446744073709547520", -EINVAL,
		       (struct fln_region_opts){ .image_offset_bytes = UINT64_MAX - PAGE + 1,
						 .len_bytes = 5 * PAGE });
	region_refused("page_bytes 2097152", -EINVAL,
		       (struct fln_region_opts){ .page_bytes = 1u << 21, .len_bytes = PAGE });
	region_refused("release 4", -EINVAL,
		       (struct fln_region_opts){ .release = FLN_RELEASE_NR, .len_bytes = PAGE });
	region_refused("reserved 1", -EINVAL,
		       (struct fln_region_opts){ .reserved = 1, .len_bytes = PAGE });
	region_refused("discard 3", -EINVAL,
		       (struct fln_region_opts){ .discard = 3, .len_bytes = PAGE });
	region_refused("sharing 9", -EINVAL,
		       (struct fln_region_opts){ .sharing = 9, .len_bytes = PAGE });
	/* The first page of all, and the last address that a user has: nothing is there. */
	region_refused(test_hex(PAGE), -EINVAL,
		       (struct fln_region_opts){ .addr = PAGE, .len_bytes = PAGE });
	region_refused(test_hex(UINT64_MAX - 4 * PAGE + 1), -EINVAL,
		       (struct fln_region_opts){ .addr = UINT64_MAX - 4 * PAGE + 1,
						 .len_bytes = 2 * PAGE });
	REFUSED(fln_image_destroy(bed.image), -EBUSY, "1");
	read_all(&bed, 4);
	OK(fln_guest_stop(bed.guest));
	region_refused(NULL, -EINVAL, (struct fln_region_opts){ .len_bytes = PAGE });
	OK(fln_region_remove(NULL));
	bed_down(&bed);
}

/* Two engines in one process do not know of each other's workers. */
static void image_of_another_engine(void)
{
	struct fln_region_opts o = { .len_bytes = PAGE };
	struct fln_engine *other;

	begin(64);
	bed_up(&bed);
	OK(fln_engine_create(&bed.engine_opts, &other));
	OK(fln_image_create(other, &bed.image_opts, &o.image));
	region_refused(NULL, -EINVAL, o);
	OK(fln_image_destroy(o.image));
	OK(fln_engine_destroy(other));
	bed_down(&bed);
}

/* What has no object says so. */
static void no_objects(void)
{
	struct fln_stats stats = FLN_STATS_INIT;
	char buf[PAGE] = { 0 };

	REFUSED(fln_image_put(NULL, 0, buf, PAGE), -EINVAL, "NULL");
	REFUSED(fln_image_fill(NULL, 0, PAGE), -EINVAL, "NULL");
	REFUSED(fln_image_discard(NULL, 0, PAGE), -EINVAL, "NULL");
	REFUSED(fln_guest_stats(NULL, &stats), -EINVAL, "NULL");
	REFUSED(fln_shard_stats(NULL, 0, &stats), -EINVAL, "NULL");
}

static void sources(void)
{
	struct fln_source_error_opts errors = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source_ops ops = { .size = sizeof(ops) };
	struct fln_source *source, *wrapped;

	REFUSED(fln_source_create(NULL, NULL, &source), -EINVAL, "ops");
	REFUSED(fln_source_create(&ops, NULL, &source), -EINVAL, "read");
	REFUSED(fln_source_open_file("/nowhere/at/all", 0, &source), -ENOENT, "/nowhere/at/all");
	REFUSED(fln_source_open_file("/", 0, &source), -EINVAL, "/");
	REFUSED(fln_source_open_file("/proc/self/exe", 12, &source), -EINVAL, "12");
	REFUSED(fln_source_open_file("/proc/self/exe", UINT64_C(1) << 50, &source), -EINVAL,
		"1125899906842624");
	REFUSED(fln_source_from_memory(NULL, PAGE, &source), -EINVAL, "addr");
	REFUSED(fln_source_from_memory(&ops, UINT64_MAX, &source), -EINVAL, "18446744073709551615");
	OK(fln_source_from_memory(&ops, sizeof(ops), &source));
	errors.fail_percent = 101;
	REFUSED(fln_source_with_errors(source, &errors, &wrapped), -EINVAL, "101");
	fln_source_destroy(source);
}

/* Every page of a range that a file no longer has is poisoned; none reads zeros. */
static void file_truncated_in_use(void)
{
	char path[] = "/tmp/faultlane-test-XXXXXX";
	static _Alignas(8) char buf[PAGE];
	int fd = mkstemp(path);
	uint64_t nr = 256, cut = 100, value;

	begin(nr);
	bed.engine_opts.fill_pages = 16;
	bed.engine_opts.source_retries = UINT32_MAX;
	OK(fln_engine_destroy(bed.engine));
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	for (uint64_t page = 0; page < nr; page++) {
		contents_of(1, page, buf);
		CHECK(write(fd, buf, PAGE) == (ssize_t)PAGE, "%s", strerror(errno));
	}
	OK(fln_source_open_file(path, 0, &bed.source));
	bed.image_opts.source = bed.source;
	bed_up(&bed);
	CHECK(touch_read(bed_page(&bed, 0), &value) == TOUCH_OK, "page 0");
	/* In the middle of a page: what is left of it is not contents either. */
	CHECK(ftruncate(fd, (off_t)(cut * PAGE + 100)) == 0, "%s", strerror(errno));
	STEP("reading behind the new end of the file");
	for (uint64_t page = 0; page < nr; page++) {
		enum touch end = touch_read(bed_page(&bed, page), &value);

		if (end == TOUCH_OK)
			CHECK(value == word_of(1, page, 0), "page %llu reads 0x%llx",
			      (unsigned long long)page, (unsigned long long)value);
		CHECK(end == (page < cut ? TOUCH_OK : TOUCH_SIGBUS), "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
	}
	CHECK(log_names(&bed.log, FLN_LOG_ERROR, test_hex((uintptr_t)bed_page(&bed, cut))),
	      "the log does not say so");
	bed_down(&bed);
	(void)close(fd);
	(void)unlink(path);
}

/* The adopted memfd itself is cut: the kernel's SIGBUS, and nobody hangs. */
static void memfd_truncated_in_use(void)
{
	static _Alignas(8) char buf[PAGE];
	uint64_t value;
	int fd = memfd_create("cut", MFD_CLOEXEC);

	begin(1024);
	for (uint64_t page = 0; page < 1024; page++) {
		contents_of(1, page, buf);
		CHECK(write(fd, buf, PAGE) == (ssize_t)PAGE, "%s", strerror(errno));
	}
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED | FLN_IMAGE_F_UNSEALED;
	bed.image_opts.memfd = fd;
	bed_up(&bed);
	CHECK(touch_read(bed_page(&bed, 700), &value) == TOUCH_OK, "page 700");
	CHECK(ftruncate(fd, 512 * PAGE) == 0, "%s", strerror(errno));
	STEP("reading behind the new end of the memfd");
	for (uint64_t page = 0; page < 1024; page++) {
		enum touch end = touch_read(bed_page(&bed, page), &value);

		CHECK(end == (page < 512 ? TOUCH_OK : TOUCH_SIGBUS), "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
	}
	bed_down(&bed);
	(void)close(fd);
}

/* Registered with our userfaultfd, but in no region: SIGBUS and a log line, no loop. */
static void address_of_no_region(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct toucher t;
	struct fln_stats s;
	uint64_t value;
	uint8_t *p;

	begin(32);
	p = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bed.guest_opts.flags = FLN_GUEST_F_FOREIGN;
	bed.guest_opts.foreign_uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);
	CHECK(raw_register(bed.guest_opts.foreign_uffd, p, 32 * PAGE,
			   UFFDIO_REGISTER_MODE_MISSING) == 0,
	      "register");
	maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	OK(fln_guest_create(bed.engine, &bed.guest_opts, &bed.guest));
	o.image = bed.image;
	o.len_bytes = 16 * PAGE;
	REFUSED(fln_region_add(bed.guest, &o, &bed.region), -EINVAL, "addr 0");
	o.addr = (uintptr_t)p;
	OK(fln_region_add(bed.guest, &o, &bed.region));
	bed_up(&bed);
	CHECK(touch_read(p + 15 * PAGE, &value) == TOUCH_OK && value == word_of(1, 15, 0),
	      "page 15 reads 0x%llx", (unsigned long long)value);
	toucher_read(&t, p + 16 * PAGE);
	toucher_expect(&t, TOUCH_SIGBUS, "a touch where no region is");
	settled_stats(bed.guest, &s);
	CHECK(s.invalid >= 1 && s.invalid < 10, "%llu invalid faults",
	      (unsigned long long)s.invalid);
	CHECK(log_names(&bed.log, FLN_LOG_ERROR, test_hex((uintptr_t)p + 16 * PAGE)),
	      "the log does not say so");
	bed_down(&bed);
	(void)munmap(p, 32 * PAGE);
}

int main(void)
{
	test_init();
	RUN(engines);
	RUN(sizes_of_options);
	RUN(images);
	RUN(image_longer_than_source);
	RUN(guests);
	RUN(regions);
	RUN(image_of_another_engine);
	RUN(no_objects);
	RUN(sources);
	RUN(file_truncated_in_use);
	RUN(memfd_truncated_in_use);
	RUN(address_of_no_region);
	return 0;
}
