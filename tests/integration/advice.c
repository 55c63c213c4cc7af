/* SPDX-License-Identifier: MIT */
/* fln_guest_advise(), locked ranges, residency: what was said of a range is done. */
#include "harness.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t at(const struct bed *b, uint64_t page)
{
	return (uint64_t)(uintptr_t)bed_page(b, page);
}

static void check_page(const struct bed *b, uint64_t page)
{
	bool right = false;

	CHECK(touch_page(bed_page(b, page), 1, page, &right) == TOUCH_OK && right,
	      "page %llu is wrong", (unsigned long long)page);
}

static uint64_t resident(const struct bed *b, enum fln_residency_state state)
{
	struct fln_residency r = FLN_RESIDENCY_INIT;

	OK(fln_guest_residency(b->guest, at(b, 0), b->nr_pages * PAGE, NULL, &r));
	return r.nr_pages[state];
}

static void random_maps_one_page_a_fault(void)
{
	struct fln_stats s;
	struct bed b;
	uint64_t nr = 0;

	bed_init(&b, 8 * 512);
	bed_up(&b);
	OK(fln_guest_advise(b.guest, at(&b, 0), 4 * BLOCK, FLN_ADVICE_RANDOM));
	for (uint64_t p = 3; p < 4 * 512; p += 37, nr++)
		check_page(&b, p);
	settled_stats(b.guest, &s);
	/* A page that is reclaimed before its thread has run again faults once more. */
	CHECK(s.faults - s.refaults == nr && s.pages_installed - s.refaults == nr,
	      "%llu touches: %llu faults, %llu pages, %llu refaults", (unsigned long long)nr,
	      (unsigned long long)s.faults, (unsigned long long)s.pages_installed,
	      (unsigned long long)s.refaults);
	CHECK(atomic_load(&b.maker.nr_bytes) == nr * PAGE, "%llu pages were read, of %llu touched",
	      (unsigned long long)(atomic_load(&b.maker.nr_bytes) / PAGE), (unsigned long long)nr);
	/* The rest of the guest has windows; and so has this range, once that is said. */
	check_page(&b, 5 * 512);
	OK(fln_guest_advise(b.guest, at(&b, 512), BLOCK, FLN_ADVICE_NORMAL));
	check_page(&b, 512 + 2);
	settled_stats(b.guest, &s);
	CHECK(s.pages_installed > nr + 2, "%llu pages: no windows",
	      (unsigned long long)s.pages_installed);
	bed_down(&b);
}

/*
 * A reader that does something with what it reads, for as long as the engine needs for the
 * next block: how long that is depends on what else runs on the machine.  Where nothing comes
 * it goes on, and the faults that it takes tell.
 */
static void work_until_ahead(const struct bed *b, uint64_t page)
{
	struct fln_residency r = FLN_RESIDENCY_INIT;

	for (uint64_t t0 = now_ns(); page < b->nr_pages && now_ns() - t0 < 3000 * MS;) {
		OK(fln_guest_residency(b->guest, at(b, page), BLOCK, NULL, &r));
		if (r.nr_pages[FLN_RESIDENCY_PRESENT] >= 511) /* a piece may begin there */
			return;
		sleep_ms(2);
	}
}

/* Until what was begun to be read ahead has come: nothing more does for a while. */
static void settle_ahead(const struct bed *b)
{
	uint64_t before = UINT64_MAX, now = resident(b, FLN_RESIDENCY_PRESENT);

	for (; now != before; now = resident(b, FLN_RESIDENCY_PRESENT)) {
		before = now;
		sleep_ms(100);
	}
}

static void sequential_faults_far_fewer_than_blocks(void)
{
	struct fln_stats s;
	struct bed b;

	bed_init(&b, (uint64_t)test_scale(128, 256, 1024) * 512);
	b.maker.delay_ns = 0;
	bed_up(&b);
	OK(fln_guest_advise(b.guest, at(&b, 0), b.nr_pages * PAGE, FLN_ADVICE_SEQUENTIAL));
	for (uint64_t p = 0; p < b.nr_pages; p++) {
		check_page(&b, p);
		if (p % 512 == 0)
			work_until_ahead(&b, p + 512);
	}
	settled_stats(b.guest, &s);
	test_note("%llu blocks: %llu faults, %llu pages ahead",
		  (unsigned long long)b.nr_pages / 512, (unsigned long long)s.faults,
		  (unsigned long long)s.populated);
	CHECK(s.faults - s.refaults < b.nr_pages / 512 / 2, "%llu faults for %llu blocks",
	      (unsigned long long)s.faults, (unsigned long long)b.nr_pages / 512);
	CHECK(s.populated > b.nr_pages / 2, "%llu pages were mapped ahead",
	      (unsigned long long)s.populated);
	bed_down(&b);
}

/* Streams that have come to their end, or were left, do not take the next pass for their own. */
static void a_second_pass_is_read_ahead_too(void)
{
	static const uint64_t nr_blocks[] = { 16, 16, 6, 16, 16 };
	uint64_t before = 0;
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 16 * 512);
	bed_up(&b);
	OK(fln_guest_advise(b.guest, at(&b, 0), b.nr_pages * PAGE, FLN_ADVICE_SEQUENTIAL));
	for (uint32_t pass = 0; pass < 5; pass++) {
		for (uint64_t p = 0; p < nr_blocks[pass] * 512; p++) {
			check_page(&b, p);
			if (p % 512 == 0)
				work_until_ahead(&b, p + 512);
		}
		settled_stats(b.guest, &s);
		test_note("pass %u: %llu faults", pass,
			  (unsigned long long)(s.faults - s.refaults - before));
		CHECK(s.faults - s.refaults - before <= 8, "pass %u: %llu faults for 16 blocks",
		      pass, (unsigned long long)(s.faults - s.refaults - before));
		before = s.faults - s.refaults;
		settle_ahead(&b);
		OK(fln_guest_advise(b.guest, at(&b, 0), b.nr_pages * PAGE, FLN_ADVICE_DONTNEED));
	}
	bed_down(&b);
}

/* Where the range ends read-ahead ends, and two streams do not disturb each other. */
static void read_ahead_keeps_to_its_range(void)
{
	struct bed b;

	bed_init(&b, 64 * 512);
	bed_up(&b);
	OK(fln_guest_advise(b.guest, at(&b, 8 * 512), 8 * BLOCK, FLN_ADVICE_SEQUENTIAL));
	OK(fln_guest_advise(b.guest, at(&b, 32 * 512), 8 * BLOCK, FLN_ADVICE_SEQUENTIAL));
	for (uint64_t p = 0; p < 8 * 512; p++) {
		check_page(&b, 8 * 512 + p);
		check_page(&b, 32 * 512 + p);
	}
	for (uint64_t t0 = now_ns(); resident(&b, FLN_RESIDENCY_PRESENT) < 16 * 512; sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "%llu pages are mapped of %u",
		      (unsigned long long)resident(&b, FLN_RESIDENCY_PRESENT), 16 * 512);
	sleep_ms(20);
	CHECK(resident(&b, FLN_RESIDENCY_PRESENT) == 16 * 512, "%llu pages are mapped of %u",
	      (unsigned long long)resident(&b, FLN_RESIDENCY_PRESENT), 16 * 512);
	bed_down(&b);
}

/* DONTNEED in a shared region: contents stay due, also where they have not been read. */
static void dontneed_brings_contents_back(void)
{
	uint64_t v;
	struct bed b;

	bed_init(&b, 4 * 512);
	bed_up(&b);
	for (uint64_t p = 0; p < b.nr_pages; p += 100)
		CHECK(touch_write(bed_page(&b, p), p + 7) == TOUCH_OK, "page %llu",
		      (unsigned long long)p);
	OK(fln_guest_advise(b.guest, at(&b, 0), b.nr_pages * PAGE, FLN_ADVICE_DONTNEED));
	CHECK(resident(&b, FLN_RESIDENCY_PRESENT) == 0, "%llu pages are still mapped",
	      (unsigned long long)resident(&b, FLN_RESIDENCY_PRESENT));
	for (uint64_t p = 0; p < b.nr_pages; p++) {
		CHECK(touch_read(bed_page(&b, p), &v) == TOUCH_OK &&
			      v == (p % 100 ? word_of(1, p, 0) : p + 7),
		      "page %llu reads 0x%llx", (unsigned long long)p, (unsigned long long)v);
	}
	bed_down(&b);
}

/* Discards of somebody else are discards, before and after ours. */
static void other_discards_stay_discards(void)
{
	uint64_t v;
	struct bed b;

	bed_init(&b, 4 * 512);
	bed_up(&b);
	OK(fln_guest_advise(b.guest, at(&b, 0), 3 * BLOCK, FLN_ADVICE_DONTNEED));
	CHECK(madvise(bed_page(&b, 512), BLOCK, MADV_DONTNEED) == 0, "%s", strerror(errno));
	OK(fln_guest_advise(b.guest, at(&b, 0), 3 * BLOCK, FLN_ADVICE_DONTNEED));
	for (uint64_t p = 0; p < b.nr_pages; p++) {
		CHECK(touch_read(bed_page(&b, p), &v) == TOUCH_OK &&
			      v == (p / 512 == 1 ? 0 : word_of(1, p, 0)),
		      "page %llu reads 0x%llx", (unsigned long long)p, (unsigned long long)v);
	}
	bed_down(&b);
}

static void drop_for_ever(void *arg, uint32_t index)
{
	struct bed *b = arg;

	(void)index;
	for (uint32_t i = 0; i < test_scale(50, 200, 2000); i++) {
		uint64_t block = i % 6;

		OK(fln_guest_advise(b->guest, at(b, block * 512 + 3), BLOCK + 17 * PAGE,
				    FLN_ADVICE_DONTNEED));
	}
}

struct readers {
	struct bed *b;
	_Atomic bool stop;
};

static void read_for_ever(void *arg, uint32_t index)
{
	struct readers *r = arg;
	uint64_t seed = index + 1;

	while (!atomic_load(&r->stop))
		check_page(r->b, next_random(&seed) % r->b->nr_pages);
}

static void dontneed_beside_touching_threads(void)
{
	struct readers r = { 0 };
	struct crew readers, droppers;
	struct bed b;

	bed_init(&b, 8 * 512);
	b.maker.delay_ns = MS / 10;
	bed_up(&b);
	r.b = &b;
	crew_start(&readers, 16, read_for_ever, &r);
	crew_start(&droppers, 2, drop_for_ever, &b);
	crew_wait(&droppers, 60, "DONTNEED beside threads that touch");
	atomic_store(&r.stop, true);
	crew_wait(&readers, WAIT_S, "threads that touch");
	bed_down(&b);
}

struct repaired {
	_Atomic bool broken;
};

static int64_t read_unless_broken(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct repaired *m = ctx;

	if (atomic_load(&m->broken))
		return -EIO;
	for (uint64_t i = 0; i < len_bytes; i += PAGE)
		contents_of(1, (offset_bytes + i) / PAGE, (char *)buf + i);
	return (int64_t)len_bytes;
}

static void a_poisoned_page_comes_back(void)
{
	struct repaired m = { .broken = true };
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "repaired",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = read_unless_broken };
	uint64_t v;
	struct bed b;

	bed_init(&b, 1024);
	b.engine_opts.source_retries = 1;
	OK(fln_source_create(&ops, &m, &b.source));
	b.image_opts.source = b.source;
	bed_up(&b);
	CHECK(touch_read(bed_page(&b, 700), &v) == TOUCH_SIGBUS, "0x%llx", (unsigned long long)v);
	CHECK(resident(&b, FLN_RESIDENCY_POISONED) > 0, "nothing is poisoned");
	REFUSED(fln_guest_populate(b.guest, at(&b, 700), PAGE, NULL), -EIO, test_hex(at(&b, 700)));
	atomic_store(&m.broken, false);
	CHECK(touch_read(bed_page(&b, 700), &v) == TOUCH_SIGBUS, "0x%llx", (unsigned long long)v);
	OK(fln_guest_advise(b.guest, at(&b, 0), b.nr_pages * PAGE, FLN_ADVICE_DONTNEED));
	for (uint64_t p = 0; p < b.nr_pages; p++)
		check_page(&b, p);
	CHECK(resident(&b, FLN_RESIDENCY_POISONED) == 0, "some are poisoned");
	bed_down(&b);
}

/* VmLck of this process, in bytes. */
static uint64_t locked_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	char line[256];

	CHECK(f, "/proc/self/status: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		(void)sscanf(line, "VmLck: %llu kB", &kib);
	(void)fclose(f);
	return kib * 1024;
}

static void locked_ranges(void)
{
	uint64_t before = locked_bytes();
	struct bed b;

	bed_init(&b, 4 * 512);
	bed_up(&b);
	OK(fln_guest_lock(b.guest, at(&b, 10), 600 * PAGE));
	CHECK(locked_bytes() == before + 600 * PAGE, "VmLck grew by %llu",
	      (unsigned long long)(locked_bytes() - before));
	CHECK(resident(&b, FLN_RESIDENCY_PRESENT) == 600, "%llu pages are mapped",
	      (unsigned long long)resident(&b, FLN_RESIDENCY_PRESENT));
	REFUSED(fln_guest_advise(b.guest, at(&b, 0), BLOCK, FLN_ADVICE_DONTNEED), -EINVAL,
		test_hex(at(&b, 10)));
	REFUSED(fln_guest_advise(b.guest, at(&b, 609), PAGE, FLN_ADVICE_DONTNEED), -EINVAL,
		test_hex(at(&b, 610)));
	OK(fln_guest_advise(b.guest, at(&b, 0), 10 * PAGE, FLN_ADVICE_DONTNEED));
	OK(fln_guest_advise(b.guest, at(&b, 610), BLOCK, FLN_ADVICE_DONTNEED));
	OK(fln_guest_unlock(b.guest, at(&b, 100), 100 * PAGE));
	CHECK(locked_bytes() == before + 500 * PAGE, "VmLck is %llu more",
	      (unsigned long long)(locked_bytes() - before));
	OK(fln_guest_advise(b.guest, at(&b, 100), 100 * PAGE, FLN_ADVICE_DONTNEED));
	REFUSED(fln_guest_advise(b.guest, at(&b, 99), PAGE, FLN_ADVICE_DONTNEED), -EINVAL,
		test_hex(at(&b, 100)));
	OK(fln_guest_unlock(b.guest, at(&b, 0), b.nr_pages * PAGE));
	OK(fln_guest_unlock(b.guest, at(&b, 0), b.nr_pages * PAGE));
	CHECK(locked_bytes() == before, "VmLck");
	/* Windows, which the pieces cut, are whole all the same. */
	for (uint64_t p = 0; p < b.nr_pages; p++)
		check_page(&b, p);
	OK(fln_guest_lock(b.guest, at(&b, 0), PAGE));
	OK(fln_region_remove(b.region));
	CHECK(locked_bytes() == before, "VmLck after its region has gone");
	bed_down(&b);
}

/* A mapping of the embedder's own stays when its region goes: unlocked. */
static void an_adopted_mapping_is_unlocked(void)
{
	uint64_t before = locked_bytes();
	struct bed b;
	void *p;

	bed_init(&b, 512);
	bed_up_image(&b);
	p = mmap(NULL, b.nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fln_image_memfd(b.image), 0);
	CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
	b.region_opts.addr = (uint64_t)(uintptr_t)p;
	bed_up(&b);
	OK(fln_guest_lock(b.guest, at(&b, 0), b.nr_pages * PAGE));
	CHECK(locked_bytes() == before + b.nr_pages * PAGE, "VmLck");
	OK(fln_region_remove(b.region));
	CHECK(locked_bytes() == before, "VmLck after its region has gone");
	CHECK(munmap(p, b.nr_pages * PAGE) == 0, "munmap");
	bed_down(&b);
}

/* CAP_IPC_LOCK of this thread, if the process has it. */
static void may_lock_anything(bool may)
{
	static uint32_t had;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	CHECK(syscall(SYS_capget, &header, data) == 0, "capget: %s", strerror(errno));
	if (!may)
		had = data[0].effective;
	data[0].effective = may ? had : data[0].effective & ~(1u << CAP_IPC_LOCK);
	CHECK(syscall(SYS_capset, &header, data) == 0, "capset: %s", strerror(errno));
}

static void over_the_limit(void)
{
	struct rlimit old, low = { .rlim_cur = 64 * PAGE, .rlim_max = 64 * PAGE };
	uint64_t before = locked_bytes();
	struct bed b;

	bed_init(&b, 1024);
	bed_up(&b);
	CHECK(getrlimit(RLIMIT_MEMLOCK, &old) == 0, "getrlimit");
	low.rlim_max = old.rlim_max;
	CHECK(setrlimit(RLIMIT_MEMLOCK, &low) == 0, "setrlimit");
	OK(fln_guest_lock(b.guest, at(&b, 500), 16 * PAGE));
	may_lock_anything(false);
	REFUSED(fln_guest_lock(b.guest, at(&b, 0), 512 * PAGE), -ENOMEM, "RLIMIT_MEMLOCK");
	may_lock_anything(true);
	/* What was locked before is locked still. */
	CHECK(locked_bytes() == before + 16 * PAGE, "VmLck");
	REFUSED(fln_guest_advise(b.guest, at(&b, 515), PAGE, FLN_ADVICE_DONTNEED), -EINVAL,
		test_hex(at(&b, 516)));
	OK(fln_guest_advise(b.guest, at(&b, 0), PAGE, FLN_ADVICE_DONTNEED));
	CHECK(setrlimit(RLIMIT_MEMLOCK, &old) == 0, "setrlimit");
	bed_down(&b);
	CHECK(locked_bytes() == before, "VmLck in the end");
}

/* A thread goes on as soon as its page is mapped, and that is noted after. */
static void wait_present(const struct bed *b, uint64_t page)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;
	uint8_t state = FLN_RESIDENCY_NR;

	do {
		CHECK(now_ns() < until, "page %llu, which was touched, stays in state %u",
		      (unsigned long long)page, state);
		OK(fln_guest_residency(b->guest, at(b, page), PAGE, &state, NULL));
	} while (state != FLN_RESIDENCY_PRESENT);
}

/* Random operations against what they must come to. */
static void residency_against_a_model(void)
{
	enum {
		NR = 3 * 512 + 100
	};
	static uint8_t model[NR], vec[NR];
	uint64_t seed = 7;
	struct bed b;

	bed_init(&b, NR);
	b.guest_opts.window_first = 1;
	b.guest_opts.window_max = 1;
	b.engine_opts.fill_pages = 1;
	bed_up(&b);
	memset(model, FLN_RESIDENCY_ABSENT, NR);
	for (uint32_t i = 0; i < test_scale(200, 600, 5000); i++) {
		uint64_t lo = next_random(&seed) % NR, nr = 1 + next_random(&seed) % 300;
		struct fln_residency sum = FLN_RESIDENCY_INIT;
		uint64_t want[FLN_RESIDENCY_NR] = { 0 };

		nr = nr < NR - lo ? nr : NR - lo;
		switch (next_random(&seed) % 4) {
		case 0:
			check_page(&b, lo);
			wait_present(&b, lo);
			model[lo] = FLN_RESIDENCY_PRESENT;
			break;
		case 1:
			OK(fln_image_fill(b.image, lo * PAGE, nr * PAGE));
			for (uint64_t p = lo; p < lo + nr; p++) {
				if (model[p] == FLN_RESIDENCY_ABSENT)
					model[p] = FLN_RESIDENCY_FILLED;
			}
			break;
		case 2:
			OK(fln_guest_populate(b.guest, at(&b, lo), nr * PAGE, NULL));
			memset(model + lo, FLN_RESIDENCY_PRESENT, nr);
			break;
		default:
			OK(fln_guest_advise(b.guest, at(&b, lo), nr * PAGE, FLN_ADVICE_DONTNEED));
			for (uint64_t p = lo; p < lo + nr; p++) {
				if (model[p] == FLN_RESIDENCY_PRESENT)
					model[p] = FLN_RESIDENCY_FILLED;
			}
			break;
		}
		lo = next_random(&seed) % NR;
		nr = 1 + next_random(&seed) % (NR - lo);
		OK(fln_guest_residency(b.guest, at(&b, lo), nr * PAGE, vec, &sum));
		for (uint64_t p = lo; p < lo + nr; p++) {
			CHECK(vec[p - lo] == model[p], "step %u: page %llu is %u, not %u", i,
			      (unsigned long long)p, vec[p - lo], model[p]);
			want[model[p]]++;
		}
		for (uint32_t s = 0; s < FLN_RESIDENCY_NR; s++)
			CHECK(sum.nr_pages[s] == want[s], "step %u: state %u: %llu, not %llu", i, s,
			      (unsigned long long)sum.nr_pages[s], (unsigned long long)want[s]);
	}
	bed_down(&b);
}

/* A guest that nobody has touched, much larger than the machine: the sum is no long matter. */
static void residency_of_a_large_guest(void)
{
	struct fln_residency r = FLN_RESIDENCY_INIT;
	uint64_t nr = (uint64_t)test_scale(64, 1024, 1024) << 18; /* GiB */
	uint64_t v = 1, until, t0;
	struct bed b;

	bed_init(&b, nr);
	/* Filled, all holes: what is not filled would be poisoned page by page in the end. */
	b.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	b.image_opts.memfd = memfd_create("large", MFD_ALLOW_SEALING);
	CHECK(ftruncate(b.image_opts.memfd, (off_t)(nr * PAGE)) == 0, "ftruncate: %s",
	      strerror(errno));
	bed_up(&b);
	CHECK(touch_read(bed_page(&b, nr / 2), &v) == TOUCH_OK && v == 0, "0x%llx",
	      (unsigned long long)v);
	/* What is mapped is noted a moment after its thread goes on. */
	until = now_ns() + WAIT_S * 1000 * MS;
	do {
		CHECK(now_ns() < until, "the page that was touched is not noted as mapped");
		OK(fln_guest_residency(b.guest, at(&b, nr / 2), PAGE, NULL, &r));
	} while (r.nr_pages[FLN_RESIDENCY_PRESENT] == 0);
	t0 = now_ns();
	OK(fln_guest_residency(b.guest, at(&b, 0), nr * PAGE, NULL, &r));
	test_note("%llu ms for %llu GiB", (unsigned long long)((now_ns() - t0) / MS),
		  (unsigned long long)nr >> 18);
	CHECK(r.nr_pages[FLN_RESIDENCY_PRESENT] > 0, "nothing is mapped");
	CHECK(r.nr_pages[FLN_RESIDENCY_PRESENT] + r.nr_pages[FLN_RESIDENCY_FILLED] +
			      r.nr_pages[FLN_RESIDENCY_ABSENT] ==
		      nr,
	      "the sum is wrong");
	r.size = 3;
	REFUSED(fln_guest_residency(b.guest, at(&b, 0), PAGE, NULL, &r), -EINVAL, "size");
	bed_down(&b);
	(void)close(b.image_opts.memfd);
}

/* A buffer that is handed to a system call, which does not wait in an in-context region. */
static void a_buffer_for_a_system_call(void)
{
	char name[] = "/proc/self/stat";
	int fd = open(name, 0);
	uint32_t rounds = test_scale(20, 100, 1000);
	struct bed b;

	bed_init(&b, 4 * 512);
	b.region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	bed_up(&b);
	CHECK(fd >= 0, "%s: %s", name, strerror(errno));
	for (uint32_t i = 0; i < rounds; i++) {
		uint64_t page = (i * 37u) % (b.nr_pages - 8);
		ssize_t n;

		if (i % 3 == 1)
			OK(fln_image_discard(b.image, page * PAGE, 4 * PAGE));
		else if (i % 3 == 2)
			OK(fln_guest_advise(b.guest, at(&b, page), 8 * PAGE, FLN_ADVICE_DONTNEED));
		/* The kernel may take back what was populated: once more, then. */
		for (uint32_t try = 0; try < 5; try++) {
			OK(fln_guest_populate(b.guest, at(&b, page), 8 * PAGE, NULL));
			n = syscall(SYS_pread64, fd, bed_page(&b, page), 4 * PAGE, 0);
			if (n > 0 || errno != EFAULT)
				break;
		}
		CHECK(n > 0, "round %u: read into page %llu: %s", i, (unsigned long long)page,
		      strerror(errno));
	}
	(void)close(fd);
	bed_down(&b);
}

int main(void)
{
	test_init();
	RUN(random_maps_one_page_a_fault);
	RUN(sequential_faults_far_fewer_than_blocks);
	RUN(a_second_pass_is_read_ahead_too);
	RUN(read_ahead_keeps_to_its_range);
	RUN(dontneed_brings_contents_back);
	RUN(other_discards_stay_discards);
	RUN(dontneed_beside_touching_threads);
	RUN(a_poisoned_page_comes_back);
	if (TEST_TSAN || TEST_ASAN) {
		test_note("locked ranges are left out: the sanitizers' munlock() does nothing");
	} else {
		RUN(locked_ranges);
		RUN(an_adopted_mapping_is_unlocked);
		RUN(over_the_limit);
	}
	RUN(residency_against_a_model);
	RUN(residency_of_a_large_guest);
	RUN(a_buffer_for_a_system_call);
	return 0;
}
