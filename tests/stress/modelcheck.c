/* SPDX-License-Identifier: MIT */
/*
 * A model checker with random steps, on the public headers alone: small worlds, each a
 * process with a seed of its own, in which threads read, write, give up, push, fill and
 * populate pages of several images through regions that come and go.
 *
 * The model is a word per page: the set of contents that it may have.  What is read must be
 * one of them, and from then on is the only one.  Each page has a lock of many readers or
 * one that changes it, so that the model of a page is sequential, while windows, fills,
 * neighbours and other mappings of the same page race all around it.
 *
 *   test_stress_modelcheck [separate|meet|mixed SEED]    one world again
 */
#include "stress/clock.h"
#include "stress/contents.h"

#include <errno.h>
#include <faultlane/faultlane.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_IMAGES 3u
#define IMAGE_PAGES 3000u
#define NR_REGIONS 6u
#define REGION_PAGES 900u
#define NR_THREADS 5u
#define BLOCK_BYTES (UINT64_C(2) << 20)
#define ARENA_BYTES (NR_REGIONS * 4 * BLOCK_BYTES)
#define WORLD_S 60

/* Contents, as bits of a set; a write is WRITTEN and its number above bit 32. */
#define SOURCE UINT64_C(1)
#define PUT(v) (UINT64_C(2) << (v)) /* v: 0 to 2 */
#define PUTS (PUT(0) | PUT(1) | PUT(2))
#define ZERO UINT64_C(16)
#define WRITTEN UINT64_C(32)
#define FOLLOWS UINT64_C(64) /* of a private page: what its image's may be */
#define NUMBER_SHIFT 32

enum mode {
	SEPARATE, /* each region in blocks of its own */
	MEET,     /* one behind the other, of any size */
	MIXED
};

static const char *const mode_names[] = { "separate", "meet", "mixed" };

struct image {
	struct fln_image *handle;
	struct fln_source *source; /* NULL: it is pushed */
	uint32_t index;
	_Atomic uint64_t set[IMAGE_PAGES];
	_Atomic int lock[IMAGE_PAGES]; /* readers; -1: it is being changed */
	/* Private mappings may have it as zero, whatever is written to it later. */
	_Atomic bool was_zero[IMAGE_PAGES];
};

struct region {
	struct image *image;
	struct fln_region *handle;
	char *addr;
	uint64_t first, nr; /* pages of the image */
	bool is_private, in_context;
	bool left; /* its mapping is as an earlier region's end has left it */
	_Atomic bool ending;
	/* When its end began; what was written elsewhere since is not here. */
	bool was_written[REGION_PAGES];
	_Atomic uint64_t set[REGION_PAGES]; /* of a private one */
	_Atomic int lock[REGION_PAGES];
};

static struct world {
	uint64_t seed;
	bool meet, user_mode_only, can_protect;
	struct fln_engine *engine;
	struct fln_guest *guest;
	struct image images[NR_IMAGES];
	struct region regions[NR_REGIONS];
	char *arena;
	pthread_rwlock_t life; /* written by whoever adds and removes regions */
	_Atomic bool quit;
	_Atomic uint64_t nr_writes, nr_read;
	bool stopped;
} w;

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fprintf(stderr, "seed %llu, regions %s: ", (unsigned long long)w.seed,
		      w.meet ? "meet" : "are separate");
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
	va_end(args);
	_exit(1);
}

#define MUST(call)                                                        \
	do {                                                              \
		int rc_ = (call);                                         \
		if (rc_)                                                  \
			fail("%s: %d: %s", #call, rc_, fln_last_error()); \
	} while (0)

/* Contents: a page's, of one of its kinds. */

static uint64_t page_id(const struct image *im, uint64_t page)
{
	return page | (uint64_t)(im->index + 1) << 32;
}

static bool is_hole(const struct image *im, uint64_t page)
{
	return im->source && page_is_hole(w.seed, page_id(im, page));
}

static uint64_t stamp_of(const struct image *im, uint64_t page, uint64_t content)
{
	return page_stamp(w.seed, page_id(im, page), content);
}

static void put_contents(const struct image *im, uint64_t page, uint64_t content, uint64_t *words)
{
	if (content == ZERO || (content == SOURCE && is_hole(im, page)))
		memset(words, 0, PAGE_BYTES);
	else
		page_write(words, stamp_of(im, page, content));
}

/* Whether all of the page is @content. */
static bool is_content(const struct image *im, uint64_t page, uint64_t content,
		       const uint64_t *words)
{
	uint64_t want[PAGE_WORDS];

	put_contents(im, page, content, want);
	return memcmp(want, words, PAGE_BYTES) == 0;
}

/* Which one of @set it is; 0: none. */
static uint64_t which(const struct image *im, uint64_t page, uint64_t set, const uint64_t *words)
{
	uint64_t written = set & WRITTEN ? set & ~(SOURCE | PUTS | ZERO | FOLLOWS) : 0;

	for (uint64_t bit = SOURCE; bit <= ZERO; bit <<= 1) {
		if ((set & bit) && is_content(im, page, bit, words))
			return bit;
	}
	return written && is_content(im, page, written, words) ? written : 0;
}

static bool lock_shared(_Atomic int *lock)
{
	int n = atomic_load(lock);

	while (n >= 0) {
		if (atomic_compare_exchange_weak(lock, &n, n + 1))
			return true;
	}
	return false;
}

static bool lock_alone(_Atomic int *lock)
{
	int none = 0;

	return atomic_compare_exchange_strong(lock, &none, -1);
}

static void unlock(_Atomic int *lock)
{
	if (atomic_load(lock) < 0)
		atomic_store(lock, 0);
	else
		atomic_fetch_sub(lock, 1);
}

/* Sources. */

static int64_t source_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	static _Atomic uint64_t nr;
	uint64_t dice = mix(w.seed ^ mix(atomic_fetch_add(&nr, 1)));
	uint64_t pages = len_bytes / PAGE_BYTES;

	if (dice % 8 == 0)
		sleep_us((dice >> 8) % 2000);
	if (pages > 1 && dice % 5 == 1)
		pages = 1 + (dice >> 16) % (pages - 1);
	for (uint64_t i = 0; i < pages; i++)
		put_contents(ctx, offset_bytes / PAGE_BYTES + i, SOURCE,
			     (uint64_t *)buf + i * PAGE_WORDS);
	return (int64_t)(pages * PAGE_BYTES);
}

static int64_t source_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *hole)
{
	uint64_t first = offset_bytes / PAGE_BYTES, n = 1;

	*hole = is_hole(ctx, first);
	while (n < len_bytes / PAGE_BYTES && is_hole(ctx, first + n) == (*hole != 0))
		n++;
	return (int64_t)(n * PAGE_BYTES);
}

static int memfd_with_rubbish(struct rng *rng)
{
	int fd = memfd_create("modelcheck", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char rubbish[PAGE_BYTES];

	memset(rubbish, 0xaa, sizeof(rubbish));
	if (fd < 0 || ftruncate(fd, (off_t)IMAGE_PAGES * PAGE_BYTES) != 0)
		fail("memfd: %s", strerror(errno));
	for (uint64_t page = 0; page < IMAGE_PAGES; page++) {
		if (rng_below(rng, 3) == 0 &&
		    pwrite(fd, rubbish, PAGE_BYTES, (off_t)(page * PAGE_BYTES)) != PAGE_BYTES)
			fail("pwrite: %s", strerror(errno));
	}
	return fd;
}

static void make_image(struct rng *rng, uint32_t index)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "modelcheck",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = source_read,
				      .extent = source_extent };
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	struct image *im = &w.images[index];

	im->index = index;
	o.len_bytes = (uint64_t)IMAGE_PAGES * PAGE_BYTES;
	if (index + 1 < NR_IMAGES)
		MUST(fln_source_create(&ops, im, &im->source));
	o.source = im->source;
	if (rng_below(rng, 2)) {
		o.flags = FLN_IMAGE_F_ADOPT;
		o.memfd = memfd_with_rubbish(rng);
	}
	for (uint64_t page = 0; page < IMAGE_PAGES; page++)
		atomic_store(&im->set[page], im->source ? SOURCE : 0);
	MUST(fln_image_create(w.engine, &o, &im->handle));
	if (o.flags)
		(void)close(o.memfd);
}

/* Touches. */

static _Thread_local sigjmp_buf jump;
static _Thread_local volatile sig_atomic_t armed;

static void on_fault(int signo, siginfo_t *info, void *context)
{
	(void)context;
	if (signo == SIGBUS && fln_resolve(info) == FLN_RESOLVED)
		return;
	if (armed) {
		armed = 0;
		siglongjmp(jump, signo);
	}
	(void)signal(signo, SIG_DFL);
}

/* 0, or the signal. */
__attribute__((noinline)) static int copy_page(uint64_t *to, const uint64_t *from)
{
	int signo = sigsetjmp(jump, 1);

	if (signo)
		return signo;
	armed = 1;
	memcpy(to, from, PAGE_BYTES);
	armed = 0;
	return 0;
}

struct page {
	struct region *r;
	uint64_t at; /* in the region */
	_Atomic uint64_t *set;
	_Atomic int *lock; /* of the page that changes: the image's, or a private one */
};

static struct page page_of(struct region *r, uint64_t at)
{
	struct page p = { .r = r, .at = at };

	p.set = r->is_private ? &r->set[at] : &r->image->set[r->first + at];
	p.lock = r->is_private ? &r->lock[at] : &r->image->lock[r->first + at];
	return p;
}

static uint64_t *address(const struct page *p)
{
	return (uint64_t *)(void *)(p->r->addr + p->at * PAGE_BYTES);
}

/*
 * While its region ends a page that is not there raises SIGBUS.  Those that have been written
 * are there, and so is what a private region's guest has given up.
 */
static void expect_signal(const struct page *p, uint64_t set, int signo, const char *how)
{
	bool there = p->r->is_private ? (set & WRITTEN) || set == ZERO : p->r->was_written[p->at];

	if (atomic_load(&p->r->ending) && signo == SIGBUS && !there)
		return;
	/* Before 5.19 writers cannot be made to wait while zeros are put there. */
	if (atomic_load(&p->r->ending) && p->r->is_private && !w.can_protect)
		return;
	fail("image %u page %llu, %s region, %s: signal %d, permitted are %llx", p->r->image->index,
	     (unsigned long long)(p->r->first + p->at), p->r->is_private ? "private" : "shared",
	     how, signo, (unsigned long long)set);
}

/* By the thread, or by the kernel for it. */
static int store_page(struct rng *rng, const struct page *p, const uint64_t *words)
{
	struct iovec from = { .iov_base = (void *)(uintptr_t)words, .iov_len = PAGE_BYTES };
	struct iovec to = { .iov_base = address(p), .iov_len = PAGE_BYTES };

	if (p->r->in_context || w.user_mode_only || rng_below(rng, 3))
		return copy_page(address(p), words);
	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == (ssize_t)PAGE_BYTES ? 0 : SIGBUS;
}

/* What nobody has pushed would be waited for for ever. */
static void push(struct rng *rng, struct image *im, uint64_t page)
{
	uint64_t words[PAGE_WORDS], content = PUT(rng_below(rng, 3));
	uint64_t set = atomic_load(&im->set[page]);

	/* Known, or given up: what comes now has lost. */
	if (set == ZERO || (set & WRITTEN) || (set && !(set & (set - 1)) && set != SOURCE))
		return;
	atomic_fetch_or(&im->set[page], content);
	put_contents(im, page, content, words);
	MUST(fln_image_put(im->handle, page * PAGE_BYTES, words, PAGE_BYTES));
}

/* The page is locked, and so is the image's. */
static void judge(const struct page *p, const uint64_t *words, const char *how)
{
	struct image *im = p->r->image;
	uint64_t at = p->r->first + p->at, before = atomic_load(p->set), set = before, found;
	_Atomic uint64_t *learns = p->set;

	if (p->r->is_private && (before & FOLLOWS)) {
		learns = &im->set[at];
		set = atomic_load(learns) | (before & ZERO);
		if (is_hole(im, at) || atomic_load(&im->was_zero[at]))
			set |= ZERO;
	}
	found = which(im, at, set, words);
	if (!found)
		fail("image %u page %llu, %s region: %s reads %016llx … %016llx, permitted are %llx",
		     im->index, (unsigned long long)at, p->r->is_private ? "private" : "shared",
		     how, (unsigned long long)words[0], (unsigned long long)words[PAGE_WORDS - 1],
		     (unsigned long long)set);
	atomic_fetch_add(&w.nr_read, 1);
	if (p->r->is_private && (before & FOLLOWS) && words[0] == 0)
		atomic_fetch_or(p->set, ZERO); /* and it may stay so */
	else if (!is_hole(im, at) || words[0])
		(void)atomic_compare_exchange_strong(learns, &set, found);
}

static void read_page(struct rng *rng, struct page *p)
{
	struct image *im = p->r->image;
	uint64_t at = p->r->first + p->at, words[PAGE_WORDS], set;
	int signo;

	if (!lock_shared(p->lock))
		return;
	if (p->r->is_private && !lock_shared(&im->lock[at])) {
		unlock(p->lock);
		return;
	}
	if (!im->source || rng_below(rng, 8) == 0)
		push(rng, im, at);
	set = atomic_load(p->set);
	signo = copy_page(words, address(p));
	if (signo)
		expect_signal(p, set, signo, "a read");
	else
		judge(p, words, "a thread");
	if (p->r->is_private)
		unlock(&im->lock[at]);
	unlock(p->lock);
}

static void write_page(struct rng *rng, struct page *p)
{
	uint64_t at = p->r->first + p->at, words[PAGE_WORDS], set;
	int signo;
	uint64_t content = WRITTEN | (atomic_fetch_add(&w.nr_writes, 1) + 1) << NUMBER_SHIFT;

	if (!lock_alone(p->lock))
		return;
	if (!p->r->image->source)
		push(rng, p->r->image, at);
	put_contents(p->r->image, at, content, words);
	set = atomic_load(p->set);
	signo = store_page(rng, p, words);
	if (signo)
		expect_signal(p, set, signo, "a write");
	else
		atomic_store(p->set, content);
	unlock(p->lock);
}

/* What a page may be after MADV_DONTNEED of shared memory: if it was filled, what it was. */
static uint64_t after_dontneed(uint64_t set)
{
	bool known = (set & WRITTEN) || (set && !(set & (set - 1)) && set != SOURCE);

	return known ? set : set | ZERO;
}

static void give_up(struct rng *rng, struct region *r, uint64_t at)
{
	uint64_t nr = 1 + rng_below(rng, 40), n = 0, how = rng_below(rng, 3);
	struct image *im = r->image;
	int rc;

	while (n < nr && at + n < r->nr && lock_alone(page_of(r, at + n).lock))
		n++;
	if (n == 0)
		return;
	if (r->is_private || how == 0)
		rc = madvise(r->addr + at * PAGE_BYTES, n * PAGE_BYTES, MADV_DONTNEED);
	else if (how == 1)
		rc = madvise(r->addr + at * PAGE_BYTES, n * PAGE_BYTES, MADV_REMOVE);
	else
		rc = fln_image_discard(im->handle, (r->first + at) * PAGE_BYTES, n * PAGE_BYTES);
	if (rc)
		fail("giving up %llu pages, %llu: %s", (unsigned long long)n,
		     (unsigned long long)how, strerror(errno));
	for (uint64_t i = 0; i < n; i++) {
		struct page p = page_of(r, at + i);

		if (r->is_private || how)
			atomic_store(p.set, ZERO);
		else
			atomic_store(p.set, after_dontneed(atomic_load(p.set)));
		if (!r->is_private)
			atomic_store(&im->was_zero[r->first + at + i], true);
		unlock(p.lock);
	}
}

static void step(struct rng *rng)
{
	struct region *r = &w.regions[rng_below(rng, NR_REGIONS)];
	struct page p;

	if (!r->handle)
		return;
	p = page_of(r, rng_below(rng, 3) ? rng_below(rng, r->nr) : rng_below(rng, 32) % r->nr);
	switch (rng_below(rng, 12)) {
	case 0:
		/* What is under way when a region ends may read the image again. */
		if (!atomic_load(&r->ending))
			give_up(rng, r, p.at);
		break;
	case 1:
	case 2:
		write_page(rng, &p);
		break;
	case 3:
		if (r->image->source)
			MUST(fln_image_fill(r->image->handle, (r->first + p.at) * PAGE_BYTES,
					    PAGE_BYTES));
		break;
	default:
		read_page(rng, &p);
		break;
	}
}

static void *thread_main(void *arg)
{
	struct rng rng = { mix(w.seed ^ mix((uint64_t)(uintptr_t)arg)) };

	MUST(fln_thread_enter());
	while (!atomic_load(&w.quit)) {
		(void)pthread_rwlock_rdlock(&w.life);
		for (uint32_t i = 0; i < 32; i++)
			step(&rng);
		(void)pthread_rwlock_unlock(&w.life);
	}
	fln_thread_leave();
	return NULL;
}

/* Regions. */

static void add_region(struct rng *rng, uint32_t i)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	uint64_t slot = ARENA_BYTES / NR_REGIONS;
	struct region *r = &w.regions[i];

	for (uint64_t k = 0; k < REGION_PAGES; k++)
		atomic_store(&r->set[k], FOLLOWS);
	if (r->left)
		goto add;
	r->image = &w.images[rng_below(rng, NR_IMAGES)];
	r->nr = w.meet ? 700 : 1 + rng_below(rng, REGION_PAGES);
	r->first = rng_below(rng, IMAGE_PAGES - r->nr);
	r->is_private = rng_below(rng, 3) == 0;
	r->in_context = !r->is_private && rng_below(rng, 3) == 0;
	/* One behind the other: 700 pages are no number of blocks. */
	r->addr = w.arena + i * (w.meet ? r->nr * PAGE_BYTES : slot);
	if (mmap(r->addr, r->nr * PAGE_BYTES, PROT_READ | PROT_WRITE,
		 MAP_FIXED | (r->is_private ? MAP_PRIVATE : MAP_SHARED),
		 fln_image_memfd(r->image->handle), (off_t)(r->first * PAGE_BYTES)) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
add:
	o.image = r->image->handle;
	o.image_offset_bytes = r->first * PAGE_BYTES;
	o.addr = (uint64_t)(uintptr_t)r->addr;
	o.len_bytes = r->nr * PAGE_BYTES;
	o.sharing = r->is_private ? FLN_SHARING_PRIVATE : FLN_SHARING_SHARED;
	o.delivery = r->in_context ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
	MUST(fln_region_add(w.guest, &o, &r->handle));
}

/* Nobody serves it any more: what may be read is right, and what is known can be read. */
static void look_at_ended(struct region *r, const char *how)
{
	for (uint64_t at = 0; at < r->nr; at++) {
		struct page p = page_of(r, at);
		uint64_t words[PAGE_WORDS], set = atomic_load(p.set);
		int signo = copy_page(words, address(&p));

		if (!signo)
			judge(&p, words, how);
		else
			expect_signal(&p, set, signo, how);
	}
}

static void begin_end(struct region *r)
{
	for (uint64_t at = 0; r->handle && at < r->nr; at++)
		r->was_written[at] = atomic_load(page_of(r, at).set) & WRITTEN;
	atomic_store(&r->ending, true);
}

/* Threads go on.  w.life is written by the caller. */
static void take_region(struct rng *rng, uint32_t i)
{
	struct region *r = &w.regions[i];

	if (!r->handle)
		return;
	begin_end(r);
	(void)pthread_rwlock_unlock(&w.life);
	MUST(fln_region_remove(r->handle));
	(void)pthread_rwlock_wrlock(&w.life);
	r->handle = NULL;
	look_at_ended(r, "after its removal");
	atomic_store(&r->ending, false);
	r->left = rng_below(rng, 2);
	if (!r->left &&
	    mmap(r->addr, r->nr * PAGE_BYTES, PROT_NONE,
		 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
}

static void begin_guest(struct rng *rng)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;

	o.nr_shards = (uint32_t)rng_below(rng, 4);
	o.window_first = rng_below(rng, 2) ? 512 : 0;
	MUST(fln_guest_create(w.engine, &o, &w.guest));
	for (uint32_t i = 0; i < NR_REGIONS; i++)
		add_region(rng, i);
	MUST(fln_guest_start(w.guest));
}

/* Threads go on.  w.life is written by the caller. */
static void end_guest(void)
{
	for (uint32_t i = 0; i < NR_REGIONS; i++)
		begin_end(&w.regions[i]);
	(void)pthread_rwlock_unlock(&w.life);
	MUST(fln_guest_stop(w.guest));
	(void)pthread_rwlock_wrlock(&w.life);
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		struct region *r = &w.regions[i];

		if (r->handle)
			look_at_ended(r, "after the stop");
		r->handle = NULL;
		r->left = false;
		atomic_store(&r->ending, false);
	}
	MUST(fln_guest_destroy(w.guest));
}

static void manage(struct rng *rng)
{
	uint32_t i = (uint32_t)rng_below(rng, NR_REGIONS);

	sleep_ms(5 + rng_below(rng, 30));
	(void)pthread_rwlock_wrlock(&w.life);
	if (rng_below(rng, 8) == 0) {
		end_guest();
		begin_guest(rng);
	} else if (w.regions[i].handle) {
		take_region(rng, i);
	} else {
		add_region(rng, i);
	}
	(void)pthread_rwlock_unlock(&w.life);
}

static void init_life(void)
{
	pthread_rwlockattr_t attr;

	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&w.life, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
}

/* Can the kernel hold writes to a private mapping of a memfd back? */
static bool can_protect(void)
{
	struct uffdio_register arg = {
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int fd = memfd_create("protect", MFD_CLOEXEC);
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	bool can = false;
	void *p;

	if (fd < 0 || ftruncate(fd, PAGE_BYTES) != 0)
		fail("memfd: %s", strerror(errno));
	p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	arg.range.start = (uintptr_t)p;
	arg.range.len = PAGE_BYTES;
	if (p != MAP_FAILED && uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0)
		can = ioctl(uffd, UFFDIO_REGISTER, &arg) == 0;
	(void)munmap(p, PAGE_BYTES);
	(void)close(uffd);
	(void)close(fd);
	return can;
}

static int run_world(uint64_t seed, bool meet, bool user_mode_only)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct fln_engine_opts eo = FLN_ENGINE_OPTS_INIT;
	struct rng rng = { mix(seed) };
	pthread_t threads[NR_THREADS];
	uint64_t until;

	w.seed = seed;
	w.meet = meet;
	w.user_mode_only = user_mode_only;
	w.can_protect = can_protect();
	init_life();
	(void)sigaction(SIGBUS, &sa, NULL);
	(void)sigaction(SIGSEGV, &sa, NULL);
	w.arena = mmap(NULL, ARENA_BYTES + BLOCK_BYTES, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	w.arena = (char *)(((uintptr_t)w.arena + BLOCK_BYTES - 1) & ~(uintptr_t)(BLOCK_BYTES - 1));
	eo.flags = user_mode_only ? FLN_ENGINE_F_USER_MODE_ONLY : 0;
	eo.nr_workers = (uint32_t)rng_below(&rng, 3);
	eo.fill_pages = rng_below(&rng, 2) ? 1u << rng_below(&rng, 9) : 0;
	MUST(fln_engine_create(&eo, &w.engine));
	MUST(fln_engine_start(w.engine));
	for (uint32_t i = 0; i < NR_IMAGES; i++)
		make_image(&rng, i);
	begin_guest(&rng);
	for (uintptr_t i = 0; i < NR_THREADS; i++) {
		if (pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1)) != 0)
			fail("no thread");
	}
	until = now_ns() + 600000000u;
	while (now_ns() < until)
		manage(&rng);
	atomic_store(&w.quit, true);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	(void)pthread_rwlock_wrlock(&w.life);
	end_guest();
	(void)pthread_rwlock_unlock(&w.life);
	for (uint32_t i = 0; i < NR_IMAGES; i++) {
		MUST(fln_image_destroy(w.images[i].handle));
		fln_source_destroy(w.images[i].source);
	}
	MUST(fln_engine_destroy(w.engine));
	return atomic_load(&w.nr_read) == 0;
}

/* Each in a process of its own: what one leaves behind is not the next one's. */
static bool world_is_right(uint64_t seed, bool meet, bool user_mode_only)
{
	uint64_t begin = now_ns();
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(run_world(seed, meet, user_mode_only));
	}
	while (child > 0 && waitpid(child, &status, WNOHANG) == 0) {
		if (now_ns() - begin > UINT64_C(1000000000) * WORLD_S) {
			(void)fprintf(stderr, "seed %llu: it does not end\n",
				      (unsigned long long)seed);
			(void)kill(child, SIGKILL);
			(void)waitpid(child, &status, 0);
			return false;
		}
		sleep_ms(2);
	}
	if (child > 0 && status == 0)
		return true;
	(void)fprintf(stderr, "seed %llu, regions %s: the process ended with status 0x%x\n",
		      (unsigned long long)seed, meet ? "meet" : "are separate", (unsigned)status);
	return false;
}

static uint64_t seconds(void)
{
	const char *scale = getenv("FAULTLANE_TEST_SCALE");

	if (scale && strcmp(scale, "quick") == 0)
		return 3;
	return scale && strcmp(scale, "long") == 0 ? 500 : 12;
}

int main(int argc, char **argv)
{
	uint64_t until = now_ns() + seconds() * 1000000000u, seed = 1, features;
	uint32_t nr = 0, nr_wrong = 0;
	enum mode mode = MIXED;
	bool user_mode_only = fln_query_features(0, &features) != 0;

	if (user_mode_only && fln_query_features(FLN_ENGINE_F_USER_MODE_ONLY, &features) != 0) {
		(void)printf("SKIP: %s\n", fln_last_error());
		return 77;
	}
	if (argc > 2) {
		while (mode > SEPARATE && strcmp(argv[1], mode_names[mode]) != 0)
			mode--;
		seed = strtoull(argv[2], NULL, 10);
		until = 0;
	} else {
		seed = (now_ns() ^ (uint64_t)getpid()) % 1000000;
	}
	do {
		bool meet = mode == MEET || (mode == MIXED && (seed & 1));

		nr_wrong += !world_is_right(seed++, meet, user_mode_only);
		nr++;
	} while (now_ns() < until && nr_wrong < 3);
	(void)printf("%u worlds, %u wrong\n", nr, nr_wrong);
	return nr_wrong > 0;
}
