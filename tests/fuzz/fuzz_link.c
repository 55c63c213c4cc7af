/* SPDX-License-Identifier: MIT */
/*
 * The messages of an image that two processes use, when the other end is no friend.  The
 * first byte chooses which end is ours; the others become messages, mostly well-formed
 * but for a field, which lie in the socket before ours reads the first of them.
 */
#include "sources/image_discard.h"
#include "sources/image_state.h"
#include "sources/image_want.h"
#include "sources/link.h"
#include "sources/link_message.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/cm.h"
#include "tests/support/rig.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define NR_PAGES 1300u
#define MAX_MESSAGES 48u /* so that all of them, and all answers, find room in the socket */
#define NR_ASKED 6u

static void send_bytes(int fd, const void *msg, size_t len, struct bytes *in)
{
	int stray = bytes_below(in, 8) == 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	(void)fln_link_send(fd, msg, len, stray, false);
	if (stray >= 0)
		(void)close(stray);
}

/* Nonsense of any length, or a message that has been cut or changed in a byte. */
static void send_spoilt(int fd, void *msg, size_t len, struct bytes *in)
{
	uint8_t *at = msg;

	switch (bytes_below(in, 12)) {
	case 0:
		len = bytes_below(in, (uint32_t)len);
		break;
	case 1:
		at[bytes_below(in, (uint32_t)len)] ^= bytes_take(in);
		break;
	default:
		break;
	}
	if (len > 0)
		send_bytes(fd, msg, len, in);
}

static uint64_t some_number(struct bytes *in, uint32_t below)
{
	static const uint64_t far[] = { UINT64_MAX, INT64_MAX, UINT32_MAX, 1u << 31 };
	uint32_t b = bytes_take(in);

	return b >= 252 ? far[b - 252] : bytes_below(in, below);
}

static struct fln_mask some_mask(struct bytes *in)
{
	uint32_t lo = bytes_below(in, FLN_BLOCK_PAGES), nr = bytes_below(in, 200);

	if (nr > FLN_BLOCK_PAGES - lo || nr == 199)
		nr = FLN_BLOCK_PAGES - lo;
	return fln_mask_range(lo, lo + nr);
}

/* Ours is the owner's end. */

static void check_answers(struct rig *r, int fd)
{
	struct fln_link_news news;
	int stray;
	ssize_t n;

	while ((n = fln_link_receive(fd, &news, sizeof(news), &stray)) > 0) {
		if (stray >= 0)
			(void)close(stray);
		if (!fln_link_is(&news, n, FLN_LINK_NEWS, sizeof(news)))
			continue; /* hello */
		assert_true(news.id < FLN_LINK_MAX_ASKS && news.nr_blocks > 0);
		for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i++) {
			uint64_t page = news.block * FLN_BLOCK_PAGES + i;
			enum fln_image_page state = FLN_IMAGE_UNFILLED;

			if (page < NR_PAGES)
				state = fln_image_state(&r->image, page);
			assert_true(!fln_mask_test(&news.filled, i) || state == FLN_IMAGE_FILLED);
			assert_true(!fln_mask_test(&news.zero, i) || state == FLN_IMAGE_ZERO);
		}
	}
}

static void play_owner(struct bytes *in)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = NR_PAGES, .fill_pages = 8 });
	struct fln_link_hello hello = { .head = { FLN_LINK_MAGIC, FLN_LINK_HELLO },
					.version = FLN_LINK_VERSION };
	int fds[2], size = 1 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	(void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	rig_put(r, bytes_below(in, NR_PAGES - 40), 40);
	r->bad[bytes_below(in, 64)] = true;
	(void)fln_image_fill(&r->image, 0, fln_pages_to_bytes(1 + bytes_below(in, 64)));
	fln_image_give_up(&r->image, bytes_below(in, NR_PAGES - 20), 20);
	send_spoilt(fds[1], &hello, sizeof(hello), in);
	for (uint32_t i = 0; in->left > 0 && i < MAX_MESSAGES; i++) {
		struct fln_link_ask ask = { .head = { FLN_LINK_MAGIC, FLN_LINK_ASK } };

		ask.id = (uint32_t)some_number(in, FLN_LINK_MAX_ASKS + 2);
		ask.page = some_number(in, NR_PAGES + 2);
		ask.nr_pages = (uint32_t)some_number(in, 20);
		ask.anew = bytes_below(in, 2);
		send_spoilt(fds[1], &ask, sizeof(ask), in);
	}
	(void)shutdown(fds[1], SHUT_WR);
	(void)fln_image_share(&r->image, fds[0]);
	check_answers(r, fds[1]);
	(void)rig_fill(r, UINT32_MAX);
	assert_int_equal(atomic_load(&r->image.nr_users), 0);
	assert_null(r->image.listeners);
	(void)close(fds[0]);
	(void)close(fds[1]);
	rig_destroy(r);
}

/* Ours is the attached end. */

/* What the messages say, whether they make sense or not. */
static void note(bool *told, const struct fln_link_news *news)
{
	for (uint32_t page = 0; page < NR_PAGES; page++) {
		uint64_t block = page / FLN_BLOCK_PAGES;
		uint32_t i = page % FLN_BLOCK_PAGES;

		told[page] |= news->block == block &&
			      (fln_mask_test(&news->filled, i) || fln_mask_test(&news->zero, i));
		told[page] |= block > news->block && block - news->block < news->nr_blocks;
	}
}

static void send_news(int fd, struct bytes *in, bool *told)
{
	struct fln_link_news news = { .head = { FLN_LINK_MAGIC, FLN_LINK_NEWS } };
	uint32_t which = bytes_take(in);

	news.id = (uint32_t)some_number(in, NR_ASKED + 2);
	news.done = bytes_below(in, 8) == 0 ? bytes_take(in) : bytes_below(in, 2);
	news.block = some_number(in, 4);
	news.nr_blocks = bytes_below(in, 2) ? 1 : some_number(in, 5);
	if (which & 1)
		news.filled = some_mask(in);
	if (which & 2)
		news.zero = some_mask(in);
	if (which & 4)
		news.failed = some_mask(in);
	note(told, &news);
	if (bytes_below(in, 8)) /* what is changed in a byte tells something else */
		send_bytes(fd, &news, sizeof(news), in);
	else
		send_bytes(fd, &news, bytes_below(in, sizeof(news)), in);
}

static void play_attached(struct bytes *in)
{
	struct rig *r = rig_create(&(struct rig_opts){ .nr_pages = NR_PAGES, .pushed = true });
	bool told[NR_PAGES] = { false };
	uint32_t asked[NR_ASKED];
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(fln_link_open(&r->image, fds[0], bytes_below(in, 2)), 0);
	(void)close(fds[0]);
	for (uint32_t i = 0; i < NR_ASKED; i++) {
		asked[i] = bytes_below(in, NR_PAGES);
		(void)fln_image_request(&r->image, asked[i], FLN_NO_WAITER);
	}
	for (uint32_t i = 0; in->left > 0 && i < MAX_MESSAGES; i++)
		send_news(fds[1], in, told);
	(void)close(fds[1]);
	for (uint32_t i = 0; i < NR_ASKED; i++) {
		while (fln_image_state(&r->image, asked[i]) == FLN_IMAGE_FILLING)
			(void)sched_yield();
		/* Nobody is there any more: it is known, or it has failed. */
		assert_int_not_equal(fln_image_state(&r->image, asked[i]), FLN_IMAGE_UNFILLED);
	}
	for (uint32_t page = 0; page < NR_PAGES; page++) {
		enum fln_image_page state = fln_image_state(&r->image, page);

		assert_true(told[page] || state == FLN_IMAGE_UNFILLED ||
			    state == FLN_IMAGE_FAILED); /* I6 */
	}
	rig_destroy(r);
}

/* The greeting: what comes back is somebody's descriptor and somebody's numbers. */
static void play_hello(struct bytes *in)
{
	struct fln_link_hello hello = { .head = { FLN_LINK_MAGIC, FLN_LINK_HELLO },
					.version = FLN_LINK_VERSION },
			      got;
	int fds[2], memfd;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	hello.len_bytes = some_number(in, 8) << bytes_below(in, 24);
	hello.page_bytes = (uint32_t)some_number(in, 8) << bytes_below(in, 24);
	hello.flags = bytes_take(in);
	send_spoilt(fds[1], &hello, sizeof(hello), in);
	(void)shutdown(fds[1], SHUT_WR);
	if (fln_link_hello(fds[0], &got, &memfd) == 0) {
		assert_true(memfd >= 0 && got.len_bytes > 0 && got.len_bytes <= INT64_MAX);
		assert_true(got.page_bytes >= FLN_PAGE_BYTES);
		assert_int_equal(got.len_bytes % got.page_bytes, 0);
		(void)close(memfd);
	} else {
		assert_int_equal(memfd, -1);
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	int before = dup(0), after;

	(void)close(before);
	switch (bytes_below(&in, 3)) {
	case 0:
		play_owner(&in);
		break;
	case 1:
		play_attached(&in);
		break;
	default:
		play_hello(&in);
		break;
	}
	after = dup(0);
	(void)close(after);
	assert_int_equal(before, after); /* no descriptor is left */
	return 0;
}
