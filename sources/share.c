/* SPDX-License-Identifier: MIT */
/*
 * The owner's side of an image that two processes use; see link.h.
 *
 * One thread, the embedder's, per process that it is shared with.  It answers what
 * is ready at once.  For the rest it has fills begun, as a fault would, and looks
 * again when the image tells that pages have changed: it is a listener, which is
 * kicked under the lock under which pages are published.
 */
#include "base/cancel.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/fork.h"
#include "sources/image_ready.h"
#include "sources/image_state.h"
#include "sources/image_want.h"
#include "sources/link.h"
#include "sources/link_message.h"
#include "sources/memfd.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_AHEAD_BLOCKS 1024u
#define RETRY_MS 20 /* when no fill was free, or one was put off */
#define ASKS_AT_A_TIME 64u
/*
 * Fills of one process at a time, twice the filler threads if that is more: enough to keep
 * those busy, and what another process or a fault of our own waits behind at most (I7).
 */
#define MIN_PEER_FILLS 16u

struct ask {
	uint64_t page;
	uint32_t nr_pages;    /* 0: the id is free */
	struct fln_mask told; /* of its block */
	uint32_t nr_fills;    /* of the share, that it has now */
	uint32_t nr_anew;     /* first pages of which what has failed is still to be read anew */
};

struct share {
	struct fln_image *image;
	int fd;
	struct fln_listener listener;
	bool stalled;                       /* something was neither ready nor being filled */
	uint32_t max_fills, nr_fills;       /* its share; how many of it are in use */
	bool put_off;                       /* an ask waits for the share of others */
	uint32_t nr_active;                 /* asks in flight */
	uint32_t active[FLN_LINK_MAX_ASKS]; /* their ids */
	struct ask asks[FLN_LINK_MAX_ASKS]; /* by id */
};

/* What is known of a block; RCU read lock held. */
static void look(const struct fln_image *image, uint64_t block, struct fln_link_news *news)
{
	struct fln_mask settled;

	fln_image_ready(image, block * FLN_BLOCK_PAGES, FLN_BLOCK_PAGES, &news->filled,
			&news->zero);
	news->failed = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FAILED, block);
	settled = fln_mask_or(&news->filled, &news->zero);
	/* Of a huge page a part that has failed takes the others with it. */
	if (fln_image_is_huge(image) && !fln_mask_empty(&news->failed))
		news->failed = fln_blockmap_valid(&image->map, block);
	news->failed = fln_mask_andnot(&news->failed, &settled);
}

/* How many blocks from @block on are wholly filled, as far as one looks; at least 1. */
static uint64_t filled_blocks(const struct fln_image *image, uint64_t block)
{
	uint64_t end = block;

	while (end < image->map.nr_blocks && end - block < LOOK_AHEAD_BLOCKS &&
	       fln_blockmap_uniform(&image->map, end) == 1 << FLN_IMAGE_PLANE_FILLED)
		end++;
	return end > block ? end - block : 1;
}

static enum fln_image_request want(struct fln_image *image, uint64_t page, bool retry)
{
	struct fln_image_want w = { .peer = true, .retry = retry };

	return fln_image_want(image, page, FLN_NO_WAITER, &w);
}

/*
 * Have filled what is neither there nor on its way.  True: something is so still,
 * because no fill was free, or one was put off; there is no sense in going on then.
 */
static bool have_filled(struct fln_image *image, const struct fln_mask *missing, uint64_t block)
{
	struct fln_mask filling, open;
	uint32_t at;

	if (fln_image_is_huge(image)) {
		/* All of it, whatever part was asked for: one run after the other. */
		(void)want(image, block * FLN_BLOCK_PAGES, false);
		return fln_image_due(image, block * FLN_BLOCK_PAGES) == FLN_IMAGE_UNFILLED;
	}
	fln_rcu_read_lock();
	filling = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FILLING, block);
	fln_rcu_read_unlock();
	open = fln_mask_andnot(missing, &filling);
	for (at = fln_mask_next_set(&open, 0); at < FLN_BLOCK_PAGES;
	     at = fln_mask_next_set(&open, at + 1)) {
		uint64_t page = block * FLN_BLOCK_PAGES + at;

		/* One request has its neighbours filled too. */
		if (fln_image_state(image, page) != FLN_IMAGE_UNFILLED)
			continue;
		(void)want(image, page, false);
		if (fln_image_state(image, page) == FLN_IMAGE_UNFILLED)
			return true;
	}
	return false;
}

/* How many fills pages of one block come to. */
static uint32_t fills_of(const struct fln_image *image, const struct fln_mask *missing)
{
	uint32_t window =
		fln_image_is_huge(image) ? FLN_BLOCK_PAGES : image->filler->opts.fill_pages;
	uint32_t nr = 0, at = fln_mask_next_set(missing, 0);

	for (; at < FLN_BLOCK_PAGES; nr++)
		at = fln_mask_next_set(missing, (uint32_t)fln_align_down(at, window) + window);
	return nr;
}

/* Has the process a share left, beside what other asks of it have? */
static bool has_share(struct share *s)
{
	if (s->nr_fills < s->max_fills)
		return true;
	s->put_off = true;
	return false;
}

/* See to what an ask misses, within the share. */
static void serve_missing(struct share *s, struct ask *ask, const struct fln_mask *missing,
			  uint64_t block)
{
	if (!s->image->source || fln_mask_empty(missing))
		return; /* it comes when it is pushed */
	if (!has_share(s))
		return;
	s->stalled |= have_filled(s->image, missing, block);
	ask->nr_fills = fills_of(s->image, missing);
	s->nr_fills += ask->nr_fills;
}

/*
 * What has failed is read once more, before the first look at it.  False: not all of
 * it has been begun, for want of fills.
 */
static bool ask_anew(struct share *s, struct ask *ask)
{
	uint32_t nr_begun = 0;

	for (; ask->nr_anew > 0; ask->nr_anew--) {
		uint64_t page = ask->page + ask->nr_anew - 1;

		if (fln_image_state(s->image, page) != FLN_IMAGE_FAILED)
			continue;
		if (!has_share(s) || nr_begun == s->max_fills ||
		    want(s->image, page, true) == FLN_IMAGE_IS_STARVED) {
			s->stalled = true;
			return false;
		}
		nr_begun++;
	}
	return true;
}

/*
 * Answer an ask as far as that is possible now; *done when there is nothing left of
 * it.  @first: it has just come.  Return: 0, or what the socket returned.
 */
static int answer(struct share *s, uint32_t id, bool first, bool *done)
{
	struct ask *ask = &s->asks[id];
	uint64_t block = ask->page / FLN_BLOCK_PAGES;
	uint32_t lo = (uint32_t)(ask->page % FLN_BLOCK_PAGES);
	struct fln_mask want = fln_mask_range(lo, lo + ask->nr_pages), known, fresh, missing;
	struct fln_link_news news = {
		.head = { FLN_LINK_MAGIC, FLN_LINK_NEWS },
		.id = id,
		.block = block,
	};

	*done = false;
	s->nr_fills -= ask->nr_fills;
	ask->nr_fills = 0;
	if (!ask_anew(s, ask))
		return 0;
	fln_rcu_read_lock();
	look(s->image, block, &news);
	news.nr_blocks = first ? filled_blocks(s->image, block) : 1;
	fln_rcu_read_unlock();
	known = fln_mask_or(&news.filled, &news.zero);
	known = fln_mask_or(&known, &news.failed);
	missing = fln_mask_andnot(&want, &known);
	*done = fln_mask_empty(&missing);
	news.done = *done;
	serve_missing(s, ask, &missing, block);
	fresh = fln_mask_and(&known, &want);
	fresh = fln_mask_andnot(&fresh, &ask->told);
	if (fln_mask_empty(&fresh) && !*done)
		return 0;
	ask->told = fln_mask_or(&ask->told, &fresh);
	return fln_link_send(s->fd, &news, sizeof(news), -1, true);
}

/* Look at all that has not been answered. */
static int answer_active(struct share *s)
{
	uint32_t nr = 0;
	int rc = 0;

	for (uint32_t i = 0; i < s->nr_active; i++) {
		uint32_t id = s->active[i];
		bool done = false;

		if (rc == 0)
			rc = answer(s, id, false, &done);
		if (done)
			s->asks[id].nr_pages = 0;
		else
			s->active[nr++] = id;
	}
	s->nr_active = nr;
	return rc;
}

/*
 * Those that wait for the share of others are looked at again when something changes; at
 * once if the others have come to their end meanwhile, for then nothing does.
 */
static void look_at_put_off(struct share *s)
{
	s->stalled |= s->put_off && s->nr_fills < s->max_fills;
	s->put_off = false;
}

/* Before a look: what changes after it is told. */
static void listen_on(struct share *s)
{
	fln_lock(&s->image->lock);
	s->listener.waits = true;
	fln_unlock(&s->image->lock);
}

static int refuse(const struct share *s, const char *why)
{
	return fln_fail(EPROTO,
			"image %s: the process at the other end of descriptor %d %s; it is not "
			"served any more",
			s->image->name, s->fd, why);
}

static int take_ask(struct share *s, const struct fln_link_ask *m)
{
	uint64_t nr_pages = fln_bytes_to_pages(s->image->len_bytes);
	struct ask *ask;
	bool done;
	int rc;

	if (m->id >= FLN_LINK_MAX_ASKS || s->asks[m->id].nr_pages)
		return refuse(s, "uses a number for two questions");
	if (m->nr_pages == 0 || m->nr_pages > FLN_BLOCK_PAGES || m->page >= nr_pages ||
	    m->nr_pages > nr_pages - m->page ||
	    m->page / FLN_BLOCK_PAGES != (m->page + m->nr_pages - 1) / FLN_BLOCK_PAGES)
		return refuse(s, "asks for pages that there are not");
	ask = &s->asks[m->id];
	ask->page = m->page;
	ask->nr_pages = m->nr_pages;
	ask->told = fln_mask_range(0, 0);
	ask->nr_anew = m->anew ? m->nr_pages : 0;
	rc = answer(s, m->id, true, &done);
	if (rc == 0 && !done) {
		listen_on(s);
		rc = answer(s, m->id, false, &done);
	}
	if (rc)
		return rc;
	if (done)
		ask->nr_pages = 0;
	else
		s->active[s->nr_active++] = m->id;
	return 0;
}

/*
 * Asks that are there; not more than some, so that what is filled meanwhile is told to
 * whatever waits for it, however many others ask.
 * Return: -EAGAIN; 0 when the other end is closed; -EPROTO …
 */
static int receive_asks(struct share *s)
{
	for (uint32_t i = 0; i < ASKS_AT_A_TIME; i++) {
		struct fln_link_ask ask;
		/* Descriptors that come along are dropped by the kernel: no room for them. */
		ssize_t n = recv(s->fd, &ask, sizeof(ask), MSG_DONTWAIT | MSG_TRUNC);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ECONNRESET ? 0 : -errno;
		if (n == 0)
			return 0;
		if (!fln_link_is(&ask, n, FLN_LINK_ASK, sizeof(ask)))
			return refuse(s, "does not speak the protocol");
		rc = take_ask(s, &ask);
		if (rc)
			return rc;
	}
	return -EAGAIN;
}

static int serve(struct share *s)
{
	struct pollfd p[2] = { { .fd = s->fd, .events = POLLIN },
			       { .fd = s->listener.event_fd, .events = POLLIN } };
	uint64_t count;

	for (;;) {
		int rc;

		(void)poll(p, 2, s->stalled ? RETRY_MS : -1);
		if (p[1].revents)
			(void)!read(s->listener.event_fd, &count, sizeof(count));
		if (!s->nr_active)
			s->stalled = false;
		rc = 0;
		/* While it has been told of nothing the listener waits on, and nothing is new. */
		if (s->nr_active && (s->stalled || p[1].revents)) {
			s->stalled = false;
			listen_on(s);
			rc = answer_active(s);
		}
		if (rc == 0)
			rc = receive_asks(s);
		look_at_put_off(s);
		if (rc == -EPIPE)
			return 0;
		if (rc != -EAGAIN)
			return rc;
	}
}

/* Hello, and the answer to it.  Return: 0; 1 when the other end was closed before. */
static int greet(const struct share *s)
{
	const struct fln_image *image = s->image;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct fln_link_hello hello;
	ssize_t n;
	int rc;

	do {
		(void)poll(&p, 1, -1);
		n = recv(s->fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return 1;
	if (n < 0)
		return fln_fail(errno, "image %s: descriptor %d: %s", image->name, s->fd,
				strerror(errno));
	if (!fln_link_is(&hello, n, FLN_LINK_HELLO, sizeof(hello)))
		return refuse(s, "does not speak the protocol");
	if (hello.version != FLN_LINK_VERSION)
		return refuse(s, "speaks another version of the protocol");
	hello.flags = image->source ? FLN_LINK_F_SOURCE : 0;
	if (image->unsealed)
		hello.flags |= FLN_LINK_F_UNSEALED;
	if (fln_image_filled_bytes(image) == image->len_bytes)
		hello.flags |= FLN_LINK_F_FILLED;
	hello.len_bytes = image->len_bytes;
	hello.page_bytes = image->page_bytes;
	hello.reserved = 0;
	fln_image_seal_seals(image);
	rc = fln_link_send(s->fd, &hello, sizeof(hello), image->memfd, true);
	if (rc == -EPIPE)
		return 1;
	return rc ? fln_fail(-rc, "image %s: descriptor %d: %s", image->name, s->fd, strerror(-rc))
		  : 0;
}

static void enlist(struct share *s)
{
	fln_lock(&s->image->lock);
	s->listener.next = s->image->listeners;
	s->image->listeners = &s->listener;
	fln_unlock(&s->image->lock);
}

static void delist(struct share *s)
{
	struct fln_listener **at = &s->image->listeners;

	fln_lock(&s->image->lock);
	while (*at != &s->listener)
		at = &(*at)->next;
	*at = s->listener.next;
	fln_unlock(&s->image->lock);
}

static int share(struct share *s)
{
	bool entered;
	int rc = greet(s);

	if (rc)
		return rc > 0 ? 0 : rc;
	entered = fln_rcu_enter();
	enlist(s);
	rc = serve(s);
	delist(s);
	fln_rcu_leave(entered);
	/* A refusal has its sentence; what the socket says has none yet. */
	return rc == 0 || rc == -EPROTO ? rc
					: fln_fail(-rc, "image %s: descriptor %d: %s",
						   s->image->name, s->fd, strerror(-rc));
}

int fln_image_share(struct fln_image *image, int fd)
{
	FLN_UNCANCELLABLE;
	const struct fln_allocator *a;
	struct share *s;
	int rc = FLN_CALL_REFUSED(image);

	if (rc)
		return rc;
	if (image->link)
		return fln_image_not_ours(image, "fln_image_share");
	rc = fln_link_check_socket(fd);
	if (rc)
		return rc;
	a = &image->filler->opts.alloc;
	s = fln_zalloc(a, sizeof(*s), FLN_NODE_ANY);
	if (!s)
		return fln_fail(ENOMEM, "image %s: no memory to be shared", image->name);
	s->image = image;
	s->fd = fd;
	s->max_fills = 2 * image->filler->opts.nr_threads;
	if (s->max_fills < MIN_PEER_FILLS)
		s->max_fills = MIN_PEER_FILLS;
	s->listener.event_fd = fln_fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (s->listener.event_fd < 0) {
		rc = fln_fail(errno, "image %s: eventfd: %s; raise RLIMIT_NOFILE", image->name,
			      strerror(errno));
	} else {
		atomic_fetch_add(&image->nr_users, 1);
		rc = share(s);
		(void)close(s->listener.event_fd);
		atomic_fetch_sub(&image->nr_users, 1);
	}
	fln_free(a, s, sizeof(*s), FLN_NODE_ANY);
	return rc;
}
