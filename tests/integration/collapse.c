/* SPDX-License-Identifier: MIT */
/* fln_guest_collapse(): large pages, with the same contents, also under threads that touch. */
#include "harness.h"

#include <stdlib.h>

static uint64_t base(const struct bed *b)
{
	return (uint64_t)(uintptr_t)b->mem;
}

static void check_all(const struct bed *b)
{
	for (uint64_t p = 0; p < b->nr_pages; p++) {
		bool right = false;

		CHECK(touch_page(bed_page(b, p), 1, p, &right) == TOUCH_OK && right,
		      "page %llu is wrong", (unsigned long long)p);
	}
}

/* Memory of this process that is mapped by large pages of shared memory, in bytes. */
static uint64_t pmd_mapped(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	unsigned long long kib = 0;
	char line[256];

	CHECK(f, "/proc/self/smaps_rollup: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		(void)sscanf(line, "ShmemPmdMapped: %llu kB", &kib);
	(void)fclose(f);
	return kib * 1024;
}

static void need_collapse(void)
{
	uint64_t nr = 0;
	struct bed b;
	int rc;

	bed_init(&b, 512);
	bed_up(&b);
	OK(fln_guest_populate(b.guest, base(&b), BLOCK, NULL));
	rc = fln_guest_collapse(b.guest, base(&b), BLOCK, &nr);
	if (rc == -ENOTSUP || nr == 0)
		test_skip("no large pages of shared memory here: %s",
			  rc ? fln_last_error() : "the kernel has none to give");
	OK(rc);
	bed_down(&b);
}

/* @want blocks from @addr on can be collapsed, and no more; the kernel may be short of pages. */
static void collapse_all(struct bed *b, uint64_t addr, uint64_t want)
{
	uint64_t end = base(b) + 8 * BLOCK, nr = 0;

	for (uint32_t try = 0; try < 20 && nr != want; try++) {
		if (try > 0)
			sleep_ms(100);
		OK(fln_guest_collapse(b->guest, addr, end - addr, &nr));
		CHECK(nr <= want, "%llu blocks, expected %llu", (unsigned long long)nr,
		      (unsigned long long)want);
	}
	if (nr < want)
		test_skip("the kernel made %llu large pages of %llu", (unsigned long long)nr,
			  (unsigned long long)want);
}

static void whole_blocks_only(void)
{
	uint64_t nr = 99, before = pmd_mapped();
	struct fln_stats s;
	struct bed b;

	bed_init(&b, 8 * 512);
	b.image_opts.folio = FLN_FOLIO_SMALL; /* they are not large from the beginning */
	bed_up(&b);
	OK(fln_guest_collapse(b.guest, base(&b), 8 * BLOCK, &nr));
	CHECK(nr == 0, "%llu blocks of which nothing is mapped", (unsigned long long)nr);
	OK(fln_guest_populate(b.guest, base(&b), 4 * BLOCK, NULL));
	OK(fln_guest_populate(b.guest, base(&b) + 5 * BLOCK, 100 * PAGE, NULL));
	/* Blocks that lie in the range wholly: three. */
	collapse_all(&b, base(&b) + PAGE, 3);
	CHECK(pmd_mapped() > before && pmd_mapped() <= before + 3 * BLOCK,
	      "%llu bytes are mapped by large pages", (unsigned long long)(pmd_mapped() - before));
	collapse_all(&b, base(&b), 4);
	settled_stats(b.guest, &s);
	CHECK(s.faults == 0, "%llu faults", (unsigned long long)s.faults);
	check_all(&b);
	REFUSED(fln_guest_collapse(b.guest, base(&b), 9 * BLOCK, &nr), -EINVAL,
		test_hex(base(&b) + 8 * BLOCK));
	/* They can be taken away, filled and mapped again. */
	OK(fln_guest_advise(b.guest, base(&b), BLOCK, FLN_ADVICE_DONTNEED));
	OK(fln_image_discard(b.image, BLOCK + 5 * PAGE, PAGE));
	OK(fln_guest_populate(b.guest, base(&b), 4 * BLOCK, NULL));
	for (uint64_t p = 0; p < 4 * 512; p++) {
		uint64_t v = 1;

		CHECK(touch_read(bed_page(&b, p), &v) == TOUCH_OK &&
			      v == (p == 512 + 5 ? 0 : word_of(1, p, 0)),
		      "page %llu reads 0x%llx", (unsigned long long)p, (unsigned long long)v);
	}
	bed_down(&b);
}

struct touching {
	struct bed *b;
	_Atomic bool stop;
};

/* Each thread counts up in a word of its own of each page. */
static void count_up(void *arg, uint32_t index)
{
	struct touching *t = arg;
	uint64_t seed = index + 1, nr = t->b->nr_pages;
	uint64_t *mine = calloc(nr, sizeof(*mine));

	CHECK(mine, "no memory");
	while (!atomic_load(&t->stop)) {
		uint64_t p = next_random(&seed) % nr, v = 0;
		uint64_t *word = (uint64_t *)(void *)bed_page(t->b, p) + 8 + index;

		CHECK(touch_read(word, &v) == TOUCH_OK, "page %llu", (unsigned long long)p);
		CHECK(v == (mine[p] ? mine[p] : word_of(1, p, 8 + index)),
		      "thread %u: page %llu has 0x%llx, after %llu writes", index,
		      (unsigned long long)p, (unsigned long long)v, (unsigned long long)mine[p]);
		CHECK(touch_write(word, ++mine[p]) == TOUCH_OK, "page %llu", (unsigned long long)p);
	}
	free(mine);
}

static void under_touching_threads(void)
{
	struct touching t = { 0 };
	uint64_t nr = 0, sum = 0;
	struct crew crew;
	struct bed b;

	bed_init(&b, 16 * 512);
	bed_up(&b);
	t.b = &b;
	crew_start(&crew, 16, count_up, &t);
	for (uint32_t i = 0; i < test_scale(10, 40, 400); i++) {
		OK(fln_guest_populate(b.guest, base(&b), 16 * BLOCK, NULL));
		OK(fln_guest_collapse(b.guest, base(&b), 16 * BLOCK, &nr));
		sum += nr;
		OK(fln_guest_advise(b.guest, base(&b) + (i % 15) * BLOCK, BLOCK + 9 * PAGE,
				    FLN_ADVICE_DONTNEED));
	}
	atomic_store(&t.stop, true);
	crew_wait(&crew, WAIT_S, "threads that count");
	test_note("%llu blocks collapsed", (unsigned long long)sum);
	CHECK(sum > 0, "no block has been collapsed");
	bed_down(&b);
}

int main(void)
{
	test_init();
	need_collapse();
	RUN(whole_blocks_only);
	RUN(under_touching_threads);
	return 0;
}
