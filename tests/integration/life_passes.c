/* SPDX-License-Identifier: MIT */
/*
 * Regions that close, go and come while a worker has read an event and not acted upon it
 * yet, or a thread in context is about to map: they wait for it.  The linker puts functions
 * of the test before some of the engine's, which hold a thread where it should be met.
 */
#include "base/blockmap.h"
#include "engine/install.h"
#include "engine/life/deny.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "tests/integration/context_bed.h"

#include <errno.h>
#include <faultlane/context.h>
#include <faultlane/guest.h>
#include <faultlane/image.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#define NR_PAGES 1024u
#define LEN (NR_PAGES * PAGE)
#define LOOK_MS 200u /* how long what may not happen could have happened */

enum place {
	NOWHERE,
	AFTER_READ, /* a REMOVE was read, and nobody has acted upon it */
	IN_EVENT,   /* it is acted upon, and its region was found */
	IN_INSTALL, /* the region was found, and its page is about to be mapped */
};

static struct bed bed;
static struct {
	_Atomic int hold_at; /* enum place: the next thread that comes there is held */
	_Atomic uint32_t nr_held;
	_Atomic bool go;
	_Atomic bool deaf; /* what can be read is not read */
	_Atomic uint32_t nr_denied, nr_published, nr_freed, nr_ended;
	void (*at_unregister)(void);
	void (*at_publish)(void);
	const struct fln_blockmap *map;
	pthread_t closer, remover;
} at;

/* Before the engine's. */

ssize_t __real_fln_uffd_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr);
ssize_t __wrap_fln_uffd_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr);
int __real_fln_uffd_unregister(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);
int __wrap_fln_uffd_unregister(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes);
int __real_fln_region_deny(struct fln_region *r);
int __wrap_fln_region_deny(struct fln_region *r);
int __real_fln_directory_publish(struct fln_guest *guest, const struct fln_region *without);
int __wrap_fln_directory_publish(struct fln_guest *guest, const struct fln_region *without);
void __real_fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages);
void __wrap_fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages);
void __real_fln_install_filled(struct fln_install *in, const struct fln_mask *pages);
void __wrap_fln_install_filled(struct fln_install *in, const struct fln_mask *pages);
void __real_fln_blockmap_deinit(struct fln_blockmap *map);
void __wrap_fln_blockmap_deinit(struct fln_blockmap *map);

static void come_to(enum place place)
{
	int expected = (int)place;

	if (!atomic_compare_exchange_strong(&at.hold_at, &expected, NOWHERE))
		return;
	atomic_store(&at.nr_held, 1);
	while (!atomic_load(&at.go))
		sleep_ms(1);
}

ssize_t __wrap_fln_uffd_read(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr)
{
	ssize_t got = atomic_load(&at.deaf) ? 0 : __real_fln_uffd_read(u, msgs, nr);

	for (ssize_t i = 0; i < got; i++) {
		if (msgs[i].event == UFFD_EVENT_REMOVE)
			come_to(AFTER_READ);
	}
	return got;
}

int __wrap_fln_uffd_unregister(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	void (*fn)(void) = at.at_unregister;

	at.at_unregister = NULL;
	if (fn)
		fn();
	return __real_fln_uffd_unregister(u, addr, len_bytes);
}

int __wrap_fln_region_deny(struct fln_region *r)
{
	atomic_fetch_add(&at.nr_denied, 1);
	return __real_fln_region_deny(r);
}

int __wrap_fln_directory_publish(struct fln_guest *guest, const struct fln_region *without)
{
	void (*fn)(void) = at.at_publish;

	at.at_publish = NULL;
	if (fn)
		fn();
	atomic_fetch_add(&at.nr_published, 1);
	return __real_fln_directory_publish(guest, without);
}

void __wrap_fln_image_give_up(struct fln_image *image, uint64_t page, uint64_t nr_pages)
{
	come_to(IN_EVENT);
	__real_fln_image_give_up(image, page, nr_pages);
}

void __wrap_fln_install_filled(struct fln_install *in, const struct fln_mask *pages)
{
	come_to(IN_INSTALL);
	__real_fln_install_filled(in, pages);
}

void __wrap_fln_blockmap_deinit(struct fln_blockmap *map)
{
	if (map == at.map)
		atomic_fetch_add(&at.nr_freed, 1);
	__real_fln_blockmap_deinit(map);
}

/* A guest all of whose pages are filled. */
static void up(bool in_context)
{
	bed_init(&bed, NR_PAGES);
	bed.engine_opts.nr_workers = 1;
	bed.guest_opts.nr_shards = 1;
	if (in_context)
		context_up(&bed, true);
	else
		bed_up(&bed);
	OK(fln_image_fill(bed.image, 0, LEN));
	atomic_store(&at.go, false);
	atomic_store(&at.nr_held, 0);
	atomic_store(&at.nr_ended, 0);
	atomic_store(&at.nr_denied, 0);
	atomic_store(&at.nr_published, 0);
	atomic_store(&at.nr_freed, 0);
	at.map = &bed.region->map;
}

static void *remover_main(void *arg)
{
	CHECK(madvise(arg, PAGE, MADV_REMOVE) == 0, "MADV_REMOVE: %s", strerror(errno));
	return NULL;
}

/* A page is given up; the caller sees to it that somebody reads that. */
static void give_up_a_page(void)
{
	CHECK(pthread_create(&at.remover, NULL, remover_main, bed_page(&bed, 7)) == 0, "thread");
}

/* The worker reads that a page is given up, and is held at @place. */
static void hold_the_worker(enum place place)
{
	atomic_store(&at.hold_at, (int)place);
	give_up_a_page();
	wait_count(&at.nr_held, 1, WAIT_S, "a worker that has read of a discard");
}

static void *remove_main(void *arg)
{
	OK(fln_region_remove(arg));
	atomic_store(&at.nr_ended, 1);
	return NULL;
}

static void begin(void *(*fn)(void *arg), void *arg)
{
	CHECK(pthread_create(&at.closer, NULL, fn, arg) == 0, "thread");
}

/* As long as a thread is held there is none of it; then there is. */
static void waits_for(_Atomic uint32_t *counter, const char *what)
{
	sleep_ms(LOOK_MS);
	CHECK(atomic_load(counter) == 0, "%s, with a thread on its way", what);
	atomic_store(&at.go, true);
	wait_count(&at.nr_ended, 1, WAIT_S, "a call that waited for that thread");
	CHECK(pthread_join(at.closer, NULL) == 0, "join");
	CHECK(atomic_load(counter) > 0, "%s: not at all", what);
}

static void down(bool removed)
{
	if (removed)
		bed.region = NULL;
	bed_down(&bed);
}

/* What was read of a region is acted upon before its pages are judged. */
static void closing_waits_for_what_was_read(void)
{
	up(false);
	hold_the_worker(AFTER_READ);
	begin(remove_main, bed.region);
	waits_for(&at.nr_denied, "the pages were judged");
	CHECK(pthread_join(at.remover, NULL) == 0, "join");
	down(true);
}

static void *context_main(void *arg)
{
	uint64_t value;

	OK(fln_thread_enter());
	(void)touch_read(arg, &value); /* its mapping may go before the access is tried again */
	fln_thread_leave();
	return NULL;
}

/* And a thread that maps in its own context has done so. */
static void closing_waits_for_readers(void)
{
	pthread_t thread;

	up(true);
	atomic_store(&at.hold_at, IN_INSTALL);
	CHECK(pthread_create(&thread, NULL, context_main, bed_page(&bed, 100)) == 0, "thread");
	wait_count(&at.nr_held, 1, WAIT_S, "a thread that maps in context");
	begin(remove_main, bed.region);
	/* Not joined before: the region's mapping goes with it. */
	sleep_ms(LOOK_MS);
	CHECK(atomic_load(&at.nr_denied) == 0, "the pages were judged, with a reader inside");
	waits_for(&at.nr_freed, "the region was freed");
	CHECK(pthread_join(thread, NULL) == 0, "join");
	down(true);
}

static void hold_after_read(void)
{
	hold_the_worker(AFTER_READ);
}

/* What is read between closing and unregistering still finds its region. */
static void going_waits_for_what_was_read(void)
{
	up(false);
	at.at_unregister = hold_after_read;
	begin(remove_main, bed.region);
	wait_count(&at.nr_held, 1, WAIT_S, "a worker that has read of a discard");
	waits_for(&at.nr_published, "the region was taken out of the directory");
	CHECK(pthread_join(at.remover, NULL) == 0, "join");
	down(true);
}

static void wait_unread(void)
{
	struct pollfd pfd = { .fd = bed.guest->shards[0].uffd.fd, .events = POLLIN };

	CHECK(poll(&pfd, 1, (int)WAIT_S * 1000) == 1, "nothing is told of the discard");
}

static void hold_in_event(void)
{
	atomic_store(&at.hold_at, IN_EVENT);
	atomic_store(&at.deaf, false);
	wait_count(&at.nr_held, 1, WAIT_S, "a worker that acts upon a discard");
}

/* What has found the region before it left the directory is done with it when it is freed. */
static void freeing_waits_for_events(void)
{
	up(false);
	atomic_store(&at.deaf, true);
	give_up_a_page();
	wait_unread();
	at.at_publish = hold_in_event;
	begin(remove_main, bed.region);
	wait_count(&at.nr_held, 1, WAIT_S, "a worker that acts upon a discard");
	waits_for(&at.nr_freed, "the region was freed");
	CHECK(pthread_join(at.remover, NULL) == 0, "join");
	down(true);
}

static struct fln_region *second;

static void *add_main(void *arg)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;

	(void)arg;
	o.image = bed.image;
	o.len_bytes = LEN;
	OK(fln_region_add(bed.guest, &o, &second));
	atomic_store(&at.nr_ended, 1);
	return NULL;
}

/* What was read before there was a region is none of its. */
static void coming_waits_for_what_was_read(void)
{
	up(false);
	hold_the_worker(AFTER_READ);
	begin(add_main, NULL);
	waits_for(&at.nr_published, "the new region is in the directory");
	CHECK(pthread_join(at.remover, NULL) == 0, "join");
	OK(fln_region_remove(second));
	down(false);
}

int main(void)
{
	test_init();
	context_init();
	RUN(closing_waits_for_what_was_read);
	RUN(closing_waits_for_readers);
	RUN(going_waits_for_what_was_read);
	RUN(freeing_waits_for_events);
	RUN(coming_waits_for_what_was_read);
	return 0;
}
