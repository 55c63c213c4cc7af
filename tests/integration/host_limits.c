/* SPDX-License-Identifier: MIT */
/*
 * What the host's process survives: a limit of file sizes, memory whose file was made
 * shorter, a file system that is full, seals.  Each case is a process of its own.
 */
#include "sources/link_message.h"
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define NR_PAGES 4096u
#define LEN (NR_PAGES * PAGE)
#define FAR 3000u /* a page beyond the limits below */
/* Another one, which no fill for that covers: fln_image_fill() leaves out what others fill. */
#define FAR_TOO (FAR + 200u)
#define LIMIT (LEN / 2)

static struct bed bed;

static void in_child(void (*fn)(void))
{
	pid_t pid = fork();
	int status = 0;

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		test_init(); /* here: a process that has had an engine forks none that may */
		fn();
		(void)fflush(NULL);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	CHECK(!WIFSIGNALED(status), "the process was killed by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) == 77)
		exit(77);
	CHECK(WEXITSTATUS(status) == 0, "exit code %d", WEXITSTATUS(status));
}

static void limit_files(uint64_t bytes)
{
	struct rlimit limit;

	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0, "getrlimit: %s", strerror(errno));
	limit.rlim_cur = bytes;
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit: %s", strerror(errno));
}

static int make_memfd(unsigned int flags, uint64_t len)
{
	int fd = memfd_create("host-limits", MFD_CLOEXEC | flags);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)len) == 0, "memfd: %s", strerror(errno));
	return fd;
}

/* The image's source: the bed makes none for a memfd that is adopted. */
static void with_source(void)
{
	if (!bed.source)
		maker_source(&bed.maker, &bed.source);
	bed.image_opts.source = bed.source;
}

/* An image that is adopted, before the limit is there that it is longer than. */
static void adopted_up(const struct fln_thread_hooks *hooks)
{
	bed_init(&bed, NR_PAGES);
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT;
	bed.image_opts.memfd = make_memfd(MFD_ALLOW_SEALING, LEN);
	bed.engine_opts.thread_hooks = hooks;
	limit_files(LIMIT);
	with_source();
	bed_up(&bed);
}

static void expect(uint64_t page, enum touch end)
{
	uint64_t value = 0;

	CHECK(touch_read(bed_page(&bed, page), &value) == end, "page %llu",
	      (unsigned long long)page);
	CHECK(end != TOUCH_OK || value == word_of(bed.maker.salt, page, 0), "page %llu: 0x%llx",
	      (unsigned long long)page, (unsigned long long)value);
}

static void create_beyond_the_limit(void)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	struct fln_image *image;
	uint64_t features;

	limit_files(PAGE);
	bed_init(&bed, NR_PAGES);
	OK(fln_query_features(test_engine_flags(), &features));
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	o.len_bytes = LEN;
	REFUSED(fln_image_create(bed.engine, &o, &image), -EFBIG, "RLIMIT_FSIZE");
	OK(fln_engine_destroy(bed.engine));
}

static void fill_beyond_the_limit(void)
{
	static _Alignas(8) char buf[PAGE];

	adopted_up(NULL);
	expect(1, TOUCH_OK);
	expect(FAR, TOUCH_SIGBUS);
	REFUSED(fln_image_put(bed.image, (FAR + 1) * PAGE, buf, PAGE), -EFBIG, "RLIMIT_FSIZE");
	REFUSED(fln_image_fill(bed.image, FAR_TOO * PAGE, PAGE), -EFBIG, "RLIMIT_FSIZE");
	limit_files(LEN);
	OK(fln_image_fill(bed.image, FAR_TOO * PAGE, PAGE));
	expect(FAR_TOO, TOUCH_OK);
	bed_down(&bed);
}

/* Threads that are lent go back with their own mask: nothing may be pending for them then. */
struct lent {
	pthread_t thread;
	void *(*main)(void *);
	void *arg;
};

static void *lent_main(void *arg)
{
	const struct lent *l = arg;
	sigset_t none;

	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
	(void)l->main(l->arg);
	(void)sched_yield(); /* what is pending comes now */
	return NULL;
}

static int lend(void *ctx, enum fln_thread_kind kind, uint32_t index, void *(*run)(void *),
		void *arg, void **handle)
{
	struct lent *l = calloc(1, sizeof(*l));

	(void)ctx;
	(void)kind;
	(void)index;
	l->main = run;
	l->arg = arg;
	*handle = l;
	return -pthread_create(&l->thread, NULL, lent_main, l);
}

static void take_back(void *ctx, void *handle)
{
	struct lent *l = handle;

	(void)ctx;
	(void)pthread_join(l->thread, NULL);
	free(l);
}

/* A source whose reads raise what a write to a closed pipe, or a long file, raises. */
static int64_t raising_read(void *ctx, uint64_t offset, void *buf, uint64_t len)
{
	(void)ctx;
	(void)pthread_kill(pthread_self(), SIGPIPE);
	(void)pthread_kill(pthread_self(), SIGXFSZ);
	for (uint64_t at = 0; at < len; at += PAGE)
		contents_of(1, (offset + at) / PAGE, (char *)buf + at);
	return (int64_t)len;
}

static void lent_threads(void)
{
	static struct fln_thread_hooks hooks = { .size = sizeof(hooks),
						 .create = lend,
						 .join = take_back };
	struct fln_source_ops ops = { .size = sizeof(ops), .name = "raises", .read = raising_read };

	bed_init(&bed, NR_PAGES);
	OK(fln_source_create(&ops, NULL, &bed.source));
	bed.engine_opts.thread_hooks = &hooks;
	with_source();
	bed_up(&bed);
	expect(1, TOUCH_OK);
	bed_down(&bed);

	adopted_up(&hooks);
	expect(FAR, TOUCH_SIGBUS);
	bed_down(&bed);
}

/* A source in memory that is a mapping of a file, and the file is made shorter. */
static void truncated_source(void)
{
	static _Alignas(8) char buf[PAGE];
	int fd = make_memfd(0, LEN);
	char *map = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);

	CHECK(map != MAP_FAILED, "mmap: %s", strerror(errno));
	for (uint64_t page = 0; page < NR_PAGES; page++) {
		contents_of(1, page, buf);
		CHECK(pwrite(fd, buf, PAGE, (off_t)(page * PAGE)) == (ssize_t)PAGE, "pwrite");
	}
	bed_init(&bed, NR_PAGES);
	OK(fln_source_from_memory(map, LEN, &bed.source));
	with_source();
	bed_up(&bed);
	expect(1, TOUCH_OK);
	CHECK(ftruncate(fd, (off_t)(2000 * PAGE)) == 0, "ftruncate: %s", strerror(errno));
	expect(FAR, TOUCH_SIGBUS);
	/* In the same fill as the end: what is there is not taken along. */
	expect(1999, TOUCH_OK);
	expect(2000, TOUCH_SIGBUS);
	REFUSED(fln_image_fill(bed.image, (FAR + 100) * PAGE, PAGE), -EFAULT, NULL);
	/* An unmapped one is an error, too. */
	CHECK(munmap(map + 100 * PAGE, PAGE) == 0, "munmap: %s", strerror(errno));
	expect(100, TOUCH_SIGBUS);
	expect(101, TOUCH_OK);
	bed_down(&bed);
}

/* The same for reads through a wrapper. */
static void truncated_source_in_a_wrapper(void)
{
	struct fln_source_delay_opts opts = FLN_SOURCE_DELAY_OPTS_INIT;
	int fd = make_memfd(0, LEN);
	char *map = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	struct fln_source *inner;
	uint64_t value;

	CHECK(map != MAP_FAILED, "mmap: %s", strerror(errno));
	bed_init(&bed, NR_PAGES);
	OK(fln_source_from_memory(map, LEN, &inner));
	OK(fln_source_with_delay(inner, &opts, &bed.source));
	fln_source_destroy(inner);
	with_source();
	bed_up(&bed);
	CHECK(ftruncate(fd, (off_t)(2000 * PAGE)) == 0, "ftruncate: %s", strerror(errno));
	CHECK(touch_read(bed_page(&bed, 1), &value) == TOUCH_OK && value == 0, "page 1");
	expect(FAR, TOUCH_SIGBUS);
	bed_down(&bed);
}

static void full_file_system(void)
{
	char dir[] = "/tmp/fln-full-XXXXXX", path[64];
	static _Alignas(8) char buf[PAGE];
	int fd;

	CHECK(mkdtemp(dir) != NULL, "mkdtemp: %s", strerror(errno));
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", dir, "tmpfs", 0, "size=1M") != 0) {
		test_note("no file system of its own: %s", strerror(errno));
		(void)rmdir(dir);
		return;
	}
	(void)snprintf(path, sizeof(path), "%s/f", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)LEN) == 0, "%s: %s", path, strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_UNSEALED;
	bed.image_opts.memfd = fd;
	with_source();
	bed_up(&bed);
	OK(fln_image_fill(bed.image, 0, 200 * PAGE));
	REFUSED(fln_image_fill(bed.image, 1000 * PAGE, 200 * PAGE), -ENOSPC, "remount");
	REFUSED(fln_image_put(bed.image, 2000 * PAGE, memset(buf, 1, PAGE), PAGE), -ENOSPC,
		"remount");
	bed_down(&bed);
	(void)close(fd);
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
}

/* Whoever has the memfd of an image cannot forbid its owner to write. */
static void no_more_seals(void)
{
	bed_init(&bed, NR_PAGES);
	bed_up(&bed);
	CHECK(fcntl(fln_image_memfd(bed.image), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0 &&
		      errno == EPERM,
	      "it was sealed");
	expect(FAR, TOUCH_OK);
	bed_down(&bed);
}

static int ends[2];

static void *share_main(void *arg)
{
	(void)arg;
	OK(fln_image_share(bed.image, ends[0]));
	return NULL;
}

/* The same of an adopted one, once another process has it. */
static void no_more_seals_of_a_shared_memfd(void)
{
	struct fln_link_hello hello;
	pthread_t thread;
	int memfd;

	bed_init(&bed, NR_PAGES);
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT;
	bed.image_opts.memfd = make_memfd(MFD_ALLOW_SEALING, LEN);
	with_source();
	bed_up(&bed);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
	CHECK(pthread_create(&thread, NULL, share_main, NULL) == 0, "pthread_create");
	OK(fln_link_hello(ends[1], &hello, &memfd));
	CHECK(fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0 && errno == EPERM,
	      "it was sealed");
	expect(FAR, TOUCH_OK);
	(void)close(ends[1]);
	(void)pthread_join(thread, NULL);
	bed_down(&bed);
}

/* Sealing an adopted memfd is up to its other holders: the image's own mapping is older. */
static void sealed_by_somebody_else(void)
{
	static _Alignas(8) char buf[PAGE];
	int fd = make_memfd(MFD_ALLOW_SEALING, LEN);
	uint64_t value;

	bed_init(&bed, NR_PAGES);
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT;
	bed.image_opts.memfd = fd;
	with_source();
	bed_up(&bed);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0, "F_ADD_SEALS: %s", strerror(errno));
	expect(FAR, TOUCH_OK);
	contents_of(1, FAR + 100, buf);
	OK(fln_image_put(bed.image, (FAR + 100) * PAGE, buf, PAGE));
	expect(FAR + 100, TOUCH_OK);
	OK(fln_image_discard(bed.image, FAR * PAGE, PAGE));
	CHECK(touch_read(bed_page(&bed, FAR), &value) == TOUCH_OK && value == 0, "given up: 0x%llx",
	      (unsigned long long)value);
	bed_down(&bed);
	(void)close(fd);
}

/* A snapshot that is sealed: its clones write into memory of their own. */
static void sealed_snapshot(int seal, const char *name)
{
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct fln_image_opts io = FLN_IMAGE_OPTS_INIT;
	int fd = make_memfd(MFD_ALLOW_SEALING, LEN);
	static _Alignas(8) char buf[PAGE];
	struct fln_region *region;
	struct fln_image *image;

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		contents_of(1, page, buf);
		CHECK(pwrite(fd, buf, PAGE, (off_t)(page * PAGE)) == (ssize_t)PAGE, "pwrite");
	}
	CHECK(fcntl(fd, F_ADD_SEALS, seal | F_SEAL_SHRINK) == 0, "%s: %s", name, strerror(errno));
	bed_init(&bed, NR_PAGES);
	bed.image_opts.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	bed.image_opts.memfd = fd;
	bed.region_opts.sharing = FLN_SHARING_PRIVATE;
	bed_up(&bed);
	expect(FAR, TOUCH_OK);
	CHECK(touch_write(bed_page(&bed, FAR), 7) == TOUCH_OK, "a write of the clone's");
	expect(FAR + 1, TOUCH_OK);
	REFUSED(fln_image_discard(bed.image, 0, PAGE), -EPERM, NULL);
	expect(0, TOUCH_OK);
	ro.image = bed.image;
	ro.len_bytes = LEN;
	REFUSED(fln_region_add(bed.guest, &ro, &region), -EPERM, "FLN_SHARING_PRIVATE");
	io.len_bytes = LEN;
	io.flags = FLN_IMAGE_F_ADOPT;
	io.memfd = fd;
	REFUSED(fln_image_create(bed.engine, &io, &image), -EPERM, name);
	bed_down(&bed);
	(void)close(fd);
}

static void sealed_snapshots(void)
{
	sealed_snapshot(F_SEAL_WRITE, "F_SEAL_WRITE");
	sealed_snapshot(F_SEAL_FUTURE_WRITE, "F_SEAL_FUTURE_WRITE");
}

#define CASE(fn)                   \
	static void run_##fn(void) \
	{                          \
		in_child(fn);      \
	}

CASE(create_beyond_the_limit)
CASE(fill_beyond_the_limit)
CASE(lent_threads)
CASE(truncated_source)
CASE(truncated_source_in_a_wrapper)
CASE(full_file_system)
CASE(no_more_seals)
CASE(no_more_seals_of_a_shared_memfd)
CASE(sealed_by_somebody_else)
CASE(sealed_snapshots)

int main(void)
{
	RUN(run_create_beyond_the_limit);
	RUN(run_fill_beyond_the_limit);
	RUN(run_lent_threads);
	RUN(run_truncated_source);
	RUN(run_truncated_source_in_a_wrapper);
	RUN(run_full_file_system);
	RUN(run_no_more_seals);
	RUN(run_no_more_seals_of_a_shared_memfd);
	RUN(run_sealed_by_somebody_else);
	RUN(run_sealed_snapshots);
	return 0;
}
