/* SPDX-License-Identifier: MIT */
/*
 * What images share, and one of them cannot take from another: its source hangs, threads
 * wait for its pages, all of it is to be populated, and another process asks for all of it.
 */
#include "sources/link_message.h"
#include "tests/integration/harness.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREEDY_PAGES (UINT64_C(1024) * 512) /* more windows than there are fills */
#define NR_PAGES 4096u
#define NR_WAITING 600u /* threads, more than half of the fills */
#define NR_TOUCHES 32u

static struct bed bed; /* the greedy image, whose source hangs */
static struct maker maker = { .salt = 2, .concurrency = FLN_SOURCE_PARALLEL };
static struct fln_image *image; /* the other one */
static struct fln_guest *guest;
static uint8_t *mem;

static void other_up(void)
{
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_guest_opts guest_opts = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct fln_source *source;

	maker_source(&maker, &source);
	image_opts.name = "other";
	image_opts.len_bytes = NR_PAGES * PAGE;
	image_opts.source = source;
	OK(fln_image_create(bed.engine, &image_opts, &image));
	fln_source_destroy(source);
	guest_opts.name = "other";
	OK(fln_guest_create(bed.engine, &guest_opts, &guest));
	region_opts.image = image;
	region_opts.len_bytes = NR_PAGES * PAGE;
	OK(fln_region_add(guest, &region_opts, &region));
	OK(fln_guest_start(guest));
	mem = fln_region_addr(region);
}

static void other_down(void)
{
	OK(fln_guest_destroy(guest));
	OK(fln_image_destroy(image));
}

/* The other guest has its pages, one by one and all at once. */
static void other_is_served(void)
{
	struct toucher t[NR_TOUCHES];

	STEP("touches of the other guest");
	for (uint32_t i = 0; i < NR_TOUCHES; i++)
		toucher_read(&t[i], mem + i * 64 * PAGE);
	for (uint32_t i = 0; i < NR_TOUCHES; i++)
		toucher_expect_value(&t[i], word_of(2, i * 64, 0), "a page of the other guest");
	STEP("populating the other guest");
	OK(fln_guest_populate(guest, (uintptr_t)mem, NR_PAGES * PAGE, NULL));
}

static void begin(void)
{
	bed_init(&bed, GREEDY_PAGES);
	atomic_store(&bed.maker.gate_closed, true);
	bed_up(&bed);
}

static void end(void)
{
	other_down();
	atomic_store(&bed.maker.gate_closed, false);
	bed_down(&bed);
}

static void wait_inside(uint32_t nr)
{
	wait_count(&bed.maker.nr_inside, nr, WAIT_S, "the hanging source is read");
}

static void waiting_main(void *arg, uint32_t index)
{
	uint64_t value;

	(void)arg;
	(void)touch_read(bed_page(&bed, (uint64_t)index * 64), &value);
}

static void a_guest_whose_source_hangs(void)
{
	struct crew crew;

	begin();
	other_up();
	crew_start(&crew, NR_WAITING, waiting_main, NULL);
	OK(fln_guest_advise(bed.guest, (uintptr_t)bed.mem, GREEDY_PAGES * PAGE,
			    FLN_ADVICE_WILLNEED));
	wait_inside(1);
	wait_held(&bed, NR_WAITING, 600 * 512);
	other_is_served();
	atomic_store(&bed.maker.gate_closed, false);
	crew_wait(&crew, WAIT_S, "threads whose source hung");
	end();
}

/* It was alone when it began, and had all threads but one. */
static void a_guest_that_was_there_first(void)
{
	struct crew crew;

	begin();
	crew_start(&crew, NR_WAITING, waiting_main, NULL);
	wait_held(&bed, NR_WAITING, 600 * 512);
	other_up();
	other_is_served();
	atomic_store(&bed.maker.gate_closed, false);
	crew_wait(&crew, WAIT_S, "threads whose source hung");
	end();
}

static int ends[2];

static void *share_main(void *arg)
{
	(void)arg;
	OK(fln_image_share(bed.image, ends[0]));
	return NULL;
}

static void a_process_that_asks_for_all(void)
{
	struct toucher own;
	struct fln_link_hello hello;
	pthread_t thread;
	int memfd;

	begin();
	other_up();
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "%s",
	      strerror(errno));
	CHECK(pthread_create(&thread, NULL, share_main, NULL) == 0, "pthread_create");
	OK(fln_link_hello(ends[1], &hello, &memfd));
	for (uint32_t id = 0; id < GREEDY_PAGES / 512; id++) {
		struct fln_link_ask ask = { .head = { FLN_LINK_MAGIC, FLN_LINK_ASK },
					    .id = id,
					    .nr_pages = 512,
					    .page = (uint64_t)id * 512 };

		CHECK(fln_link_send(ends[1], &ask, sizeof(ask), -1, true) == 0, "an ask");
	}
	wait_inside(1);
	other_is_served();
	/* What it has asked for comes, all of it, and the guest's own page among it. */
	toucher_read(&own, bed_page(&bed, GREEDY_PAGES - 1));
	atomic_store(&bed.maker.gate_closed, false);
	toucher_expect_value(&own, word_of(bed.maker.salt, GREEDY_PAGES - 1, 0), "an own page");
	for (uint32_t nr_done = 0; nr_done < GREEDY_PAGES / 512;) {
		struct fln_link_news news;

		CHECK(recv(ends[1], &news, sizeof(news), 0) == (ssize_t)sizeof(news), "no news");
		nr_done += news.done;
	}
	(void)close(ends[1]);
	(void)pthread_join(thread, NULL);
	(void)close(ends[0]);
	(void)close(memfd);
	end();
}

int main(void)
{
	test_init();
	RUN(a_guest_whose_source_hangs);
	RUN(a_guest_that_was_there_first);
	RUN(a_process_that_asks_for_all);
	return 0;
}
