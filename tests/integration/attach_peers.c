/* SPDX-License-Identifier: MIT */
/*
 * Images that two processes use, when the other end of the socket is no friend: it is
 * silent, talks nonsense, lies about what it sends, or hangs up.  And what one may see
 * of the protocol: how few messages a filled image takes.
 */
#include "sources/link.h"
#include "sources/link_message.h"
#include "tests/integration/harness.h"
#include "tests/support/names.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_PAGES 2500u
#define LEN (NR_PAGES * PAGE)

/* What the kernel says to so many questions of the attached side, before it takes any. */
static _Atomic int32_t nr_refused;
static _Atomic int refused_errno;

/* Seen by the library before the C library's: the kernel's, with a want of memory now and then. */
#pragma GCC visibility push(default)
ssize_t sendmsg(int fd, const struct msghdr *m, int flags);
#pragma GCC visibility pop

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	const struct fln_link_head *head = m->msg_iov[0].iov_base;

	if (m->msg_iov[0].iov_len == sizeof(struct fln_link_ask) && head->kind == FLN_LINK_ASK &&
	    atomic_load(&nr_refused) > 0 && atomic_fetch_sub(&nr_refused, 1) > 0) {
		errno = atomic_load(&refused_errno);
		return -1;
	}
	return syscall(SYS_sendmsg, fd, m, flags);
}

static struct bed bed;
static int ours, theirs; /* the two ends; ours is the unfriendly one */

static void make_link(void)
{
	struct timeval limit = { .tv_sec = (time_t)WAIT_S };
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "%s",
	      strerror(errno));
	ours = fds[0];
	theirs = fds[1];
	(void)setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static void drop_link(void)
{
	(void)close(ours);
	(void)close(theirs);
}

static void say(const void *msg, size_t len, int fd)
{
	int rc = fln_link_send(ours, msg, len, fd, true);

	CHECK(rc == 0, "send: %s", strerror(-rc));
}

static struct fln_link_hello hello_of(uint64_t len_bytes)
{
	struct fln_link_hello h = { .head = { FLN_LINK_MAGIC, FLN_LINK_HELLO },
				    .version = FLN_LINK_VERSION,
				    .len_bytes = len_bytes,
				    .page_bytes = (uint32_t)PAGE };

	return h;
}

/* The owner, before a peer that is not what it should be. */

static pthread_t thread;
static _Atomic uint32_t share_ended;
static int share_rc;
static char share_said[256];

static void *share_main(void *arg)
{
	(void)arg;
	share_rc = fln_image_share(bed.image, theirs);
	(void)snprintf(share_said, sizeof(share_said), "%s", fln_last_error());
	atomic_store(&share_ended, 1);
	return NULL;
}

static void share(void)
{
	make_link();
	atomic_store(&share_ended, 0);
	CHECK(pthread_create(&thread, NULL, share_main, NULL) == 0, "pthread_create");
}

static void share_ends(int want, const char *names)
{
	wait_count(&share_ended, 1, WAIT_S, "fln_image_share() returns");
	(void)pthread_join(thread, NULL);
	CHECK(share_rc == want, "fln_image_share() returned %d and not %d: %s", share_rc, want,
	      share_said);
	CHECK(!names || names_all(share_said, names), "'%s' does not name '%s'", share_said, names);
	drop_link();
}

/* As a friend up to here; returns the memfd. */
static int greet(void)
{
	struct fln_link_hello h = hello_of(0), got;
	int memfd;

	CHECK(fln_link_hello(ours, &got, &memfd) == 0, "%s", fln_last_error());
	CHECK(got.len_bytes == LEN && got.page_bytes == PAGE, "%llu bytes",
	      (unsigned long long)got.len_bytes);
	(void)h;
	return memfd;
}

static void ask(uint32_t id, uint64_t page, uint32_t nr_pages)
{
	struct fln_link_ask a = { .head = { FLN_LINK_MAGIC, FLN_LINK_ASK },
				  .id = id,
				  .nr_pages = nr_pages,
				  .page = page };

	say(&a, sizeof(a), -1);
}

static struct fln_link_news news(void)
{
	struct fln_link_news n;
	ssize_t got = recv(ours, &n, sizeof(n), 0);

	CHECK(got == (ssize_t)sizeof(n), "%zd bytes of news: %s", got, strerror(errno));
	return n;
}

static void bad_sockets(void)
{
	int fds[2], file = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct fln_image *image;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
	REFUSED(fln_image_share(bed.image, fds[0]), -EINVAL, "SOCK_SEQPACKET");
	REFUSED(fln_image_attach(bed.engine, fds[0], NULL, &image), -EINVAL, "SOCK_SEQPACKET");
	REFUSED(fln_image_share(bed.image, file), -EINVAL, "SOCK_SEQPACKET");
	REFUSED(fln_image_attach(bed.engine, -1, NULL, &image), -EINVAL, "-1");
	REFUSED(fln_image_share(NULL, fds[0]), -EINVAL, "NULL");
	REFUSED(fln_image_attach(NULL, fds[0], NULL, &image), -EINVAL, "NULL");
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)close(file);
}

static void greetings(void)
{
	struct fln_link_hello h = hello_of(0);
	char big[4000] = { 0 };

	share();
	(void)shutdown(ours, SHUT_RDWR);
	share_ends(0, NULL);

	share();
	say("x", 1, -1);
	share_ends(-EPROTO, NULL);

	share();
	say(big, sizeof(big), -1);
	share_ends(-EPROTO, NULL);

	h.head.magic++;
	share();
	say(&h, sizeof(h), -1);
	share_ends(-EPROTO, NULL);

	h = hello_of(0);
	h.version++;
	share();
	say(&h, sizeof(h), -1);
	share_ends(-EPROTO, "version");
}

static void bad_asks(void)
{
	static const struct {
		uint32_t id;
		uint64_t page;
		uint32_t nr_pages;
	} bad[] = {
		{ FLN_LINK_MAX_ASKS, 0, 1 },
		{ UINT32_MAX, 0, 1 },
		{ 0, NR_PAGES, 1 },
		{ 0, UINT64_MAX, 1 },
		{ 0, 0, 0 },
		{ 0, 0, 513 },
		{ 0, 511, 2 },
		{ 0, NR_PAGES - 1, 2 },
		{ 0, 0, UINT32_MAX },
	};
	struct fln_link_hello h = hello_of(0);

	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		share();
		(void)close(greet());
		ask(bad[i].id, bad[i].page, bad[i].nr_pages);
		share_ends(-EPROTO, NULL);
	}
	/* A second question under a number in use; a hello where a question is due. */
	atomic_store(&bed.maker.gate_closed, true);
	share();
	(void)close(greet());
	ask(3, 2000, 1);
	ask(3, 2100, 1);
	share_ends(-EPROTO, NULL);
	share();
	(void)close(greet());
	say(&h, sizeof(h), -1);
	share_ends(-EPROTO, NULL);
	/* Descriptors that nobody asked for do not pile up. */
	share();
	(void)close(greet());
	for (uint32_t i = 0; i < 100; i++) {
		struct fln_link_ask a = { .head = { FLN_LINK_MAGIC, FLN_LINK_ASK },
					  .id = i,
					  .nr_pages = 1,
					  .page = 2200 };

		say(&a, sizeof(a), theirs);
	}
	(void)shutdown(ours, SHUT_RDWR);
	share_ends(0, NULL);
	atomic_store(&bed.maker.gate_closed, false);
}

/* Bytes at random, with a head that is right now and then. */
static void random_asks(void)
{
	uint64_t random = now_ns();
	uint32_t fds = count_fds();

	test_note("seed %llu", (unsigned long long)random);
	for (uint32_t i = 0; i < test_scale(50, 300, 5000); i++) {
		uint64_t msg[8];

		share();
		(void)close(greet());
		for (uint32_t k = 0; k < 30; k++) {
			struct fln_link_ask *a = (void *)msg;

			for (uint32_t w = 0; w < 8; w++)
				msg[w] = next_random(&random);
			if (k % 4) {
				a->head.magic = FLN_LINK_MAGIC;
				a->head.kind = FLN_LINK_ASK;
				a->id %= k % 3 ? 100 : FLN_LINK_MAX_ASKS + 1;
				a->page %= NR_PAGES + 1;
				a->nr_pages %= 10;
			}
			if (fln_link_send(ours, msg, k % 5 ? sizeof(*a) : 1 + random % 64, -1,
					  false) != 0)
				break;
		}
		(void)shutdown(ours, SHUT_WR);
		wait_count(&share_ended, 1, WAIT_S, "fln_image_share() returns");
		(void)pthread_join(thread, NULL);
		CHECK(share_rc == 0 || share_rc == -EPROTO, "%d: %s", share_rc, share_said);
		drop_link();
	}
	CHECK(count_fds() == fds, "%u descriptors, before %u", count_fds(), fds);
}

/* One question, and the answer tells of all that is filled. */
static void few_messages(void)
{
	struct fln_link_news n;
	struct fln_image *image = bed.image;
	struct fln_image_opts o = bed.image_opts;

	/* All filled but the last page. */
	OK(fln_image_create(bed.engine, &o, &bed.image));
	OK(fln_image_fill(bed.image, 0, LEN - PAGE));
	share();
	(void)close(greet());
	ask(7, 5, 1);
	n = news();
	CHECK(n.id == 7 && n.done == 1 && n.block == 0 && n.nr_blocks == NR_PAGES / 512,
	      "id %u, done %u, block %llu, %llu blocks", n.id, n.done, (unsigned long long)n.block,
	      (unsigned long long)n.nr_blocks);
	CHECK(fln_mask_count(&n.filled) == 512, "%u pages filled", fln_mask_count(&n.filled));
	/* Ready ones come at once, the other one when it is there; under one number. */
	atomic_store(&bed.maker.gate_closed, true);
	ask(7, NR_PAGES - 3, 3);
	n = news();
	CHECK(n.id == 7 && n.done == 0 && fln_mask_count(&n.filled) == NR_PAGES % 512 - 1,
	      "done %u, %u pages", n.done, fln_mask_count(&n.filled));
	atomic_store(&bed.maker.gate_closed, false);
	n = news();
	CHECK(n.id == 7 && n.done == 1 && fln_mask_count(&n.filled) == NR_PAGES % 512,
	      "done %u, %u pages", n.done, fln_mask_count(&n.filled));
	(void)shutdown(ours, SHUT_RDWR);
	share_ends(0, NULL);
	OK(fln_image_destroy(bed.image));
	bed.image = image;
}

/* The attached side, before an owner that is none. */

static struct fln_image *attached;
static _Atomic uint32_t attach_ended;
static int attach_rc;
static char attach_said[256];

static void *attach_main(void *arg)
{
	(void)arg;
	attach_rc = fln_image_attach(bed.engine, theirs, "fake", &attached);
	(void)snprintf(attach_said, sizeof(attach_said), "%s", fln_last_error());
	atomic_store(&attach_ended, 1);
	return NULL;
}

static void attach_begins(void)
{
	struct fln_link_hello h;

	make_link();
	attached = (void *)0x1;
	atomic_store(&attach_ended, 0);
	CHECK(pthread_create(&thread, NULL, attach_main, NULL) == 0, "pthread_create");
	CHECK(recv(ours, &h, sizeof(h), 0) == (ssize_t)sizeof(h) &&
		      h.head.magic == FLN_LINK_MAGIC && h.head.kind == FLN_LINK_HELLO,
	      "no hello");
}

static void attach_ends(int want, const char *names)
{
	wait_count(&attach_ended, 1, WAIT_S, "fln_image_attach() returns");
	(void)pthread_join(thread, NULL);
	CHECK(attach_rc == want, "fln_image_attach() returned %d and not %d: %s", attach_rc, want,
	      attach_said);
	if (want == 0)
		return;
	CHECK(names_all(attach_said, names), "'%s' does not name '%s'", attach_said,
	      names ? names : "anything");
	CHECK(attached == (void *)0x1, "out was written");
	drop_link();
}

static void attach_fails(const struct fln_link_hello *h, size_t len, int fd, const char *names)
{
	attach_begins();
	say(h, len, fd);
	attach_ends(-EPROTO, names);
}

static int memfd_of(uint64_t len, unsigned int flags)
{
	int fd = memfd_create("fake", MFD_CLOEXEC | flags);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)len) == 0, "%s", strerror(errno));
	return fd;
}

static void fake_owners(void)
{
	int memfd = memfd_of(LEN, MFD_ALLOW_SEALING), loose = memfd_of(LEN, 0), readonly;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct fln_link_hello h = hello_of(LEN);
	uint32_t fds = count_fds();
	char path[64];

	attach_begins();
	(void)shutdown(ours, SHUT_RDWR);
	attach_ends(-EPROTO, NULL);
	attach_fails(&h, sizeof(h) - 1, memfd, NULL);
	attach_fails(&h, sizeof(h), -1, NULL);
	h.version = 77;
	attach_fails(&h, sizeof(h), memfd, "77");
	h = hello_of(0);
	attach_fails(&h, sizeof(h), memfd, NULL);
	h = hello_of(LEN + 1);
	attach_fails(&h, sizeof(h), memfd, NULL);
	h = hello_of(UINT64_MAX - PAGE + 1);
	attach_fails(&h, sizeof(h), memfd, NULL);
	h = hello_of(LEN);
	h.page_bytes = 3000;
	attach_fails(&h, sizeof(h), memfd, NULL);
	h = hello_of(LEN + PAGE);
	attach_fails(&h, sizeof(h), memfd, NULL);
	h = hello_of(LEN);
	attach_fails(&h, sizeof(h), null, "descriptor");
	attach_fails(&h, sizeof(h), loose, NULL);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	readonly = open(path, O_RDONLY | O_CLOEXEC);
	attach_fails(&h, sizeof(h), readonly, NULL);
	(void)close(readonly);
	CHECK(count_fds() == fds, "%u descriptors, before %u", count_fds(), fds);
	(void)close(memfd);
	(void)close(loose);
	(void)close(null);
}

/* Attached to a fake owner, which has answered the hello as it should. */
static int attach_to_fake(struct fln_guest **guest, uint8_t **mem)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_link_hello h = hello_of(LEN);
	int memfd = memfd_of(LEN, MFD_ALLOW_SEALING);
	struct fln_region *region;

	attach_begins();
	say(&h, sizeof(h), memfd);
	attach_ends(0, NULL);
	OK(fln_guest_create(bed.engine, &bed.guest_opts, guest));
	o.image = attached;
	o.len_bytes = LEN;
	OK(fln_region_add(*guest, &o, &region));
	OK(fln_guest_start(*guest));
	*mem = fln_region_addr(region);
	return memfd;
}

static struct fln_link_ask asked(void)
{
	struct fln_link_ask a;

	CHECK(recv(ours, &a, sizeof(a), 0) == (ssize_t)sizeof(a) && a.head.kind == FLN_LINK_ASK &&
		      a.nr_pages > 0 && a.nr_pages <= 512,
	      "no question");
	return a;
}

enum lie {
	LIE_SHORT,
	LIE_KIND,
	LIE_ID,
	LIE_UNUSED_ID,
	LIE_BLOCK,
	LIE_NO_BLOCKS,
	LIE_MANY_BLOCKS,
	LIE_ONE_BLOCK_TOO_MANY,
	LIE_DONE_TWICE,
	LIE_NOT_DONE,
	LIE_TWO_STATES,
	LIE_FAILED_AND_FILLED,
	LIE_BEYOND,
	NR_LIES
};

static void lie(enum lie what, const struct fln_link_ask *a)
{
	uint32_t lo = (uint32_t)(a->page % 512);
	struct fln_link_news n = { .head = { FLN_LINK_MAGIC, FLN_LINK_NEWS },
				   .id = a->id,
				   .done = 1,
				   .block = a->page / 512,
				   .nr_blocks = 1,
				   .filled = fln_mask_range(lo, lo + a->nr_pages) };
	size_t len = sizeof(n);

	switch (what) {
	case LIE_SHORT:
		len--;
		break;
	case LIE_KIND:
		n.head.kind = FLN_LINK_HELLO;
		break;
	case LIE_ID:
		n.id = UINT32_MAX;
		break;
	case LIE_UNUSED_ID:
		n.id = (a->id + 1) % FLN_LINK_MAX_ASKS;
		break;
	case LIE_BLOCK:
		n.block++;
		break;
	case LIE_NO_BLOCKS:
		n.nr_blocks = 0;
		break;
	case LIE_MANY_BLOCKS:
		n.nr_blocks = UINT64_MAX;
		break;
	case LIE_ONE_BLOCK_TOO_MANY:
		n.nr_blocks = (NR_PAGES + 511) / 512 - n.block + 1;
		break;
	case LIE_DONE_TWICE:
		n.done = 2;
		break;
	case LIE_NOT_DONE:
		fln_mask_clear(&n.filled, lo);
		break;
	case LIE_TWO_STATES:
		n.zero = n.filled;
		break;
	case LIE_FAILED_AND_FILLED:
		n.failed = n.filled;
		break;
	case LIE_BEYOND:
	default:
		n.filled = fln_mask_range(0, 512);
		break;
	}
	say(&n, len, -1);
}

/* Whatever the owner says that makes no sense: waiting threads get SIGBUS, and nothing is read. */
static void lying_owner(void)
{
	uint32_t fds = count_fds();

	for (uint32_t what = 0; what < NR_LIES; what++) {
		struct fln_guest *guest;
		struct fln_link_ask a;
		struct toucher t;
		uint64_t value;
		uint8_t *mem;
		int memfd = attach_to_fake(&guest, &mem);

		STEP("lie %u", what);
		toucher_read(&t, mem + (NR_PAGES - 1) * PAGE);
		a = asked();
		lie((enum lie)what, &a);
		toucher_expect(&t, TOUCH_SIGBUS, "the owner lies");
		CHECK(touch_read(mem, &value) == TOUCH_SIGBUS, "0x%llx", (unsigned long long)value);
		CHECK(log_names(&bed.log, FLN_LOG_ERROR, NULL), "nobody was told");
		OK(fln_guest_destroy(guest));
		OK(fln_image_destroy(attached));
		(void)close(memfd);
		drop_link();
	}
	CHECK(count_fds() == fds, "%u descriptors, before %u", count_fds(), fds);
}

/* An owner that does not read: questions wait in the socket, and then here; nobody blocks. */
static void deaf_owner(void)
{
	struct fln_guest *guest;
	struct toucher t[64];
	uint8_t *mem;
	int memfd, small = 1;
	static _Alignas(8) char buf[PAGE];

	memfd = attach_to_fake(&guest, &mem);
	(void)setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (uint32_t i = 0; i < 64; i++)
		toucher_read(&t[i], mem + 39 * (uint64_t)i * PAGE);
	toucher_expect_asleep(&t[63], 100, "nobody answers");
	/* Now it reads, and answers all. */
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		contents_of(1, page, buf);
		CHECK(pwrite(memfd, buf, PAGE, (off_t)(page * PAGE)) == (ssize_t)PAGE, "pwrite");
	}
	for (uint32_t nr = 0; nr < 39; nr++) {
		struct fln_link_ask a = asked();
		uint32_t lo = (uint32_t)(a.page % 512);
		struct fln_link_news n = { .head = { FLN_LINK_MAGIC, FLN_LINK_NEWS },
					   .id = a.id,
					   .done = 1,
					   .block = a.page / 512,
					   .nr_blocks = 1,
					   .filled = fln_mask_range(lo, lo + a.nr_pages) };

		say(&n, sizeof(n), -1);
	}
	for (uint32_t i = 0; i < 64; i++)
		toucher_expect_value(&t[i], word_of(1, 39 * (uint64_t)i, 0), "answered at last");
	OK(fln_guest_destroy(guest));
	OK(fln_image_destroy(attached));
	(void)close(memfd);
	drop_link();
}

static void answer_filled(const struct fln_link_ask *a, int memfd)
{
	uint32_t lo = (uint32_t)(a->page % 512);
	struct fln_link_news n = { .head = { FLN_LINK_MAGIC, FLN_LINK_NEWS },
				   .id = a->id,
				   .done = 1,
				   .block = a->page / 512,
				   .nr_blocks = 1,
				   .filled = fln_mask_range(lo, lo + a->nr_pages) };
	static _Alignas(8) char buf[PAGE];

	for (uint64_t page = a->page; page < a->page + a->nr_pages; page++) {
		contents_of(1, page, buf);
		CHECK(pwrite(memfd, buf, PAGE, (off_t)(page * PAGE)) == (ssize_t)PAGE, "pwrite");
	}
	say(&n, sizeof(n), -1);
}

/* The kernel has no memory for a question: it is sent when there is some again. */
static void no_memory_to_ask(void)
{
	static const int errors[] = { ENOBUFS, ENOMEM };

	for (uint32_t i = 0; i < 2; i++) {
		struct fln_guest *guest;
		struct fln_link_ask a;
		struct toucher t;
		uint8_t *mem;
		int memfd = attach_to_fake(&guest, &mem);

		STEP("%s", strerror(errors[i]));
		atomic_store(&refused_errno, errors[i]);
		atomic_store(&nr_refused, 5);
		toucher_read(&t, mem + 77 * PAGE);
		a = asked();
		CHECK(atomic_load(&nr_refused) <= 0, "%d refusals left", atomic_load(&nr_refused));
		answer_filled(&a, memfd);
		toucher_expect_value(&t, word_of(1, 77, 0), "answered at last");
		OK(fln_guest_destroy(guest));
		OK(fln_image_destroy(attached));
		(void)close(memfd);
		drop_link();
	}
}

/* The last of all questions that there can be is sent later like any other. */
static void no_memory_for_the_last(void)
{
	static struct fln_fill *taken[FLN_LINK_MAX_ASKS - 1];
	struct fln_guest *guest;
	struct fln_link_ask a;
	struct toucher t;
	uint8_t *mem;
	int memfd = attach_to_fake(&guest, &mem);

	for (uint32_t i = 0; i < FLN_LINK_MAX_ASKS - 1; i++) {
		taken[i] = fln_link_alloc(attached->link, FLN_NO_WAITER, false);
		CHECK(taken[i], "question %u is taken", i);
	}
	atomic_store(&refused_errno, ENOBUFS);
	atomic_store(&nr_refused, 1);
	toucher_read(&t, mem + 77 * PAGE);
	a = asked();
	CHECK(a.id == FLN_LINK_MAX_ASKS - 1, "it is question %u", a.id);
	answer_filled(&a, memfd);
	toucher_expect_value(&t, word_of(1, 77, 0), "answered at last");
	for (uint32_t i = 0; i < FLN_LINK_MAX_ASKS - 1; i++)
		fln_link_free(attached->link, taken[i]);
	OK(fln_guest_destroy(guest));
	OK(fln_image_destroy(attached));
	(void)close(memfd);
	drop_link();
}

/* A question that can never be sent fails, as all others, and nobody waits for its answer. */
static void no_way_to_ask(void)
{
	struct fln_guest *guest;
	struct toucher t;
	uint8_t *mem;
	int memfd = attach_to_fake(&guest, &mem);

	atomic_store(&refused_errno, EPERM);
	atomic_store(&nr_refused, 1);
	toucher_read(&t, mem + 77 * PAGE);
	toucher_expect(&t, TOUCH_SIGBUS, "it cannot be asked for");
	OK(fln_guest_destroy(guest));
	OK(fln_image_destroy(attached));
	(void)close(memfd);
	drop_link();
}

/* Ten seconds, and no longer. */
static void silent_owner(void)
{
	uint64_t t0 = now_ns();

	if (test_scale(0, 1, 1) == 0)
		return;
	attach_begins();
	attach_ends(-ETIMEDOUT, "fln_image_share()");
	CHECK(now_ns() - t0 >= 9 * 1000 * MS, "it has not waited");
}

int main(void)
{
	test_init();
	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	RUN(bad_sockets);
	RUN(greetings);
	RUN(bad_asks);
	RUN(random_asks);
	RUN(few_messages);
	RUN(fake_owners);
	RUN(lying_owner);
	RUN(deaf_owner);
	RUN(no_memory_to_ask);
	RUN(no_memory_for_the_last);
	RUN(no_way_to_ask);
	RUN(silent_owner);
	read_all(&bed, 8);
	bed_down(&bed);
	return 0;
}
