/* SPDX-License-Identifier: MIT */
/*
 * Guests and regions come and go, thousands of times, while 200 threads fault in
 * other guests of the same engine: shared, private and in-context ones, started and
 * not, removed first or with their guest, in guests of their own and in those that
 * stay.  Every page that is read is verified, and in the end nothing is left of what
 * has gone: no descriptor, no mapping, not a byte of the allocator's.
 */
#include "tests/integration/harness.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NR_GUESTS 4u
#define NR_THREADS 200u
#define PER_GUEST (NR_THREADS / NR_GUESTS)
#define SLICE 40u /* pages of one thread */
#define NR_PAGES (PER_GUEST * SLICE)
#define NR_CHURNERS 3u
#define HANG_S 180u
/* Rounds before the first count: what stays is made in them. */
#define WARM (TEST_ASAN || TEST_TSAN ? 20u : 200u)
/* And before the second: whatever a round leaves behind shows after a few. */
#define FEWEST (TEST_ASAN || TEST_TSAN ? 20u : 100u)

static struct bed bed; /* its engine and image, and the first guest */
static struct fln_guest *guests[NR_GUESTS];
static struct fln_region *regions[NR_GUESTS];
static bool in_context; /* is possible here */

static _Atomic bool stop, parked;
static _Atomic uint32_t nr_parked;
static _Atomic uint64_t nr_read, nr_rounds, max_rounds;

/* Whoever is parked holds nothing and touches nothing. */
static void park(void)
{
	if (!atomic_load(&parked))
		return;
	atomic_fetch_add(&nr_parked, 1);
	while (atomic_load(&parked))
		sleep_ms(1);
	atomic_fetch_sub(&nr_parked, 1);
}

static void park_all(uint32_t nr)
{
	STEP("parking");
	atomic_store(&parked, true);
	wait_count(&nr_parked, nr, 60, "threads that park");
}

static void let_go(void)
{
	atomic_store(&parked, false);
	while (atomic_load(&nr_parked) > 0)
		sleep_ms(1);
}

/* The allocator: counts. */

static _Atomic int64_t alloc_bytes, alloc_blocks;

static void *count_alloc(void *ctx, size_t size_bytes, size_t align_bytes, uint32_t node)
{
	void *p = NULL;

	(void)ctx;
	(void)node;
	if (posix_memalign(&p, align_bytes < sizeof(p) ? sizeof(p) : align_bytes, size_bytes))
		return NULL;
	atomic_fetch_add(&alloc_bytes, (int64_t)size_bytes);
	atomic_fetch_add(&alloc_blocks, 1);
	return p;
}

static void count_free(void *ctx, void *ptr, size_t size_bytes, uint32_t node)
{
	(void)ctx;
	(void)node;
	if (!ptr)
		return;
	atomic_fetch_sub(&alloc_bytes, (int64_t)size_bytes);
	atomic_fetch_sub(&alloc_blocks, 1);
	free(ptr);
}

/* Threads that fault, again and again, in guests that stay. */

static void check_page(uint8_t *at, uint64_t page)
{
	bool right = false;
	enum touch end = touch_page(at, 1, page, &right);

	CHECK(end == TOUCH_OK && right, "page %llu at %p: the thread %s, %s",
	      (unsigned long long)page, (void *)at, touch_name(end), right ? "right" : "wrong");
	atomic_fetch_add(&nr_read, 1);
}

static void faulter(void *arg, uint32_t index)
{
	uint64_t first = (uint64_t)(index / NR_GUESTS) * SLICE;
	uint8_t *mem = fln_region_addr(regions[index % NR_GUESTS]);
	uint64_t random = index;

	(void)arg;
	while (!atomic_load(&stop)) {
		for (uint64_t i = 0; i < SLICE; i++)
			check_page(mem + (first + i) * PAGE, first + i);
		CHECK(madvise(mem + first * PAGE, SLICE * PAGE, MADV_DONTNEED) == 0, "%s",
		      strerror(errno));
		sleep_ms(50 + (uint32_t)(next_random(&random) % 100));
		park();
	}
}

/* One that comes, is touched, and goes. */

static struct fln_region *add(struct fln_guest *guest, uint64_t *random, uint64_t *first,
			      uint64_t *nr, bool may_be_in_context)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	uint64_t kind = next_random(random) % 4;
	struct fln_region *region;

	*nr = 1 + next_random(random) % 700;
	*first = next_random(random) % (NR_PAGES - *nr);
	o.image = bed.image;
	o.image_offset_bytes = *first * PAGE;
	o.len_bytes = *nr * PAGE;
	o.discard = FLN_DISCARD_IMAGE;
	if (kind == 1)
		o.sharing = FLN_SHARING_PRIVATE;
	if (kind == 2 && may_be_in_context && in_context)
		o.delivery = FLN_DELIVERY_IN_CONTEXT;
	OK(fln_region_add(guest, &o, &region));
	return region;
}

static void touch_some(struct fln_region *region, uint64_t *random, uint64_t first, uint64_t nr)
{
	uint8_t *mem = fln_region_addr(region);

	for (uint32_t i = 0; i < 4; i++) {
		uint64_t page = next_random(random) % nr;

		check_page(mem + page * PAGE, first + page);
	}
}

static void a_guest(uint64_t *random)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
	bool starts = next_random(random) % 4 != 0;
	struct fln_region *region[2];
	uint32_t nr_regions = 1 + (uint32_t)(next_random(random) % 2);
	struct fln_guest *guest;
	uint64_t first[2], nr[2];

	o.nr_shards = 1u << next_random(random) % 3;
	OK(fln_guest_create(bed.engine, &o, &guest));
	for (uint32_t i = 0; i < nr_regions; i++)
		region[i] = add(guest, random, &first[i], &nr[i], true);
	if (starts) {
		OK(fln_guest_start(guest));
		for (uint32_t i = 0; i < nr_regions; i++)
			touch_some(region[i], random, first[i], nr[i]);
	}
	if (next_random(random) % 2)
		OK(fln_region_remove(region[0]));
	if (next_random(random) % 2)
		OK(fln_guest_stop(guest));
	check_stats(guest, false, NULL);
	OK(fln_guest_destroy(guest));
}

static void a_region(uint64_t *random)
{
	uint64_t first, nr;
	struct fln_region *region =
		add(guests[next_random(random) % NR_GUESTS], random, &first, &nr, false);

	touch_some(region, random, first, nr);
	OK(fln_region_remove(region));
}

static void churner(void *arg, uint32_t index)
{
	uint64_t random = 1000 + index;

	(void)arg;
	OK(fln_thread_enter());
	while (!atomic_load(&stop)) {
		park();
		if (atomic_load(&nr_rounds) >= atomic_load(&max_rounds)) {
			sleep_ms(1);
			continue;
		}
		atomic_fetch_add(&nr_rounds, 1);
		if (next_random(&random) % 2)
			a_guest(&random);
		else
			a_region(&random);
	}
	fln_thread_leave();
}

/* What the process holds, when all is quiet. */
struct holdings {
	uint32_t fds, maps, threads;
	int64_t bytes, blocks;
	size_t heap;
};

static struct holdings count(void)
{
	struct holdings h = { .fds = count_fds(),
			      .maps = count_maps(),
			      .threads = count_threads(),
			      .bytes = atomic_load(&alloc_bytes),
			      .blocks = atomic_load(&alloc_blocks),
			      .heap = mallinfo2().uordblks };

	return h;
}

/*
 * As many rounds as @upto, or as come in @seconds: what a round leaves behind shows after
 * a few, and a busy host lets no more through.  Returns how many there have been.
 */
static uint64_t run_rounds(uint64_t upto, uint64_t at_least, uint32_t seconds)
{
	uint64_t end = now_ns() + seconds * 1000 * MS;
	uint64_t until = end + HANG_S * 1000 * MS;
	uint64_t nr;

	atomic_store(&max_rounds, upto);
	let_go();
	STEP("rounds up to %llu", (unsigned long long)upto);
	while ((nr = atomic_load(&nr_rounds)) < upto && (nr < at_least || now_ns() < end)) {
		CHECK(now_ns() < until, "%llu of at least %llu rounds after %u s",
		      (unsigned long long)nr, (unsigned long long)at_least, seconds + HANG_S);
		sleep_ms(5);
	}
	atomic_store(&max_rounds, 0);
	park_all(NR_THREADS + NR_CHURNERS);
	return atomic_load(&nr_rounds);
}

static void set_up(void)
{
	static struct fln_allocator allocator = { .size = sizeof(allocator),
						  .alloc = count_alloc,
						  .free = count_free };

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.allocator = &allocator;
	bed.maker.delay_ns = MS / 10;
	bed.guest_opts.nr_shards = 8;
	bed.region_opts.discard = FLN_DISCARD_IMAGE;
	bed_up(&bed);
	guests[0] = bed.guest;
	regions[0] = bed.region;
	for (uint32_t i = 1; i < NR_GUESTS; i++) {
		OK(fln_guest_create(bed.engine, &bed.guest_opts, &guests[i]));
		OK(fln_region_add(guests[i], &bed.region_opts, &regions[i]));
		OK(fln_guest_start(guests[i]));
	}
}

/*
 * A guest keeps the room that its table of regions has ever needed: let it be as
 * much as it can come to.
 */
static void widen_tables(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *extra[NR_CHURNERS + 1];

	o.image = bed.image;
	o.len_bytes = PAGE;
	o.discard = FLN_DISCARD_IMAGE;
	for (uint32_t g = 0; g < NR_GUESTS; g++) {
		for (uint32_t i = 0; i <= NR_CHURNERS; i++)
			OK(fln_region_add(guests[g], &o, &extra[i]));
		for (uint32_t i = 0; i <= NR_CHURNERS; i++)
			OK(fln_region_remove(extra[i]));
	}
}

/* Can regions be resolved in context here? */
static void try_in_context(void)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct fln_guest *guest;

	OK(fln_sigbus_install());
	o.image = bed.image;
	o.len_bytes = PAGE;
	o.discard = FLN_DISCARD_IMAGE;
	o.delivery = FLN_DELIVERY_IN_CONTEXT;
	OK(fln_guest_create(bed.engine, NULL, &guest));
	in_context = fln_region_add(guest, &o, &region) == 0;
	if (!in_context)
		test_note("without in-context regions: %s", fln_last_error());
	OK(fln_guest_destroy(guest));
}

static void come_and_go(void)
{
	uint64_t rounds =
		TEST_ASAN || TEST_TSAN ? test_scale(100, 500, 5000) : test_scale(500, 10000, 50000);
	uint32_t most_s = (uint32_t)test_scale(10, 30, 1800);
	struct holdings before, after;
	struct crew faulters, churners;
	struct fln_stats s;
	uint64_t t0;

	set_up();
	try_in_context();
	widen_tables();
	crew_start(&faulters, NR_THREADS, faulter, NULL);
	crew_start(&churners, NR_CHURNERS, churner, NULL);
	run_rounds(WARM, WARM, 60);
	before = count();
	t0 = now_ns();
	rounds = run_rounds(WARM + rounds, WARM + FEWEST, most_s) - WARM;
	t0 = now_ns() - t0;
	after = count();
	test_note("%llu rounds in %llu ms, %llu pages verified; %lld bytes in %lld blocks, heap "
		  "%zu before, %zu after",
		  (unsigned long long)rounds, (unsigned long long)(t0 / MS),
		  (unsigned long long)atomic_load(&nr_read), (long long)after.bytes,
		  (long long)after.blocks, before.heap, after.heap);
	CHECK(after.fds == before.fds, "%u descriptors, before %u", after.fds, before.fds);
	CHECK(after.threads == before.threads, "%u threads, before %u", after.threads,
	      before.threads);
	CHECK(after.bytes == before.bytes && after.blocks == before.blocks,
	      "%lld bytes in %lld blocks, before %lld in %lld", (long long)after.bytes,
	      (long long)after.blocks, (long long)before.bytes, (long long)before.blocks);
	if (!TEST_ASAN && !TEST_TSAN) {
		/* A heap grows by a mapping or so; what leaks does so with every round. */
		CHECK(after.maps <= before.maps + 8, "%u mappings, before %u", after.maps,
		      before.maps);
		CHECK(after.heap <= before.heap + (64u << 10), "%zu bytes of heap, before %zu",
		      after.heap, before.heap);
	}
	atomic_store(&stop, true);
	let_go();
	crew_wait(&churners, 60, "threads that add and remove");
	crew_wait(&faulters, 60, "threads that fault");
	for (uint32_t i = 1; i < NR_GUESTS; i++) {
		OK(fln_guest_stop(guests[i]));
		check_stats(guests[i], true, &s);
		CHECK(s.poisoned == 0 && s.failed == 0, "%llu poisoned, %llu failed",
		      (unsigned long long)s.poisoned, (unsigned long long)s.failed);
		OK(fln_guest_destroy(guests[i]));
	}
	bed_down(&bed);
	CHECK(atomic_load(&alloc_blocks) == 0, "%lld blocks of memory are left",
	      (long long)atomic_load(&alloc_blocks));
}

int main(void)
{
	(void)mallopt(M_ARENA_MAX, 1);
	test_init();
	come_and_go();
	return 0;
}
