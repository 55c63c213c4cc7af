/* SPDX-License-Identifier: MIT */
/*
 * Guests of many regions, laid out at random: 3 to 40 of any number of pages, which meet
 * inside blocks of 2 MiB or leave gaps, shared and private, of several images, some of
 * them in memfds that were full of other bytes.  Threads read, write and give pages up
 * against a model of each page; regions are removed and added again between; in the end
 * the guest is stopped, and everything is still as the model says, or refused.
 *
 * The seed is printed; give one as an argument to repeat a layout.
 */
#include "tests/integration/harness.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_REGIONS 40u
#define NR_IMAGES 4u
#define NR_THREADS 8u
#define GROUP 8u /* pages in a row that are one thread's */
#define SPACE_BYTES ((uint64_t)256 << 20)

/* What a page may read where it was not written; zero and the image's contents alike: both. */
enum below {
	BELOW_IMAGE,
	BELOW_ZERO,
	BELOW_EITHER
};

struct cell {
	enum below below;
	bool touched;     /* by its thread: it is filled, or zero, for good */
	uint64_t written; /* in its second word; 0: nothing was */
};

struct place {
	struct fln_region_opts opts;
	struct fln_region *region;
	uint8_t *mem;
	uint64_t nr_pages, image_page;
	uint32_t image;
	struct cell *cells;
};

enum kind {
	KIND_OWN,     /* made by the library */
	KIND_ADOPTED, /* with rubbish in it */
	KIND_FILLED,  /* with the contents in it */
	KIND_PUSHED,  /* rubbish, and the contents are brought */
	NR_KINDS
};

struct memory {
	enum kind kind;
	struct maker maker;
	struct fln_source *source;
	struct fln_image *image;
	int fd;
	uint64_t nr_pages;
};

static uint64_t seed;
static uint32_t nr_steps;
static struct fln_engine *engine;
static struct fln_guest *guest;
static struct place places[MAX_REGIONS];
static struct memory memories[NR_IMAGES];
static uint32_t nr_places;
static uint8_t *space;
static struct test_log log_lines;

static uint64_t pick(uint64_t *random, uint64_t n)
{
	return next_random(random) % n;
}

static uint64_t image_word(const struct place *p, uint64_t page, uint32_t word)
{
	const struct maker *m = &memories[p->image].maker;
	uint64_t at = p->image_page + page;

	return m->every_zero && at % m->every_zero == m->every_zero - 1
		       ? 0
		       : word_of(m->salt, at, word);
}

static void wrong(const struct place *p, uint64_t page, uint32_t word, enum touch t, uint64_t value,
		  const char *when)
{
	const struct cell *c = &p->cells[page];

	test_fail(__FILE__, __LINE__, "model",
		  "seed %llu, %s: region %d (%llu pages of image %u, kind %d, %s), page %llu, word "
		  "%u: the thread %s, 0x%llx; below %d, touched %d, written 0x%llx, image 0x%llx",
		  (unsigned long long)seed, when, (int)(p - places),
		  (unsigned long long)p->nr_pages, p->image, (int)memories[p->image].kind,
		  p->opts.sharing == FLN_SHARING_PRIVATE ? "private" : "shared",
		  (unsigned long long)page, word, touch_name(t), (unsigned long long)value,
		  (int)c->below, (int)c->touched, (unsigned long long)c->written,
		  (unsigned long long)image_word(p, page, word));
}

/* Read a page and hold it against its cell.  @ended: what nobody has touched may be refused. */
static void check_cell(struct place *p, uint64_t page, bool ended, const char *when)
{
	struct cell *c = &p->cells[page];
	uint64_t *at = (uint64_t *)(void *)(p->mem + page * PAGE), value = 0;
	uint64_t of_image = image_word(p, page, 0);
	enum touch t = touch_read(at, &value);

	if (ended && !c->touched && (t == TOUCH_SIGBUS || t == TOUCH_SIGSEGV))
		return;
	if (t != TOUCH_OK || !((c->below != BELOW_ZERO && value == of_image) ||
			       (c->below != BELOW_IMAGE && value == 0)))
		wrong(p, page, 0, t, value, when);
	if (c->below == BELOW_EITHER && of_image != 0)
		c->below = value ? BELOW_IMAGE : BELOW_ZERO;
	c->touched = true;
	t = touch_read(at + 1, &value);
	if (t != TOUCH_OK || value != (c->written                ? c->written
				       : c->below == BELOW_IMAGE ? image_word(p, page, 1)
								 : 0))
		wrong(p, page, 1, t, value, when);
}

/* What giving a page up does to it; @punch: out of the page cache, too. */
static void give_up_cell(const struct place *p, struct cell *c, bool punch)
{
	bool is_private = p->opts.sharing == FLN_SHARING_PRIVATE;

	if (is_private || punch) {
		bool zero = punch || p->opts.discard != FLN_DISCARD_IMAGE;

		*c = (struct cell){ .below = zero ? BELOW_ZERO : BELOW_IMAGE };
	} else if (!c->touched && c->below == BELOW_IMAGE &&
		   memories[p->image].kind != KIND_FILLED) {
		c->below = BELOW_EITHER; /* a neighbour's fault may have filled it before */
	}
}

static void give_up(struct place *p, uint64_t page, uint64_t nr, bool punch)
{
	int rc = madvise(p->mem + page * PAGE, nr * PAGE, punch ? MADV_REMOVE : MADV_DONTNEED);

	CHECK(rc == 0, "madvise: %s", strerror(errno));
	for (uint64_t i = page; i < page + nr; i++)
		give_up_cell(p, &p->cells[i], punch);
}

/* A range of a region, and perhaps of those that follow without a gap. */
static void advise(uint64_t *random)
{
	struct place *p = &places[pick(random, nr_places)];
	uint64_t page = pick(random, p->nr_pages), len = (p->nr_pages - page) * PAGE;
	struct place *next = p + 1;

	while (next < places + nr_places && pick(random, 2) &&
	       next->mem == next[-1].mem + next[-1].nr_pages * PAGE) {
		len += next->nr_pages * PAGE;
		next++;
	}
	switch (pick(random, 5)) {
	case 0:
	case 1:
		OK(fln_guest_populate(guest, (uintptr_t)(p->mem + page * PAGE), len, NULL));
		break;
	case 2:
		OK(fln_guest_advise(guest, (uintptr_t)(p->mem + page * PAGE), len,
				    FLN_ADVICE_SEQUENTIAL));
		break;
	case 3:
		OK(fln_guest_advise(guest, (uintptr_t)(p->mem + page * PAGE), len,
				    FLN_ADVICE_RANDOM));
		break;
	default:
		OK(fln_guest_residency(guest, (uintptr_t)(p->mem + page * PAGE), len, NULL, NULL));
		break;
	}
}

static void one_step(uint32_t index, uint64_t *random)
{
	struct place *p = &places[pick(random, nr_places)];
	uint64_t nr_groups = (p->nr_pages + GROUP - 1) / GROUP;
	uint64_t group = pick(random, nr_groups) / NR_THREADS * NR_THREADS + index;
	uint64_t first = group * GROUP, nr, page, what = pick(random, 100);
	bool shared = p->opts.sharing == FLN_SHARING_SHARED;

	if (what < 2) {
		advise(random);
		return;
	}
	if (first >= p->nr_pages)
		return;
	nr = p->nr_pages - first < GROUP ? p->nr_pages - first : GROUP;
	page = first + pick(random, nr);
	if (what < 70) {
		check_cell(p, page, false, "reading");
	} else if (what < 85) {
		p->cells[page].written = next_random(random) | 1;
		CHECK(touch_write(p->mem + page * PAGE + 8, p->cells[page].written) == TOUCH_OK,
		      "page %llu cannot be written", (unsigned long long)page);
		p->cells[page].touched = true;
	} else {
		give_up(p, page, 1 + pick(random, first + nr - page), shared && what >= 96);
	}
}

static void work(void *arg, uint32_t index)
{
	const uint32_t *phase = arg;
	uint64_t random = seed * 1000003 + *phase * NR_THREADS + index + 1;

	for (uint32_t i = 0; i < nr_steps; i++)
		one_step(index, &random);
}

/* The contents of pushed images, in an order of their own. */
static void push(void *arg, uint32_t index)
{
	uint64_t random = seed + 77, block = 64;
	char *buf = malloc(block * PAGE);

	(void)arg;
	(void)index;
	CHECK(buf, "malloc");
	for (uint32_t i = 0; i < NR_IMAGES; i++) {
		struct memory *m = &memories[i];
		uint64_t nr = (m->nr_pages + block - 1) / block, at = pick(&random, nr);

		for (uint64_t k = 0; m->kind == KIND_PUSHED && k < nr; k++, at = (at + 1) % nr) {
			uint64_t first = at * block, n = m->nr_pages - first;

			n = n < block ? n : block;
			for (uint64_t p = 0; p < n; p++)
				contents_of(m->maker.salt, first + p, buf + p * PAGE);
			OK(fln_image_put(m->image, first * PAGE, buf, n * PAGE));
		}
	}
	free(buf);
}

/* Lay regions out, of images that are made when their length is known. */
static void lay_out(uint64_t *random)
{
	uint64_t at = pick(random, 1024);

	memset(places, 0, sizeof(places));
	nr_places = 3 + (uint32_t)pick(random, MAX_REGIONS - 2);
	for (uint32_t i = 0; i < nr_places; i++) {
		struct place *p = &places[i];
		static const uint64_t gaps[] = { 0, 0, 0, 1, 30, 700 };
		static const uint64_t sizes[] = { 4, 40, 600, 600, 1600 };
		struct memory *m;

		at += pick(random, gaps[pick(random, 6)] + 1);
		p->nr_pages = 1 + pick(random, sizes[pick(random, 5)]);
		p->mem = space + at * PAGE;
		at += p->nr_pages;
		CHECK(at * PAGE < SPACE_BYTES, "the space is too small");
		p->image = (uint32_t)pick(random, NR_IMAGES);
		m = &memories[p->image];
		m->nr_pages += pick(random, 3) ? 0 : pick(random, 600);
		p->image_page = m->nr_pages;
		m->nr_pages += p->nr_pages;
		p->cells = calloc(p->nr_pages, sizeof(*p->cells));
		CHECK(p->cells, "calloc");
		p->opts = (struct fln_region_opts)FLN_REGION_OPTS_INIT;
		p->opts.sharing = pick(random, 2) ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
		if (p->opts.sharing == FLN_SHARING_PRIVATE && pick(random, 3) == 0)
			p->opts.discard = FLN_DISCARD_IMAGE;
		p->opts.max_chunks = pick(random, 4) ? 0 : 2;
		p->opts.addr = (uintptr_t)p->mem;
		p->opts.len_bytes = p->nr_pages * PAGE;
		p->opts.image_offset_bytes = p->image_page * PAGE;
	}
}

static void make_memory(struct memory *m, uint32_t index, uint64_t *random)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	char page[PAGE];

	m->kind = (enum kind)pick(random, NR_KINDS);
	m->fd = -1;
	m->nr_pages += m->nr_pages == 0;
	m->maker.salt = index + 1;
	m->maker.concurrency = FLN_SOURCE_PARALLEL;
	m->maker.delay_ns = pick(random, 3) ? 0 : MS / 20;
	if (m->kind == KIND_OWN || m->kind == KIND_ADOPTED) {
		m->maker.every_zero = pick(random, 2) ? 5 : 0;
		maker_source(&m->maker, &m->source);
		o.source = m->source;
	}
	o.len_bytes = m->nr_pages * PAGE;
	if (m->kind != KIND_OWN) {
		m->fd = memfd_create("layout", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		CHECK(m->fd >= 0 && ftruncate(m->fd, (off_t)o.len_bytes) == 0, "memfd: %s",
		      strerror(errno));
		for (uint64_t i = 0; i < m->nr_pages; i++) {
			memset(page, 0xaa, sizeof(page));
			if (m->kind == KIND_FILLED)
				contents_of(m->maker.salt, i, page);
			CHECK(pwrite(m->fd, page, sizeof(page), (off_t)(i * PAGE)) ==
				      (ssize_t)sizeof(page),
			      "pwrite: %s", strerror(errno));
		}
		o.flags = FLN_IMAGE_F_ADOPT | (m->kind == KIND_FILLED ? FLN_IMAGE_F_FILLED : 0);
		o.memfd = m->fd;
	}
	OK(fln_image_create(engine, &o, &m->image));
}

static void map_and_add(struct place *p)
{
	int flags = p->opts.sharing == FLN_SHARING_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
	void *at =
		mmap(p->mem, p->opts.len_bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		     fln_image_memfd(memories[p->image].image), (off_t)p->opts.image_offset_bytes);

	CHECK(at == p->mem, "mmap: %s", strerror(errno));
	p->opts.image = memories[p->image].image;
	OK(fln_region_add(guest, &p->opts, &p->region));
}

/* Out, and in again: what is shared stays, and a private region begins anew. */
static void replace(struct place *p)
{
	STEP("removing a region and adding it again");
	OK(fln_region_remove(p->region));
	for (uint64_t page = 0; p->opts.sharing == FLN_SHARING_PRIVATE && page < p->nr_pages;
	     page++)
		p->cells[page] = (struct cell){ .below = BELOW_IMAGE };
	map_and_add(p);
}

static void check_all(bool ended, const char *when)
{
	for (uint32_t i = 0; i < nr_places; i++) {
		for (uint64_t page = 0; page < places[i].nr_pages; page++)
			check_cell(&places[i], page, ended, when);
	}
}

/* Between regions there is memory of the host's, which is none of the engine's. */
static void each_gap(bool write)
{
	uint8_t *at = space, *end;

	for (uint32_t i = 0; i <= nr_places; i++) {
		end = i < nr_places ? places[i].mem : at + 2 * BLOCK;
		for (; at < end; at += PAGE) {
			uint64_t *word = (uint64_t *)(void *)at;

			if (write)
				*word = (uintptr_t)at;
			CHECK(*word == (uintptr_t)at, "seed %llu: a gap holds 0x%llx",
			      (unsigned long long)seed, (unsigned long long)*word);
		}
		if (i < nr_places)
			at = end + places[i].nr_pages * PAGE;
	}
}

static void set_up(uint64_t *random)
{
	static const uint32_t firsts[] = { 0, 1, 64, 512 }, fills[] = { 1, 16, 64 };
	struct fln_engine_opts eo = FLN_ENGINE_OPTS_INIT;
	struct fln_guest_opts go = FLN_GUEST_OPTS_INIT;

	eo.flags = test_engine_flags();
	eo.log = test_log_fn;
	eo.log_ctx = &log_lines;
	eo.nr_workers = 1 + (uint32_t)pick(random, 2);
	eo.fill_pages = fills[pick(random, 3)];
	OK(fln_engine_create(&eo, &engine));
	OK(fln_engine_start(engine));
	space = mmap(NULL, SPACE_BYTES + 2 * BLOCK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(space != MAP_FAILED, "mmap: %s", strerror(errno));
	memset(memories, 0, sizeof(memories));
	lay_out(random);
	for (uint32_t i = 0; i < NR_IMAGES; i++)
		make_memory(&memories[i], i, random);
	go.nr_shards = 1u << pick(random, 3);
	go.window_first = firsts[pick(random, 4)];
	OK(fln_guest_create(engine, &go, &guest));
	each_gap(true);
	for (uint32_t i = 0; i < nr_places; i++)
		map_and_add(&places[i]);
}

static void tear_down(void)
{
	fln_guest_destroy(guest);
	for (uint32_t i = 0; i < nr_places; i++)
		free(places[i].cells);
	for (uint32_t i = 0; i < NR_IMAGES; i++) {
		OK(image_destroy_in_time(memories[i].image));
		fln_source_destroy(memories[i].source);
		if (memories[i].fd >= 0)
			(void)close(memories[i].fd);
	}
	OK(engine_destroy_in_time(engine));
	(void)munmap(space, SPACE_BYTES + 2 * BLOCK);
}

static void one_layout(void)
{
	uint64_t random = seed;
	struct crew pusher, crew;

	STEP("seed %llu: setting up", (unsigned long long)seed);
	set_up(&random);
	OK(fln_guest_start(guest));
	crew_start(&pusher, 1, push, NULL);
	for (uint32_t phase = 0; phase < 3; phase++) {
		STEP("seed %llu: phase %u", (unsigned long long)seed, phase);
		crew_start(&crew, NR_THREADS, work, &phase);
		crew_wait(&crew, 120, "threads of a phase");
		replace(&places[pick(&random, nr_places)]);
	}
	crew_wait(&pusher, 60, "pushed contents");
	/* In half of them all is looked at; in the others much has never been touched. */
	if (pick(&random, 2))
		check_all(false, "in the end");
	STEP("seed %llu: stopping", (unsigned long long)seed);
	OK(fln_guest_stop(guest));
	check_all(true, "after the end");
	check_all(true, "after the end, again");
	each_gap(false);
	tear_down();
}

static void layouts(void)
{
	uint32_t nr = test_scale(2, 4, 300);
	uint64_t first = (uint64_t)time(NULL) * 1000;

	if (seed) {
		one_layout();
		return;
	}
	test_note("seeds from %llu on", (unsigned long long)first);
	for (uint32_t i = 0; i < nr; i++) {
		seed = first + i;
		one_layout();
	}
}

int main(int argc, char **argv)
{
	test_init();
	(void)pthread_mutex_init(&log_lines.lock, NULL);
	nr_steps = test_scale(500, 1500, 8000);
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	RUN(layouts);
	return 0;
}
