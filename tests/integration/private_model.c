/* SPDX-License-Identifier: MIT */
/*
 * Private guests of one image against a model, while the image is filled: each
 * thread owns runs of pages of one guest, and knows of each page whether it has
 * the image's contents, the thread's last write, or zero.  A shared guest looks on
 * and sees the image, whatever the others do.  In the end the guests are stopped,
 * and everything is still as the model says.
 *
 * The seed is printed; give one as an argument to repeat its sequences.
 */
#include "tests/integration/harness.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NR_PAGES 3000u
#define LEN (NR_PAGES * PAGE)
#define NR_GUESTS 4u
#define NR_PARTS 8u /* threads of a guest: they share blocks */
#define RUN_PAGES 8u
#define EVERY_ZERO 7u
#define WORDS (PAGE / sizeof(uint64_t))

enum state {
	STATE_IMAGE,
	STATE_OWN,
	STATE_ZERO
};

/* What a page is: a word was written at [at] over the image's contents or over zeros. */
struct page_model {
	enum state below; /* STATE_IMAGE or STATE_ZERO */
	uint32_t at;      /* with a write */
	uint64_t written; /* 0: nothing was */
};

struct clone {
	struct fln_guest *guest;
	struct fln_region *region;
	uint8_t *mem;
	enum fln_discard discard;
	struct page_model pages[NR_PAGES];
};

static struct bed bed; /* its guest is the shared one */
static struct clone clones[NR_GUESTS];
static uint64_t seed;
static uint32_t nr_steps;
static _Atomic bool stop;
static _Atomic uint64_t nr_writes, nr_discards, nr_reads;

static uint64_t image_word(uint64_t page, uint32_t word)
{
	return page % EVERY_ZERO == EVERY_ZERO - 1 ? 0 : word_of(1, page, word);
}

static uint64_t model_word(const struct clone *c, uint64_t page, uint32_t word)
{
	const struct page_model *m = &c->pages[page];

	if (m->written && m->at == word)
		return m->written;
	return m->below == STATE_ZERO ? 0 : image_word(page, word);
}

static void check_word(const struct clone *c, uint64_t page, uint32_t word, const char *when)
{
	uint64_t value = 0, want = model_word(c, page, word);
	enum touch end = touch_read(c->mem + page * PAGE + word * sizeof(value), &value);

	CHECK(end == TOUCH_OK && value == want,
	      "seed %llu, %s: guest %d, page %llu, word %u: the thread %s, 0x%llx instead of "
	      "0x%llx",
	      (unsigned long long)seed, when, (int)(c - clones), (unsigned long long)page, word,
	      touch_name(end), (unsigned long long)value, (unsigned long long)want);
}

static void check_page(const struct clone *c, uint64_t page, uint64_t *random, const char *when)
{
	check_word(c, page, c->pages[page].at, when);
	check_word(c, page, (uint32_t)(next_random(random) % WORDS), when);
	atomic_fetch_add(&nr_reads, 1);
}

static void write_page(struct clone *c, uint64_t page, uint64_t *random)
{
	struct page_model *m = &c->pages[page];
	uint64_t value = next_random(random) | 1;

	/* One word at a time, so that the rest tells what lies below. */
	if (!m->written)
		m->at = (uint32_t)(next_random(random) % WORDS);
	CHECK(touch_write(c->mem + page * PAGE + m->at * sizeof(value), value) == TOUCH_OK,
	      "page %llu cannot be written", (unsigned long long)page);
	m->written = value;
	atomic_fetch_add(&nr_writes, 1);
}

static void discard_pages(struct clone *c, uint64_t page, uint64_t nr)
{
	CHECK(madvise(c->mem + page * PAGE, nr * PAGE, MADV_DONTNEED) == 0, "madvise: %s",
	      strerror(errno));
	for (uint64_t p = page; p < page + nr; p++)
		c->pages[p] = (struct page_model){
			.below = c->discard == FLN_DISCARD_IMAGE ? STATE_IMAGE : STATE_ZERO,
		};
	atomic_fetch_add(&nr_discards, nr);
}

/* The runs of a part are its own: every NR_PARTS-th. */
static void live(void *arg, uint32_t index)
{
	struct clone *c = &clones[index % NR_GUESTS];
	uint32_t part = index / NR_GUESTS;
	uint64_t random = seed * 1000 + index;

	(void)arg;
	for (uint32_t i = 0; i < nr_steps; i++) {
		uint64_t runs = NR_PAGES / RUN_PAGES / NR_PARTS;
		uint64_t run = next_random(&random) % runs * NR_PARTS + part;
		uint64_t at = next_random(&random) % RUN_PAGES;
		uint64_t page = run * RUN_PAGES + at;
		uint64_t dice = next_random(&random) % 16;

		if (dice < 9)
			check_page(c, page, &random, "alive");
		else if (dice < 13)
			write_page(c, page, &random);
		else if (dice < 15)
			discard_pages(c, page, 1 + next_random(&random) % (RUN_PAGES - at));
		else
			sleep_ms(1);
	}
}

/* The shared guest sees the image, and never what happens in the others. */
static void look_on(void *arg, uint32_t index)
{
	uint64_t random = seed * 77 + index, value;

	(void)arg;
	while (!atomic_load(&stop)) {
		uint64_t page = next_random(&random) % NR_PAGES;
		uint32_t word = (uint32_t)(next_random(&random) % WORDS);

		CHECK(touch_read(bed_page(&bed, page) + word * sizeof(value), &value) == TOUCH_OK &&
			      value == image_word(page, word),
		      "seed %llu: the shared guest reads 0x%llx in page %llu",
		      (unsigned long long)seed, (unsigned long long)value,
		      (unsigned long long)page);
	}
}

/* Some of the image is pushed, and some filled, while it is read. */
static void fill(void *arg, uint32_t index)
{
	static _Thread_local uint64_t words[PAGE / sizeof(uint64_t)];
	uint64_t random = seed * 99 + index;

	(void)arg;
	for (uint32_t i = 0; i < 300 && !atomic_load(&stop); i++) {
		uint64_t page = next_random(&random) % NR_PAGES;

		if (index % 2)
			OK(fln_image_fill(bed.image, page * PAGE, PAGE));
		else if (page % EVERY_ZERO != EVERY_ZERO - 1) {
			contents_of(1, page, words);
			OK(fln_image_put(bed.image, page * PAGE, words, PAGE));
		}
		sleep_ms(1);
	}
}

static void set_up(void)
{
	uint64_t random = seed;

	bed_init(&bed, NR_PAGES);
	bed.maker.every_zero = EVERY_ZERO;
	bed.maker.delay_ns = MS;
	bed.engine_opts.fill_pages = 1u << next_random(&random) % 6;
	bed.guest_opts.nr_shards = 1u << next_random(&random) % 4;
	bed.guest_opts.window_first = 1u << next_random(&random) % 5;
	bed_up(&bed);
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		struct fln_region_opts o = FLN_REGION_OPTS_INIT;
		struct clone *c = &clones[i];

		memset(c, 0, sizeof(*c));
		c->discard = i % 4 == 3 ? FLN_DISCARD_IMAGE : FLN_DISCARD_ZERO;
		o.image = bed.image;
		o.len_bytes = LEN;
		o.sharing = FLN_SHARING_PRIVATE;
		o.discard = c->discard;
		OK(fln_guest_create(bed.engine, &bed.guest_opts, &c->guest));
		OK(fln_region_add(c->guest, &o, &c->region));
		OK(fln_guest_start(c->guest));
		c->mem = fln_region_addr(c->region);
	}
	atomic_store(&stop, false);
}

static void check_all(const char *when)
{
	uint64_t random = seed;

	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		for (uint64_t page = 0; page < NR_PAGES; page++)
			check_page(&clones[i], page, &random, when);
	}
}

static void one_round(void)
{
	struct crew lives, onlookers, fillers;

	set_up();
	STEP("seed %llu", (unsigned long long)seed);
	crew_start(&onlookers, 4, look_on, NULL);
	crew_start(&fillers, 2, fill, NULL);
	crew_start(&lives, NR_GUESTS * NR_PARTS, live, NULL);
	crew_wait(&lives, 100, "threads of the private guests");
	atomic_store(&stop, true);
	crew_wait(&onlookers, 30, "threads that look on");
	crew_wait(&fillers, 30, "threads that fill");
	OK(fln_image_fill(bed.image, 0, LEN));
	STEP("seed %llu: half of the guests stop", (unsigned long long)seed);
	OK(fln_guest_stop(clones[0].guest));
	OK(fln_guest_stop(clones[3].guest));
	check_all("at the end");
	for (uint32_t i = 0; i < NR_GUESTS; i++) {
		STEP("seed %llu: the end of guest %u", (unsigned long long)seed, i);
		OK(fln_guest_stop(clones[i].guest));
		check_stats(clones[i].guest, true, NULL);
	}
	check_all("after the stop");
	for (uint32_t i = 0; i < NR_GUESTS; i++)
		OK(fln_guest_destroy(clones[i].guest));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t word = 1;

		CHECK(pread(fln_image_memfd(bed.image), &word, sizeof(word),
			    (off_t)(page * PAGE)) == (ssize_t)sizeof(word) &&
			      word == image_word(page, 0),
		      "page %llu of the image has 0x%llx", (unsigned long long)page,
		      (unsigned long long)word);
	}
	bed_down(&bed);
	test_note("seed %llu: %llu reads, %llu writes, %llu pages given up",
		  (unsigned long long)seed, (unsigned long long)atomic_load(&nr_reads),
		  (unsigned long long)atomic_load(&nr_writes),
		  (unsigned long long)atomic_load(&nr_discards));
	seed++;
}

int main(int argc, char **argv)
{
	test_init();
	seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL) * 1000;
	nr_steps = test_scale(400, 2000, 4000);
	for (uint32_t i = 0; i < test_scale(1, 3, 100); i++)
		RUN(one_round);
	return 0;
}
