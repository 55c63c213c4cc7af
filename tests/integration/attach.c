/* SPDX-License-Identifier: MIT */
/*
 * One image, two processes: fln_image_share() and fln_image_attach().
 *
 * The other process is this program again, started anew, with one end of the link
 * and a socket on which the two tell each other how far they are.
 */
#include "tests/integration/harness.h"
#include "tests/support/hugepages.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 2500u
#define LEN (NR_PAGES * PAGE)
#define HALF 1024u
#define NR_THREADS 64u

static struct bed bed;

/* The two processes. */

struct other {
	pid_t pid;
	int link, talk;
};

static const char *program;

static void start_other(struct other *o, const char *role)
{
	int link[2], talk[2];
	char fds[2][16];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) == 0 &&
		      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk) == 0,
	      "socketpair: %s", strerror(errno));
	(void)snprintf(fds[0], sizeof(fds[0]), "%d", link[1]);
	(void)snprintf(fds[1], sizeof(fds[1]), "%d", talk[1]);
	(void)fflush(stdout);
	o->pid = fork();
	CHECK(o->pid >= 0, "fork: %s", strerror(errno));
	if (o->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)fcntl(link[1], F_SETFD, 0);
		(void)fcntl(talk[1], F_SETFD, 0);
		(void)execl(program, program, role, fds[0], fds[1], (char *)NULL);
		_exit(127);
	}
	(void)close(link[1]);
	(void)close(talk[1]);
	o->link = link[0];
	o->talk = talk[0];
}

static void tell(int talk, char what)
{
	CHECK(send(talk, &what, 1, MSG_NOSIGNAL) == 1, "telling '%c': %s", what, strerror(errno));
}

static void await(int talk, char what)
{
	struct pollfd p = { .fd = talk, .events = POLLIN };
	char got = 0;

	CHECK(poll(&p, 1, (int)(4 * WAIT_S * 1000)) == 1, "the other process has not told '%c'",
	      what);
	CHECK(recv(talk, &got, 1, 0) == 1 && got == what, "'%c' instead of '%c'", got ? got : '0',
	      what);
}

static void end_other(struct other *o, int want_signal)
{
	int status = 0;

	STEP("the end of the other process");
	CHECK(waitpid(o->pid, &status, 0) == o->pid, "waitpid: %s", strerror(errno));
	if (want_signal)
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == want_signal, "status 0x%x",
		      (unsigned int)status);
	else
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status 0x%x",
		      (unsigned int)status);
	(void)close(o->link);
	(void)close(o->talk);
}

/* The owner's thread that shares. */

struct sharing {
	pthread_t thread;
	struct fln_image *image;
	int fd, rc;
	_Atomic uint32_t ended;
};

static void *share_main(void *arg)
{
	struct sharing *s = arg;

	s->rc = fln_image_share(s->image, s->fd);
	atomic_store(&s->ended, 1);
	return NULL;
}

static void share(struct sharing *s, struct fln_image *image, int fd)
{
	s->image = image;
	s->fd = fd;
	atomic_store(&s->ended, 0);
	CHECK(pthread_create(&s->thread, NULL, share_main, s) == 0, "pthread_create");
}

static void share_ends(struct sharing *s, int want)
{
	STEP("fln_image_share returns");
	wait_count(&s->ended, 1, WAIT_S, "fln_image_share() returns");
	(void)pthread_join(s->thread, NULL);
	CHECK(s->rc == want, "fln_image_share() returned %d", s->rc);
}

/* A bed whose image is attached. */
static void attach(int link)
{
	struct stat st;

	bed_init(&bed, NR_PAGES);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	STEP("fln_image_attach");
	OK(fln_image_attach(bed.engine, link, NULL, &bed.image));
	(void)close(link); /* it has its own */
	CHECK(fstat(fln_image_memfd(bed.image), &st) == 0, "fstat: %s", strerror(errno));
	bed.nr_pages = (uint64_t)st.st_size / PAGE;
	bed.region_opts.len_bytes = (uint64_t)st.st_size;
	bed_up(&bed);
}

static void own(void)
{
	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
}

static void expect_value(uint64_t page, uint64_t want, const char *what)
{
	struct toucher t;

	toucher_read(&t, bed_page(&bed, page));
	toucher_expect_value(&t, want, what);
}

/* Every page as it is due here, and what each writes is seen by the other. */

#define WORD_OF(b, page, word) ((uint64_t *)(void *)(bed_page(b, page) + 8 * (uint64_t)(word)))

static void reads_and_writes_there(int link, int talk)
{
	attach(link);
	tell(talk, 'a');
	await(talk, 'g');
	read_all(&bed, NR_THREADS);
	tell(talk, 'r');
	await(talk, 'w');
	for (uint64_t page = 0; page < NR_PAGES; page += 3)
		CHECK(*WORD_OF(&bed, page, 7) == page + 1, "page %llu: what was written there",
		      (unsigned long long)page);
	for (uint64_t page = 0; page < NR_PAGES; page += 5)
		*WORD_OF(&bed, page, 9) = page + 2;
	tell(talk, 'w');
	await(talk, 'q');
	bed_down(&bed);
}

static void reads_and_writes(void)
{
	struct other o[2];
	struct sharing s[2];

	own();
	for (int i = 0; i < 2; i++) {
		start_other(&o[i], "reads_and_writes");
		share(&s[i], bed.image, o[i].link);
		await(o[i].talk, 'a');
	}
	REFUSED(fln_image_destroy(bed.image), -EBUSY, "3"); /* and its region */
	tell(o[0].talk, 'g');
	tell(o[1].talk, 'g');
	read_all(&bed, NR_THREADS);
	await(o[0].talk, 'r');
	await(o[1].talk, 'r');
	for (uint64_t page = 0; page < NR_PAGES; page += 3)
		*WORD_OF(&bed, page, 7) = page + 1;
	for (int i = 0; i < 2; i++) {
		tell(o[i].talk, 'w');
		await(o[i].talk, 'w');
		for (uint64_t page = 0; page < NR_PAGES; page += 5) {
			CHECK(*WORD_OF(&bed, page, 9) == page + 2, "page %llu",
			      (unsigned long long)page);
			*WORD_OF(&bed, page, 9) = 0;
		}
	}
	for (int i = 0; i < 2; i++) {
		tell(o[i].talk, 'q');
		share_ends(&s[i], 0);
		end_other(&o[i], 0);
	}
	bed_down(&bed);
}

/* A source with holes: zeros in both, wherever they are touched first. */

static void holes_there(int link, int talk)
{
	uint64_t value;

	attach(link);
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		CHECK(touch_read(bed_page(&bed, page), &value) == TOUCH_OK &&
			      value == (page % 5 == 4 ? 0 : word_of(1, page, 0)),
		      "page %llu reads 0x%llx", (unsigned long long)page,
		      (unsigned long long)value);
	}
	for (uint64_t page = 4; page < NR_PAGES; page += 10)
		*WORD_OF(&bed, page, 1) = page;
	bed_down(&bed);
	tell(talk, 'r');
}

static void holes(void)
{
	struct other o;
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	bed.maker.every_zero = 5;
	bed_up(&bed);
	start_other(&o, "holes");
	share(&s, bed.image, o.link);
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	for (uint64_t page = 4; page < NR_PAGES; page += 5)
		CHECK(*WORD_OF(&bed, page, 0) == 0 &&
			      *WORD_OF(&bed, page, 1) == (page % 10 == 4 ? page : 0),
		      "page %llu", (unsigned long long)page);
	bed_down(&bed);
}

/* Wholly filled: nothing has to be asked for at all. */

static void filled_there(int link, int talk)
{
	struct fln_stats s;

	attach(link);
	CHECK(fln_image_filled_bytes(bed.image) == LEN, "%llu bytes are filled",
	      (unsigned long long)fln_image_filled_bytes(bed.image));
	read_all(&bed, NR_THREADS);
	settled_stats(bed.guest, &s);
	CHECK(s.major == 0, "%llu faults had to wait", (unsigned long long)s.major);
	bed_down(&bed);
	tell(talk, 'r');
}

static void filled(void)
{
	struct other o;
	struct sharing s;

	own();
	OK(fln_image_fill(bed.image, 0, LEN));
	start_other(&o, "filled");
	share(&s, bed.image, o.link);
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* What is ready is not held up by what is not. */

static void slow_there(int link, int talk)
{
	struct toucher late[40];
	bool right;

	attach(link);
	for (uint32_t i = 0; i < 40; i++)
		toucher_read(&late[i], bed_page(&bed, HALF + 36 * (uint64_t)i));
	toucher_expect_asleep(&late[39], 50, "the source is held back");
	STEP("reading what is there");
	for (uint64_t page = 0; page < HALF; page++)
		CHECK(touch_page(bed_page(&bed, page), 1, page, &right) == TOUCH_OK && right,
		      "page %llu", (unsigned long long)page);
	toucher_expect_asleep(&late[0], 1, "the source is held back still");
	tell(talk, 'h');
	for (uint32_t i = 0; i < 40; i++)
		toucher_expect_value(&late[i], word_of(1, HALF + 36 * (uint64_t)i, 0),
				     "the source delivers");
	read_all(&bed, 8);
	bed_down(&bed);
	tell(talk, 'r');
}

static void slow(void)
{
	struct other o;
	struct sharing s;

	own();
	OK(fln_image_fill(bed.image, 0, HALF * PAGE));
	atomic_store(&bed.maker.gate_closed, true);
	start_other(&o, "slow");
	share(&s, bed.image, o.link);
	await(o.talk, 'h');
	atomic_store(&bed.maker.gate_closed, false);
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* A source that fails: those pages are unreadable in both, and no others. */

static void failing_there(int link, int talk)
{
	uint64_t value;

	attach(link);
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		bool bad = page >= 700 && page < 703;
		enum touch end = touch_read(bed_page(&bed, page), &value);

		CHECK(end == (bad ? TOUCH_SIGBUS : TOUCH_OK), "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
		CHECK(bad || value == word_of(1, page, 0), "page %llu", (unsigned long long)page);
	}
	REFUSED(fln_image_fill(bed.image, 0, LEN), -EIO, "700");
	tell(talk, 'f');
	await(talk, 'p');
	/* The owner has them by now: a process that asks again is told. */
	OK(fln_image_fill(bed.image, 0, LEN));
	CHECK(fln_image_filled_bytes(bed.image) == LEN, "not all is filled");
	bed_down(&bed);
	tell(talk, 'r');
}

static void failing(void)
{
	struct fln_source_error_opts e = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *made;
	static _Alignas(8) char buf[3 * PAGE];
	struct other o;
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.source_retries = 1;
	maker_source(&bed.maker, &made);
	e.offset_bytes = 700 * PAGE;
	e.len_bytes = 3 * PAGE;
	e.error = EIO;
	OK(fln_source_with_errors(made, &e, &bed.source));
	fln_source_destroy(made);
	bed.image_opts.source = bed.source;
	bed_up(&bed);
	start_other(&o, "failing");
	share(&s, bed.image, o.link);
	await(o.talk, 'f');
	for (uint64_t i = 0; i < 3; i++)
		contents_of(1, 700 + i, buf + i * PAGE);
	OK(fln_image_put(bed.image, 700 * PAGE, buf, sizeof(buf)));
	tell(o.talk, 'p');
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* A source that fails for a while: asking anew makes the owner read anew. */

static void failing_once_there(int link, int talk)
{
	uint64_t value;

	attach(link);
	CHECK(touch_read(bed_page(&bed, 700), &value) == TOUCH_SIGBUS, "the source fails");
	expect_value(701, word_of(1, 701, 0), "its neighbour");
	OK(fln_image_fill(bed.image, 700 * PAGE, PAGE));
	tell(talk, 'f');
	await(talk, 'q');
	bed_down(&bed);
}

static void failing_once(void)
{
	struct fln_source_error_opts e = FLN_SOURCE_ERROR_OPTS_INIT;
	struct fln_source *made;
	struct other o;
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.source_retries = 1;
	bed.engine_opts.fill_pages = 1;
	maker_source(&bed.maker, &made);
	e.offset_bytes = 700 * PAGE;
	e.len_bytes = PAGE;
	e.error = EIO;
	e.nr_failures = 2; /* the first read and its retry */
	OK(fln_source_with_errors(made, &e, &bed.source));
	fln_source_destroy(made);
	bed.image_opts.source = bed.source;
	bed_up(&bed);
	start_other(&o, "failing_once");
	share(&s, bed.image, o.link);
	await(o.talk, 'f');
	expect_value(700, word_of(1, 700, 0), "read anew, for the other process");
	tell(o.talk, 'q');
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* An image that is pushed: the other process waits until it comes, however long. */

static void pushed_there(int link, int talk)
{
	struct toucher t[20];

	attach(link);
	for (uint32_t i = 0; i < 20; i++)
		toucher_read(&t[i], bed_page(&bed, 125 * (uint64_t)i));
	toucher_expect_asleep(&t[0], 50, "nothing was pushed");
	tell(talk, 'h');
	/* From the end, page by page. */
	for (uint32_t i = 20; i-- > 0;)
		toucher_expect_value(&t[i], word_of(1, 125 * (uint64_t)i, 0), "pushed");
	read_all(&bed, 8);
	bed_down(&bed);
	tell(talk, 'r');
}

static void pushed(void)
{
	static _Alignas(8) char buf[PAGE];
	struct other o;
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	OK(fln_image_create(bed.engine, &bed.image_opts, &bed.image));
	bed_up(&bed);
	start_other(&o, "pushed");
	share(&s, bed.image, o.link);
	await(o.talk, 'h');
	for (uint64_t page = NR_PAGES; page-- > 0;) {
		contents_of(1, page, buf);
		OK(fln_image_put(bed.image, page * PAGE, buf, PAGE));
	}
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* What is given up, by which process, and what then is due. */

static void discards_there(int link, int talk)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *r;
	static char buf[PAGE];

	attach(link);
	o.image = bed.image;
	o.len_bytes = LEN;
	o.discard = FLN_DISCARD_ZERO;
	REFUSED(fln_region_add(bed.guest, &o, &r), -EOPNOTSUPP, "FLN_DISCARD_IMAGE");
	REFUSED(fln_image_put(bed.image, 0, buf, PAGE), -EOPNOTSUPP, "fln_image_put");
	REFUSED(fln_image_discard(bed.image, 0, PAGE), -EOPNOTSUPP, "fln_image_discard");
	REFUSED(fln_image_share(bed.image, talk), -EOPNOTSUPP, "fln_image_share");
	expect_value(10, word_of(1, 10, 0), "before it is given up there");
	expect_value(20, word_of(1, 20, 0), "before it is given up here");
	tell(talk, 'd');
	await(talk, 'd');
	/* Mapped here, and never touched here; the owner gave up both. */
	expect_value(10, 0, "given up there, mapped here");
	expect_value(1500, 0, "given up there, never touched here");
	/* Filled pages are the page cache's to forget; for others the image is due. */
	CHECK(madvise(bed_page(&bed, 20), PAGE, MADV_REMOVE) == 0, "%s", strerror(errno));
	expect_value(20, 0, "given up here");
	CHECK(madvise(bed_page(&bed, 2000), PAGE, MADV_DONTNEED) == 0, "%s", strerror(errno));
	CHECK(madvise(bed_page(&bed, 2001), PAGE, MADV_REMOVE) == 0, "%s", strerror(errno));
	expect_value(2000, word_of(1, 2000, 0), "not filled when it was given up here");
	expect_value(2001, word_of(1, 2001, 0), "not filled when it was given up here");
	tell(talk, 'r');
	await(talk, 'q');
	bed_down(&bed);
}

static void discards(void)
{
	struct other o;
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	bed.engine_opts.fill_pages = 1;
	bed_up(&bed);
	start_other(&o, "discards");
	share(&s, bed.image, o.link);
	await(o.talk, 'd');
	OK(fln_image_discard(bed.image, 10 * PAGE, PAGE));
	OK(fln_image_discard(bed.image, 1500 * PAGE, PAGE));
	tell(o.talk, 'd');
	await(o.talk, 'r');
	expect_value(20, 0, "given up there");
	expect_value(10, 0, "given up here");
	expect_value(2001, word_of(1, 2001, 0), "given up there, when it was not filled");
	tell(o.talk, 'q');
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* The owner is killed. */

static void owner_dies_there(int link, int talk)
{
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	OK(fln_image_fill(bed.image, 0, HALF * PAGE));
	atomic_store(&bed.maker.gate_closed, true);
	share(&s, bed.image, link);
	await(talk, 'k');
	tell(talk, 'k');
	for (;;)
		(void)pause();
}

static void owner_dies(void)
{
	struct toucher held;
	uint64_t value;
	struct other o;
	bool right;

	start_other(&o, "owner_dies");
	attach(o.link);
	o.link = -1;
	/* Some of it is mapped, some known, some not even that. */
	CHECK(touch_page(bed_page(&bed, 5), 1, 5, &right) == TOUCH_OK && right, "page 5");
	toucher_read(&held, bed_page(&bed, HALF + 50));
	toucher_expect_asleep(&held, 50, "the source is held back");
	tell(o.talk, 'k');
	await(o.talk, 'k');
	CHECK(kill(o.pid, SIGKILL) == 0, "kill: %s", strerror(errno));
	end_other(&o, SIGKILL);
	toucher_expect(&held, TOUCH_SIGBUS, "no process is left that could fill it");
	for (uint64_t page = 0; page < 512; page++)
		CHECK(touch_page(bed_page(&bed, page), 1, page, &right) == TOUCH_OK && right,
		      "page %llu, which is known to be filled", (unsigned long long)page);
	for (uint64_t page = HALF; page < NR_PAGES; page++) {
		enum touch end = touch_read(bed_page(&bed, page), &value);

		CHECK(end == TOUCH_SIGBUS, "page %llu: the thread %s (0x%llx)",
		      (unsigned long long)page, touch_name(end), (unsigned long long)value);
	}
	REFUSED(fln_image_fill(bed.image, HALF * PAGE, PAGE), -EIO, "1024");
	CHECK(log_names(&bed.log, FLN_LOG_WARNING, NULL), "nobody was told");
	bed_down(&bed);
}

/* The attached process is killed, with questions on their way. */

static void attached_dies_there(int link, int talk)
{
	struct toucher t[8];

	attach(link);
	for (uint32_t i = 0; i < 8; i++)
		toucher_read(&t[i], bed_page(&bed, 300 * (uint64_t)i));
	toucher_expect_asleep(&t[7], 50, "the source is held back");
	tell(talk, 'k');
	for (;;)
		(void)pause();
}

static void attached_dies(void)
{
	uint32_t fds;
	struct other o;
	struct sharing s;

	own();
	atomic_store(&bed.maker.gate_closed, true);
	fds = count_fds();
	for (int i = 0; i < 3; i++) {
		start_other(&o, "attached_dies");
		share(&s, bed.image, o.link);
		await(o.talk, 'k');
		CHECK(kill(o.pid, SIGKILL) == 0, "kill: %s", strerror(errno));
		share_ends(&s, 0);
		end_other(&o, SIGKILL);
	}
	CHECK(count_fds() == fds, "%u descriptors, before %u", count_fds(), fds);
	atomic_store(&bed.maker.gate_closed, false);
	read_all(&bed, 8);
	bed_down(&bed);
}

/* The owner ends it in good order: by shutting its socket down. */

static void owner_ends_there(int link, int talk)
{
	uint64_t value;

	attach(link);
	expect_value(3, word_of(1, 3, 0), "before the end");
	tell(talk, 'a');
	await(talk, 'e');
	STEP("after the end");
	wait_log(&bed.log, FLN_LOG_WARNING, NULL);
	expect_value(3, word_of(1, 3, 0), "after the end");
	CHECK(touch_read(bed_page(&bed, 2400), &value) == TOUCH_SIGBUS, "0x%llx",
	      (unsigned long long)value);
	bed_down(&bed);
	tell(talk, 'r');
}

static void owner_ends(void)
{
	struct other o;
	struct sharing s;

	own();
	start_other(&o, "owner_ends");
	share(&s, bed.image, o.link);
	await(o.talk, 'a');
	CHECK(shutdown(o.link, SHUT_RDWR) == 0, "shutdown: %s", strerror(errno));
	share_ends(&s, 0);
	tell(o.talk, 'e');
	await(o.talk, 'r');
	end_other(&o, 0);
	bed_down(&bed);
}

/* Threads of the attached process that resolve their own faults, beside queued ones. */

static void resolver(void *arg, uint32_t index)
{
	const uint8_t *mem = arg;

	OK(fln_thread_enter());
	for (uint64_t page = index; page < NR_PAGES; page += NR_THREADS) {
		bool right = false;
		enum touch end = touch_page(mem + page * PAGE, 1, page, &right);

		CHECK(end == TOUCH_OK && right, "page %llu: the thread %s",
		      (unsigned long long)page, touch_name(end));
	}
	fln_thread_leave();
}

static void in_context_there(int link, int talk)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region = NULL;
	struct crew crew;
	int rc;

	OK(fln_sigbus_install());
	attach(link);
	o.image = bed.image;
	o.len_bytes = LEN;
	o.delivery = FLN_DELIVERY_IN_CONTEXT;
	rc = fln_region_add(bed.guest, &o, &region);
	if (rc == -EOPNOTSUPP) {
		test_note("without in-context regions: %s", fln_last_error());
	} else {
		OK(rc);
		crew_start(&crew, NR_THREADS, resolver, fln_region_addr(region));
		read_all(&bed, NR_THREADS);
		crew_wait(&crew, 60, "threads that resolve their own faults");
	}
	bed_down(&bed);
	tell(talk, 'r');
}

static void in_context(void)
{
	struct other o;
	struct sharing s;

	bed_init(&bed, NR_PAGES);
	bed.maker.delay_ns = MS;
	bed_up(&bed);
	start_other(&o, "in_context");
	share(&s, bed.image, o.link);
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	read_all(&bed, 8);
	bed_down(&bed);
}

/* A private guest of an attached image: its writes and discards are its own. */

static void private_there(int link, int talk)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	struct toucher t;
	uint8_t *mem;

	attach(link);
	o.image = bed.image;
	o.len_bytes = LEN;
	o.sharing = FLN_SHARING_PRIVATE;
	o.discard = FLN_DISCARD_ZERO;
	OK(fln_region_add(bed.guest, &o, &region));
	mem = fln_region_addr(region);
	for (uint64_t page = 0; page < NR_PAGES; page += 7) {
		toucher_write(&t, mem + page * PAGE, page);
		toucher_expect(&t, TOUCH_OK, "a private write");
	}
	CHECK(madvise(mem + 14 * PAGE, PAGE, MADV_DONTNEED) == 0, "%s", strerror(errno));
	CHECK(madvise(mem + 15 * PAGE, PAGE, MADV_DONTNEED) == 0, "%s", strerror(errno));
	toucher_read(&t, mem + 14 * PAGE);
	toucher_expect_value(&t, 0, "written, and given up");
	toucher_read(&t, mem + 15 * PAGE);
	toucher_expect_value(&t, 0, "given up");
	for (uint64_t page = 0; page < NR_PAGES; page += 7) {
		uint64_t want = page == 14 ? 0 : page;

		toucher_read(&t, mem + page * PAGE);
		toucher_expect_value(&t, want, "what was written");
	}
	read_all(&bed, 8); /* the shared one */
	bed_down(&bed);
	tell(talk, 'r');
}

static void private_guest(void)
{
	struct other o;
	struct sharing s;

	own();
	start_other(&o, "private");
	share(&s, bed.image, o.link);
	await(o.talk, 'r');
	share_ends(&s, 0);
	end_other(&o, 0);
	read_all(&bed, 8);
	bed_down(&bed);
}

/* Huge pages: whole ones are asked for, in either process first. */

#define HUGE_BLOCKS 4u

static const char *no_huge_pages; /* why there are none, or NULL */

static void huge_there(int link, int talk)
{
	attach(link);
	await(talk, 'g');
	read_all(&bed, NR_THREADS);
	tell(talk, 'r');
	/* Not before the owner has read all of it, too: it compares whole pages. */
	await(talk, 'w');
	for (uint64_t page = 0; page < bed.nr_pages; page += 100)
		*WORD_OF(&bed, page, 3) = page + 5;
	bed_down(&bed);
	tell(talk, 'w');
}

static void huge(void)
{
	struct other o;
	struct sharing s;

	if (no_huge_pages) {
		test_note("left out: %s", no_huge_pages);
		return;
	}
	bed_init(&bed, HUGE_BLOCKS * (BLOCK / PAGE));
	bed.image_opts.page_bytes = (uint32_t)BLOCK;
	bed_up(&bed);
	start_other(&o, "huge");
	share(&s, bed.image, o.link);
	tell(o.talk, 'g');
	read_all(&bed, NR_THREADS);
	await(o.talk, 'r');
	tell(o.talk, 'w');
	await(o.talk, 'w');
	for (uint64_t page = 0; page < bed.nr_pages; page += 100)
		CHECK(*WORD_OF(&bed, page, 3) == page + 5, "page %llu", (unsigned long long)page);
	share_ends(&s, 0);
	end_other(&o, 0);
	bed_down(&bed);
}

/* Attached and let go of again and again, in one process, leaves nothing behind. */
static void again_and_again(void)
{
	struct fln_image *image;
	uint32_t fds = 0, maps = 0;
	struct sharing s;
	int link[2];

	own();
	for (uint32_t i = 0; i < test_scale(20, 60, 400); i++) {
		CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) == 0, "%s",
		      strerror(errno));
		share(&s, bed.image, link[0]);
		OK(fln_image_attach(bed.engine, link[1], "second", &image));
		OK(fln_image_fill(image, (uint64_t)i * PAGE, 600 * PAGE));
		OK(fln_image_destroy(image));
		(void)close(link[1]);
		share_ends(&s, 0);
		(void)close(link[0]);
		if (i == 10) {
			fds = count_fds();
			maps = count_maps();
		}
	}
	CHECK(count_fds() == fds, "%u descriptors, before %u", count_fds(), fds);
	if (!TEST_ASAN && !TEST_TSAN)
		CHECK(count_maps() <= maps + 4, "%u mappings, before %u", count_maps(), maps);
	bed_down(&bed);
}

static const struct {
	const char *name;
	void (*fn)(int link, int talk);
} roles[] = {
	{ "reads_and_writes", reads_and_writes_there },
	{ "holes", holes_there },
	{ "filled", filled_there },
	{ "slow", slow_there },
	{ "failing", failing_there },
	{ "failing_once", failing_once_there },
	{ "pushed", pushed_there },
	{ "discards", discards_there },
	{ "owner_dies", owner_dies_there },
	{ "attached_dies", attached_dies_there },
	{ "owner_ends", owner_ends_there },
	{ "in_context", in_context_there },
	{ "private", private_there },
	{ "huge", huge_there },
};

static int play(const char *role, int link, int talk)
{
	for (uint32_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (strcmp(role, roles[i].name) == 0) {
			(void)alarm(110 * (TEST_TSAN || TEST_ASAN ? 4 : 1));
			roles[i].fn(link, talk);
			return 0;
		}
	}
	return 2;
}

int main(int argc, char **argv)
{
	program = "/proc/self/exe";
	if (argc == 1)
		no_huge_pages = hugepages_take(HUGE_BLOCKS);
	test_init();
	if (argc == 4)
		return play(argv[1], atoi(argv[2]), atoi(argv[3]));
	RUN(reads_and_writes);
	RUN(holes);
	RUN(filled);
	RUN(slow);
	RUN(failing);
	RUN(failing_once);
	RUN(pushed);
	RUN(discards);
	RUN(owner_dies);
	RUN(attached_dies);
	RUN(owner_ends);
	RUN(in_context);
	RUN(private_guest);
	RUN(huge);
	RUN(again_and_again);
	return 0;
}
