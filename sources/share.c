/* SPDX-License-Identifier: MIT */
/*
 * The owner's side of an image that is shared with another process (protocol: link.h).
 *
 * Runs on one thread of the embedder per attached process, inside fln_image_share(), which alone
 * uses its struct share; only the listener in it is shared, and guarded by image->lock.  The
 * process sends asks, each for some pages of one block.  An ask for ready pages is answered at
 * once.  For other pages the thread requests fills, as a fault would, and checks again when it is
 * notified that pages have changed.  Pages are published and listeners notified under image->lock.
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
#define RETRY_MS 20 /* the pause when no fill was free, or one was put off */
#define ASKS_PER_ROUND 64u
/*
 * A process may have this many fills in use, or twice the number of filler threads if that is
 * more.  That keeps the threads busy, and bounds the queue that requests of other processes
 * and our own faults wait behind (I7).
 */
#define MIN_PEER_FILLS 16u

struct ask {
	uint64_t page;
	uint32_t nr_pages;    /* 0: the id is free */
	struct fln_mask told; /* pages of its block that were answered */
	uint32_t nr_fills;    /* fills in use for it, counted in share->nr_fills */
	uint32_t nr_anew;     /* FAILED pages among its first nr_anew are still to be retried */
};

struct share {
	struct fln_image *image;
	int fd;
	struct fln_listener listener;
	bool stalled;                 /* a page is neither ready nor filling: retry by timer */
	uint32_t max_fills, nr_fills; /* limit and number of the process's fills in use */
	bool put_off;                 /* an ask waits until nr_fills is below max_fills */
	uint32_t nr_active;           /* asks in flight */
	uint32_t active[FLN_LINK_MAX_ASKS]; /* their ids */
	struct ask asks[FLN_LINK_MAX_ASKS]; /* by id */
};

/* Read the states of a block.  RCU read lock held. */
static void read_block(const struct fln_image *image, uint64_t block, struct fln_link_news *news)
{
	struct fln_mask settled;

	fln_image_ready(image, block * FLN_BLOCK_PAGES, FLN_BLOCK_PAGES, &news->filled,
			&news->zero);
	news->failed = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FAILED, block);
	settled = fln_mask_or(&news->filled, &news->zero);
	/* A huge page fails as a whole. */
	if (fln_image_is_huge(image) && !fln_mask_empty(&news->failed))
		news->failed = fln_blockmap_valid(&image->map, block);
	news->failed = fln_mask_andnot(&news->failed, &settled);
}

/* Count the FILLED blocks from @block on, at most LOOK_AHEAD_BLOCKS; return at least 1. */
static uint64_t count_filled_blocks(const struct fln_image *image, uint64_t block)
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
 * Request fills for the missing pages that are not FILLING.  Return: true if some page is still
 * UNFILLED, because no fill was free or one was put off; further requests would fail likewise.
 */
static bool request_missing(struct fln_image *image, const struct fln_mask *missing, uint64_t block)
{
	struct fln_mask filling, unfilled;
	uint32_t at;

	if (fln_image_is_huge(image)) {
		/* A huge page is filled as a whole, one run after another. */
		(void)want(image, block * FLN_BLOCK_PAGES, false);
		return fln_image_due(image, block * FLN_BLOCK_PAGES) == FLN_IMAGE_UNFILLED;
	}
	fln_rcu_read_lock();
	filling = fln_blockmap_load(&image->map, FLN_IMAGE_PLANE_FILLING, block);
	fln_rcu_read_unlock();
	unfilled = fln_mask_andnot(missing, &filling);
	for (at = fln_mask_next_set(&unfilled, 0); at < FLN_BLOCK_PAGES;
	     at = fln_mask_next_set(&unfilled, at + 1)) {
		uint64_t page = block * FLN_BLOCK_PAGES + at;

		/* An earlier request may have started a fill of its neighbours too. */
		if (fln_image_state(image, page) != FLN_IMAGE_UNFILLED)
			continue;
		(void)want(image, page, false);
		if (fln_image_state(image, page) == FLN_IMAGE_UNFILLED)
			return true;
	}
	return false;
}

/* The number of fills that missing pages of one block need. */
static uint32_t count_fills(const struct fln_image *image, const struct fln_mask *missing)
{
	uint32_t window =
		fln_image_is_huge(image) ? FLN_BLOCK_PAGES : image->filler->opts.fill_pages;
	uint32_t nr = 0, at = fln_mask_next_set(missing, 0);

	for (; at < FLN_BLOCK_PAGES; nr++)
		at = fln_mask_next_set(missing, (uint32_t)fln_align_down(at, window) + window);
	return nr;
}

/* May the process use another fill?  If not, note that an ask is put off. */
static bool may_use_fill(struct share *s)
{
	if (s->nr_fills < s->max_fills)
		return true;
	s->put_off = true;
	return false;
}

/* Request the pages that an ask still misses, within the process's limit. */
static void serve_missing(struct share *s, struct ask *ask, const struct fln_mask *missing,
			  uint64_t block)
{
	if (!s->image->source || fln_mask_empty(missing))
		return; /* nothing is missing, or only the embedder can push it */
	if (!may_use_fill(s))
		return;
	s->stalled |= request_missing(s->image, missing, block);
	ask->nr_fills = count_fills(s->image, missing);
	s->nr_fills += ask->nr_fills;
}

/*
 * Retry the FAILED pages of an ask that are to be read anew, before their states are read for the
 * answer.  False: some could not be retried, as no fill was free or the process is at its limit.
 */
static bool retry_failed(struct share *s, struct ask *ask)
{
	uint32_t nr_begun = 0;

	for (; ask->nr_anew > 0; ask->nr_anew--) {
		uint64_t page = ask->page + ask->nr_anew - 1;

		if (fln_image_state(s->image, page) != FLN_IMAGE_FAILED)
			continue;
		if (!may_use_fill(s) || nr_begun == s->max_fills ||
		    want(s->image, page, true) == FLN_IMAGE_IS_STARVED) {
			s->stalled = true;
			return false;
		}
		nr_begun++;
	}
	return true;
}

/*
 * Answer an ask as far as possible now; *done: it is completely answered.  @first: the
 * first answer to this ask.  Return: 0; -errno of the socket.
 */
static int answer(struct share *s, uint32_t id, bool first, bool *done)
{
	struct ask *ask = &s->asks[id];
	uint64_t block = ask->page / FLN_BLOCK_PAGES;
	uint32_t lo = (uint32_t)(ask->page % FLN_BLOCK_PAGES);
	struct fln_mask wanted = fln_mask_range(lo, lo + ask->nr_pages), known, fresh, missing;
	struct fln_link_news news = {
		.head = { FLN_LINK_MAGIC, FLN_LINK_NEWS },
		.id = id,
		.block = block,
	};

	*done = false;
	s->nr_fills -= ask->nr_fills;
	ask->nr_fills = 0;
	if (!retry_failed(s, ask))
		return 0;
	fln_rcu_read_lock();
	read_block(s->image, block, &news);
	news.nr_blocks = first ? count_filled_blocks(s->image, block) : 1;
	fln_rcu_read_unlock();
	known = fln_mask_or(&news.filled, &news.zero);
	known = fln_mask_or(&known, &news.failed);
	missing = fln_mask_andnot(&wanted, &known);
	*done = fln_mask_empty(&missing);
	news.done = *done;
	serve_missing(s, ask, &missing, block);
	fresh = fln_mask_and(&known, &wanted);
	fresh = fln_mask_andnot(&fresh, &ask->told);
	if (fln_mask_empty(&fresh) && !*done)
		return 0;
	ask->told = fln_mask_or(&ask->told, &fresh);
	return fln_link_send(s->fd, &news, sizeof(news), -1, true);
}

/* Answer all asks in flight as far as possible. */
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
 * Asks that were put off are looked at again when a page changes.  If the fills that they waited
 * for have ended already, perhaps no page will ever change: retry by timer.
 */
static void recheck_put_off(struct share *s)
{
	s->stalled |= s->put_off && s->nr_fills < s->max_fills;
	s->put_off = false;
}

/* To be called before states are read, so that all later changes are notified. */
static void arm_listener(struct share *s)
{
	fln_lock(&s->image->lock);
	s->listener.waits = true;
	fln_unlock(&s->image->lock);
}

static int refuse(const struct share *s, const char *why)
{
	return fln_fail(EPROTO,
			"image %s: the process at the other end of descriptor %d %s; it is no "
			"longer served",
			s->image->name, s->fd, why);
}

static int take_ask(struct share *s, const struct fln_link_ask *m)
{
	uint64_t nr_pages = fln_bytes_to_pages(s->image->len_bytes);
	struct ask *ask;
	bool done;
	int rc;

	if (m->id >= FLN_LINK_MAX_ASKS || s->asks[m->id].nr_pages)
		return refuse(s, "sent an ask with an invalid or busy id");
	if (m->nr_pages == 0 || m->nr_pages > FLN_BLOCK_PAGES || m->page >= nr_pages ||
	    m->nr_pages > nr_pages - m->page ||
	    m->page / FLN_BLOCK_PAGES != (m->page + m->nr_pages - 1) / FLN_BLOCK_PAGES)
		return refuse(s, "asked for pages outside the image or across a block boundary");
	ask = &s->asks[m->id];
	ask->page = m->page;
	ask->nr_pages = m->nr_pages;
	ask->told = fln_mask_range(0, 0);
	ask->nr_anew = m->anew ? m->nr_pages : 0;
	rc = answer(s, m->id, true, &done);
	if (rc == 0 && !done) {
		arm_listener(s);
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
 * Receive pending asks, at most ASKS_PER_ROUND, so that a flood of asks does not delay the
 * answers to earlier ones.
 * Return: -EAGAIN: continue; 0: the other end was closed; -EPROTO; -errno.
 */
static int receive_asks(struct share *s)
{
	for (uint32_t i = 0; i < ASKS_PER_ROUND; i++) {
		struct fln_link_ask ask;
		/* No buffer for descriptors: the kernel drops any that were sent. */
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
		/* Without a notification or a timeout no state has changed. */
		if (s->nr_active && (s->stalled || p[1].revents)) {
			s->stalled = false;
			arm_listener(s);
			rc = answer_active(s);
		}
		if (rc == 0)
			rc = receive_asks(s);
		recheck_put_off(s);
		if (rc == -EPIPE)
			return 0;
		if (rc != -EAGAIN)
			return rc;
	}
}

/* The handshake of the owner's side.  Return: 0; 1: the other end was closed; -errno. */
static int shake_hands(const struct share *s)
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
	int rc = shake_hands(s);

	if (rc)
		return rc > 0 ? 0 : rc;
	entered = fln_rcu_enter();
	enlist(s);
	rc = serve(s);
	delist(s);
	fln_rcu_leave(entered);
	/* -EPROTO has its message already; errors of the socket have none. */
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
		return fln_fail(ENOMEM, "image %s: no memory for sharing it", image->name);
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
