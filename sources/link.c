/* SPDX-License-Identifier: MIT */
/*
 * The attached side of an image that another process owns: sends asks, receives news.
 *
 * A thread that needs pages (mostly a worker) begins a fill as in any image and sends
 * the ask itself, without blocking; if the socket is full, the link's thread sends
 * it later.  The link's thread receives the news and changes the states.  A fill is in
 * the table of asks from before it is sent until news says that it is done.
 */
#include "sources/link.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/thread.h"
#include "sources/image_state.h"
#include "sources/link_message.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHORT_PAUSE_NS FLN_NS_PER_MS

/* An ask; its index in link->asks is its id. */
struct ask {
	struct fln_fill fill;
	bool asked;  /* in flight, or unsent; guarded by link->lock, as is unsent */
	bool unsent; /* the socket was full */
};

struct fln_link {
	struct fln_image *image;
	int socket;
	int event_fd; /* wakes the thread to stop, or to send unsent asks */
	struct fln_thread thread;
	_Atomic bool stopping;
	struct fln_lock lock; /* FLN_RANK_SOURCE */
	_Atomic bool anew;    /* asks request that FAILED pages be read once more */
	struct fln_fill *free;
	uint32_t nr_free;
	uint64_t starved; /* waiters that found no free fill */
	uint32_t nr_unsent;
	bool broken; /* the connection has ended */
	struct ask asks[FLN_LINK_MAX_ASKS];
};

static struct ask *ask_of(struct fln_fill *fill)
{
	return (struct ask *)fill; /* its first field */
}

static void ring(struct fln_link *link)
{
	uint64_t one = 1;

	(void)!write(link->event_fd, &one, sizeof(one));
}

/* Opening the link (closing: at the end of the file). */

static void *link_main(void *arg);

int fln_link_open(struct fln_image *image, int fd, bool can_be_late)
{
	const struct fln_allocator *a = &image->filler->opts.alloc;
	struct fln_link *link = fln_zalloc(a, sizeof(*link), FLN_NODE_ANY);
	int rc;

	if (!link)
		return fln_fail(ENOMEM, "image %s: no memory to attach it", image->name);
	link->image = image;
	link->socket = fln_fd_keep(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	link->event_fd = fln_fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	rc = link->socket < 0 || link->event_fd < 0
		     ? fln_fail(errno, "image %s: descriptors: %s; raise RLIMIT_NOFILE",
				image->name, strerror(errno))
		     : 0;
	fln_lock_init(&link->lock, FLN_RANK_SOURCE);
	for (uint32_t i = FLN_LINK_MAX_ASKS; i-- > 0;) {
		link->asks[i].fill.next = link->free;
		link->free = &link->asks[i].fill;
	}
	link->nr_free = FLN_LINK_MAX_ASKS;
	if (rc == 0) {
		image->link = link;
		image->can_be_late = can_be_late;
		rc = fln_thread_create(&link->thread, image->filler->opts.hooks, FLN_THREAD_LINK, 0,
				       link_main, link);
	}
	if (rc == 0)
		return 0;
	image->link = NULL;
	if (link->socket >= 0)
		(void)close(link->socket);
	if (link->event_fd >= 0)
		(void)close(link->event_fd);
	fln_lock_deinit(&link->lock);
	fln_free(a, link, sizeof(*link), FLN_NODE_ANY);
	return rc;
}

/* Asks. */

struct fln_fill *fln_link_alloc(struct fln_link *link, uint32_t waiter, bool background)
{
	struct fln_fill *fill = NULL;

	fln_lock(&link->lock);
	if (!background || link->nr_free > FLN_LINK_MAX_ASKS / 2)
		fill = link->free;
	if (fill) {
		link->free = fill->next;
		link->nr_free--;
	} else {
		link->starved |= fln_waiter_bit(waiter);
	}
	fln_unlock(&link->lock);
	return fill;
}

void fln_link_free(struct fln_link *link, struct fln_fill *fill)
{
	uint64_t starved;

	fln_lock(&link->lock);
	fill->next = link->free;
	link->free = fill;
	link->nr_free++;
	starved = link->starved;
	link->starved = 0;
	fln_unlock(&link->lock);
	if (starved)
		fln_filler_tell(link->image->filler, starved, FLN_CHANGE_FILLS,
				fln_image_set(link->image));
}

/* End a fill: its unpublished pages move to @to. */
static void end_fill(struct fln_link *link, struct fln_fill *fill, enum fln_image_page to)
{
	struct fln_fill_join *join = fill->join;
	struct fln_image *image = link->image;

	fln_fill_publish(image, fill, 0, fill->nr_pages, to);
	fln_fill_end(image, fill);
	fln_link_free(link, fill);
	if (!join)
		return;
	fln_lock(&image->lock);
	join->nr_fills--;
	(void)pthread_cond_broadcast(&image->written);
	fln_unlock(&image->lock);
}

/* The message for an ask; no other thread may end the fill meanwhile. */
static struct fln_link_ask message_of(struct fln_link *link, const struct ask *ask)
{
	const struct fln_fill *fill = &ask->fill;

	return (struct fln_link_ask){
		.head = { FLN_LINK_MAGIC, FLN_LINK_ASK },
		.id = (uint32_t)(ask - link->asks),
		.nr_pages = fill->nr_pages,
		.page = fill->page,
		.anew = fill->again || atomic_load_explicit(&link->anew, memory_order_relaxed),
	};
}

/*
 * Send an ask.  True: the socket is full, and the link's thread must send it later.  On any other
 * error shut the socket down: the thread then sees the end of the connection and fails all asks,
 * which would otherwise wait for answers to messages that were never sent.
 */
static bool must_send_later(struct fln_link *link, const struct fln_link_ask *message)
{
	int rc = fln_link_send(link->socket, message, sizeof(*message), -1, false);

	if (rc && rc != -EAGAIN)
		(void)shutdown(link->socket, SHUT_RDWR);
	return rc == -EAGAIN;
}

void fln_link_ask_anew(struct fln_link *link)
{
	atomic_store_explicit(&link->anew, true, memory_order_relaxed);
}

void fln_link_ask(struct fln_link *link, struct fln_fill *fill)
{
	struct ask *ask = ask_of(fill);
	/* Built first: after ask->asked is set, the end of the connection may end the fill. */
	struct fln_link_ask message = message_of(link, ask);
	bool broken;

	fln_lock(&link->lock);
	broken = link->broken;
	ask->asked = !broken;
	ask->unsent = false;
	fln_unlock(&link->lock);
	if (broken) {
		end_fill(link, fill, FLN_IMAGE_FAILED);
		return;
	}
	if (!must_send_later(link, &message))
		return;
	fln_lock(&link->lock);
	if (ask->asked && !link->broken) {
		ask->unsent = true;
		link->nr_unsent++;
	}
	fln_unlock(&link->lock);
	ring(link);
}

/* The thread. */

static bool has_unsent(struct fln_link *link)
{
	bool unsent;

	fln_lock(&link->lock);
	unsent = link->nr_unsent > 0;
	fln_unlock(&link->lock);
	return unsent;
}

/*
 * Send unsent asks, because the socket has room.  If it takes none nevertheless, the kernel is
 * short of memory: pause.
 */
static void send_unsent(struct fln_link *link)
{
	bool sent = false;

	for (uint32_t id = 0; id < FLN_LINK_MAX_ASKS; id++) {
		struct ask *ask = &link->asks[id];
		struct fln_link_ask message;
		bool unsent;

		fln_lock(&link->lock);
		unsent = ask->unsent;
		fln_unlock(&link->lock);
		/* Only this thread ends it, so it cannot change meanwhile. */
		if (!unsent)
			continue;
		message = message_of(link, ask);
		if (must_send_later(link, &message)) {
			if (!sent)
				fln_sleep_ns(SHORT_PAUSE_NS);
			return;
		}
		sent = true;
		fln_lock(&link->lock);
		ask->unsent = false;
		fln_unlock(&link->lock);
	}
	fln_lock(&link->lock);
	link->nr_unsent = 0;
	for (uint32_t id = 0; id < FLN_LINK_MAX_ASKS; id++)
		link->nr_unsent += link->asks[id].unsent;
	fln_unlock(&link->lock);
}

/* The fill of the ask @id that is in flight; NULL: there is none. */
static struct fln_fill *asked(struct fln_link *link, uint32_t id)
{
	bool is_asked;

	if (id >= FLN_LINK_MAX_ASKS)
		return NULL;
	fln_lock(&link->lock);
	is_asked = link->asks[id].asked && !link->asks[id].unsent;
	fln_unlock(&link->lock);
	return is_asked ? &link->asks[id].fill : NULL;
}

/* Publish pages of the fill that have failed in the owner's process. */
static void learn_failed(struct fln_link *link, struct fln_fill *fill,
			 const struct fln_mask *failed)
{
	uint32_t first = (uint32_t)(fill->page % FLN_BLOCK_PAGES), lo = first, hi;

	for (; fln_mask_next_run(failed, &lo, &hi) && lo < first + fill->nr_pages; lo = hi) {
		if (hi > first + fill->nr_pages)
			hi = first + fill->nr_pages;
		fln_fill_publish(link->image, fill, lo - first, hi - first, FLN_IMAGE_FAILED);
	}
}

/* Validate news and apply it.  False: it is invalid. */
static bool learn(struct fln_link *link, const struct fln_link_news *news)
{
	struct fln_mask any = fln_mask_or(&news->filled, &news->zero), want, twice, rest, valid;
	struct fln_mask none = { { 0 } };
	struct fln_fill *fill = asked(link, news->id);
	struct fln_image *image = link->image;
	uint32_t first;

	if (!fill || news->block != fill->page / FLN_BLOCK_PAGES || news->nr_blocks == 0 ||
	    news->done > 1 || news->nr_blocks > image->map.nr_blocks - news->block)
		return false;
	twice = fln_mask_and(&news->filled, &news->zero);
	rest = fln_mask_and(&any, &news->failed);
	twice = fln_mask_or(&twice, &rest);
	any = fln_mask_or(&any, &news->failed);
	valid = fln_blockmap_valid(&image->map, news->block);
	rest = fln_mask_andnot(&any, &valid);
	rest = fln_mask_or(&rest, &twice);
	if (!fln_mask_empty(&rest))
		return false;
	first = (uint32_t)(fill->page % FLN_BLOCK_PAGES);
	want = fln_mask_range(first, first + fill->nr_pages);
	want = fln_mask_andnot(&want, &any);
	if (news->done && !fln_mask_empty(&want))
		return false;
	fln_image_learn(image, news->block, &news->filled, &news->zero);
	for (uint64_t i = 1; i < news->nr_blocks; i++) {
		valid = fln_blockmap_valid(&image->map, news->block + i);
		fln_image_learn(image, news->block + i, &valid, &none);
	}
	learn_failed(link, fill, &news->failed);
	if (!news->done)
		return true;
	fln_lock(&link->lock);
	link->asks[news->id].asked = link->asks[news->id].unsent = false;
	fln_unlock(&link->lock);
	end_fill(link, fill, FLN_IMAGE_FAILED); /* all its pages are published already */
	return true;
}

/* Receive all pending news.  Return: -EAGAIN: all received; 0: the other end was closed; -errno. */
static int receive_news(struct fln_link *link)
{
	while (!atomic_load_explicit(&link->stopping, memory_order_acquire)) {
		struct fln_link_news news;
		int stray;
		ssize_t n = fln_link_receive(link->socket, &news, sizeof(news), &stray);

		if (stray >= 0)
			(void)close(stray);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n == -ECONNRESET ? 0 : (int)n;
		if (!fln_link_is(&news, n, FLN_LINK_NEWS, sizeof(news)) || !learn(link, &news))
			return -EPROTO;
	}
	return -EAGAIN;
}

/* The connection has ended: end all asks, and move their pages to @to. */
static void end_all(struct fln_link *link, enum fln_image_page to)
{
	fln_lock(&link->lock);
	link->broken = true;
	fln_unlock(&link->lock);
	for (uint32_t id = 0; id < FLN_LINK_MAX_ASKS; id++) {
		bool was;

		fln_lock(&link->lock);
		was = link->asks[id].asked;
		link->asks[id].asked = link->asks[id].unsent = false;
		fln_unlock(&link->lock);
		if (was)
			end_fill(link, &link->asks[id].fill, to);
	}
}

static void log_broken(struct fln_link *link, int rc)
{
	const struct fln_log *log = &link->image->filler->opts.log;

	if (rc == -EPROTO)
		fln_log(log, FLN_LOG_ERROR,
			"image %s: the other process violated the protocol, and the connection is "
			"closed; pages that are not filled fail",
			link->image->name);
	else
		fln_log(log, FLN_LOG_WARNING,
			"image %s: the process that shares it has closed the connection (%s); "
			"pages that are not filled fail",
			link->image->name, rc ? strerror(-rc) : "closed");
}

static void *link_main(void *arg)
{
	struct fln_link *link = arg;
	struct fln_thread_before before;
	bool entered, broken = false;

	fln_thread_begin(&before, FLN_THREAD_LINK, 0);
	entered = fln_rcu_enter();
	while (!atomic_load_explicit(&link->stopping, memory_order_acquire)) {
		struct pollfd p[2] = { { .fd = link->event_fd, .events = POLLIN },
				       { .fd = broken ? -1 : link->socket, .events = POLLIN } };
		uint64_t count;
		int rc;

		if (has_unsent(link))
			p[1].events |= POLLOUT;
		(void)poll(p, 2, -1);
		if (p[0].revents)
			(void)!read(link->event_fd, &count, sizeof(count));
		if (broken)
			continue;
		if (p[1].revents & POLLOUT)
			send_unsent(link);
		rc = receive_news(link);
		if (rc == -EAGAIN)
			continue;
		broken = true;
		log_broken(link, rc);
		(void)shutdown(link->socket, SHUT_RDWR);
		end_all(link, FLN_IMAGE_FAILED);
	}
	fln_rcu_leave(entered);
	fln_thread_end(&before);
	return NULL;
}

void fln_link_close(struct fln_image *image)
{
	const struct fln_allocator *a = &image->filler->opts.alloc;
	struct fln_link *link = image->link;
	bool entered;

	if (!link)
		return;
	atomic_store_explicit(&link->stopping, true, memory_order_release);
	ring(link);
	fln_thread_join(&link->thread);
	(void)shutdown(link->socket, SHUT_RDWR);
	entered = fln_rcu_enter();
	end_all(link, FLN_IMAGE_UNFILLED);
	fln_rcu_leave(entered);
	image->link = NULL;
	(void)close(link->socket);
	(void)close(link->event_fd);
	fln_lock_deinit(&link->lock);
	fln_free(a, link, sizeof(*link), FLN_NODE_ANY);
}
