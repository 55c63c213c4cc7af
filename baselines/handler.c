/* SPDX-License-Identifier: MIT */
/*
 * One userfaultfd, one thread.
 *
 * Theory of operation.  The thread sleeps in a blocking read() of one message.
 * That is one system call a fault less than the poll() and read() of the event
 * loops that it stands for, and measures cheaper, so it is the better opponent.
 * Then it maps the message's page (SINGLE) or the window around it that is not
 * mapped yet (SINGLE_WINDOW), which wakes those who wait for it.  Only this
 * thread maps, so its record of what is mapped needs no atomics.
 *
 * Stopping: a page of our own, registered like the rest, is the doorbell.  The
 * thread that stops us touches it, and the fault is the message to end.
 */
#include "baselines/handler.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/page.h"
#include "engine/uffd.h"
#include "engine/window.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

/* What the thread knows of 2 MiB: a hint, as in the engine; faults are the truth. */
struct block {
	struct fln_mask mapped;
	uint32_t nr_faults;
};

struct fln_handler {
	struct fln_uffd uffd;
	struct fln_window_policy window;
	uint64_t addr;
	uint64_t len_bytes;
	void *doorbell;
	struct block *blocks; /* NULL with SINGLE */
	pthread_t thread;
	struct fln_handler_stats stats;
};

/* One writer; others read at any time. */
static void count(uint64_t *field, uint64_t n)
{
	__atomic_store_n(field, *field + n, __ATOMIC_RELAXED);
}

/*
 * The page cannot be had: whoever touches it shall get a signal, not wait for
 * ever and not read zeros.
 */
static void fail_page(struct fln_handler *h, uint64_t addr)
{
	uint64_t done;

	count(&h->stats.failed, 1);
	if (fln_uffd_can_poison(&h->uffd))
		(void)fln_uffd_poison(&h->uffd, addr, FLN_PAGE_BYTES, &done);
}

/*
 * The cache has no page at @addr: a hole, which is zero, since the contents are all
 * there.  One call for the whole of it, up to @len_bytes.  Return: how far it came.
 */
static uint64_t install_hole(struct fln_handler *h, uint64_t addr, uint64_t len_bytes,
			     uint64_t fault_addr)
{
	uint64_t done;
	enum fln_uffd_result result = fln_uffd_zeropage(&h->uffd, addr, len_bytes, true, &done);

	if (fault_addr >= addr && fault_addr - addr < done)
		count(&h->stats.zero, 1);
	count(&h->stats.pages_installed, fln_bytes_to_pages(done));
	if (result == FLN_UFFD_OK || done > 0)
		return done;
	if (result == FLN_UFFD_PRESENT)
		fln_uffd_wake(&h->uffd, addr, FLN_PAGE_BYTES); /* failed calls wake nobody */
	else
		fail_page(h, addr);
	return FLN_PAGE_BYTES;
}

/* Map [addr, addr + len_bytes), holes as zeros, and wake who waits there. */
static void install(struct fln_handler *h, uint64_t addr, uint64_t len_bytes, uint64_t fault_addr)
{
	uint64_t end = addr + len_bytes;

	while (addr < end) {
		uint64_t done;
		enum fln_uffd_result result =
			fln_uffd_continue(&h->uffd, addr, end - addr, true, &done);

		count(&h->stats.pages_installed, fln_bytes_to_pages(done));
		addr += done;
		switch (result) {
		case FLN_UFFD_OK:
			return;
		case FLN_UFFD_PRESENT:
			count(&h->stats.pages_raced, 1);
			fln_uffd_wake(&h->uffd, addr, FLN_PAGE_BYTES);
			break;
		case FLN_UFFD_AGAIN:
			sched_yield(); /* no events are asked for: somebody is in mremap() or fork() */
			continue;
		case FLN_UFFD_NO_PAGE:
			addr += install_hole(h, addr, end - addr, fault_addr);
			continue;
		default:
			if (addr <= fault_addr)
				fail_page(h, fault_addr);
			return;
		}
		addr += FLN_PAGE_BYTES;
	}
}

/* Map what is not mapped of the window that holds @fault_addr. */
static void install_window(struct fln_handler *h, uint64_t fault_addr)
{
	uint64_t offset_pages = fln_bytes_to_pages(fault_addr - h->addr);
	uint32_t page = (uint32_t)(offset_pages % FLN_BLOCK_PAGES);
	uint64_t block_pages = offset_pages - page;
	struct block *block = &h->blocks[block_pages / FLN_BLOCK_PAGES];
	uint64_t left_pages = fln_bytes_to_pages(h->len_bytes) - block_pages;
	struct fln_window w;
	struct fln_mask todo;
	uint32_t lo = 0, hi;

	if (fln_mask_test(&block->mapped, page)) {
		/*
		 * Woken before it ran, or taken away behind us: mapping it
		 * again tells, and wakes in either case.
		 */
		count(&h->stats.refaults, 1);
		install(h, fault_addr, FLN_PAGE_BYTES, fault_addr);
		return;
	}
	w = fln_window_for(&h->window, block->nr_faults++, page);
	if (w.hi > left_pages)
		w.hi = (uint32_t)left_pages;
	todo = fln_mask_range(w.lo, w.hi);
	todo = fln_mask_andnot(&todo, &block->mapped);
	block->mapped = fln_mask_or(&block->mapped, &todo);
	while (fln_mask_next_run(&todo, &lo, &hi)) {
		install(h, h->addr + fln_pages_to_bytes(block_pages + lo),
			fln_pages_to_bytes(hi - lo), fault_addr);
		lo = hi;
	}
}

static void *handler_main(void *arg)
{
	struct fln_handler *h = arg;

	for (;;) {
		struct uffd_msg msg;
		ssize_t got = fln_uffd_read(&h->uffd, &msg, 1);
		uint64_t read_ns, addr;

		if (got < 0)
			return NULL;
		if (got == 0 || msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		read_ns = fln_now_ns();
		addr = fln_align_down(msg.arg.pagefault.address, FLN_PAGE_BYTES);
		if (addr == (uint64_t)(uintptr_t)h->doorbell) {
			uint64_t done;

			(void)fln_uffd_zeropage(&h->uffd, addr, FLN_PAGE_BYTES, true, &done);
			return NULL;
		}
		FLN_ASSERT(addr - h->addr < h->len_bytes);
		count(&h->stats.reads, 1);
		count(&h->stats.faults, 1);
		if (h->blocks)
			install_window(h, addr);
		else
			install(h, addr, FLN_PAGE_BYTES, addr);
		fln_histogram_record(&h->stats.service, fln_now_ns() - read_ns);
	}
}

static int check_opts(const struct fln_handler_opts *opts)
{
	uint64_t addr = (uint64_t)(uintptr_t)opts->addr;

	if (addr == 0 || !fln_is_aligned(addr, FLN_BLOCK_BYTES))
		return fln_fail(EINVAL, "handler: address 0x%llx; map at a multiple of 2 MiB",
				(unsigned long long)addr);
	if (opts->len_bytes == 0 || !fln_is_aligned(opts->len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL, "handler: length %llu; use a multiple of 4096",
				(unsigned long long)opts->len_bytes);
	if (opts->design >= FLN_HANDLER_NR_DESIGNS)
		return fln_fail(EINVAL, "handler: design %d is unknown", (int)opts->design);
	return 0;
}

static int open_uffd(struct fln_handler *h, bool user_mode_only)
{
	uint64_t need = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
	int rc = fln_uffd_open(&h->uffd, user_mode_only, need);
	int flags;

	if (rc)
		return rc;
	if ((h->uffd.features & need) != need)
		rc = fln_fail(EOPNOTSUPP,
			      "this kernel has no minor faults on shmem; use 5.14 or newer");
	flags = fcntl(h->uffd.fd, F_GETFL);
	if (!rc && (flags < 0 || fcntl(h->uffd.fd, F_SETFL, flags & ~O_NONBLOCK) < 0))
		rc = fln_fail(errno, "handler: cannot make the userfaultfd blocking");
	if (rc)
		fln_uffd_close(&h->uffd);
	return rc;
}

static int register_ranges(struct fln_handler *h)
{
	uint64_t modes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
	int rc = fln_uffd_register(&h->uffd, (uint64_t)(uintptr_t)h->doorbell, FLN_PAGE_BYTES,
				   UFFDIO_REGISTER_MODE_MISSING);

	if (rc)
		return fln_fail(-rc, "handler: cannot register a page of its own: %s",
				strerror(-rc));
	rc = fln_uffd_register(&h->uffd, h->addr, h->len_bytes, modes);
	if (rc)
		return fln_fail(-rc, "handler: cannot register %llu bytes at 0x%llx: %s",
				(unsigned long long)h->len_bytes, (unsigned long long)h->addr,
				strerror(-rc));
	return 0;
}

static int alloc_blocks(struct fln_handler *h)
{
	uint64_t nr = fln_align_up(h->len_bytes, FLN_BLOCK_BYTES) / FLN_BLOCK_BYTES;

	h->blocks = calloc(nr, sizeof(*h->blocks));
	if (!h->blocks)
		return fln_fail(ENOMEM, "handler: no memory for %llu blocks",
				(unsigned long long)nr);
	return 0;
}

int fln_handler_start(const struct fln_handler_opts *opts, struct fln_handler **out)
{
	struct fln_handler *h;
	int rc = check_opts(opts);

	if (rc)
		return rc;
	h = calloc(1, sizeof(*h));
	if (!h)
		return fln_fail(ENOMEM, "handler: out of memory");
	h->addr = (uint64_t)(uintptr_t)opts->addr;
	h->len_bytes = opts->len_bytes;
	rc = fln_window_policy_init(&h->window, opts->window_first, opts->window_max);
	if (!rc && opts->design == FLN_HANDLER_SINGLE_WINDOW)
		rc = alloc_blocks(h);
	if (rc)
		goto out_free;
	h->doorbell = mmap(NULL, FLN_PAGE_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h->doorbell == MAP_FAILED) {
		rc = fln_fail(errno, "handler: cannot map a page of its own");
		goto out_free;
	}
	rc = open_uffd(h, opts->user_mode_only);
	if (rc)
		goto out_unmap;
	rc = register_ranges(h);
	if (rc)
		goto out_close;
	rc = -pthread_create(&h->thread, NULL, handler_main, h);
	if (rc) {
		rc = fln_fail(-rc, "handler: cannot start a thread: %s", strerror(-rc));
		goto out_close;
	}
	*out = h;
	return 0;

out_close:
	fln_uffd_close(&h->uffd);
out_unmap:
	(void)munmap(h->doorbell, FLN_PAGE_BYTES);
out_free:
	free(h->blocks);
	free(h);
	return rc;
}

void fln_handler_stats(const struct fln_handler *h, struct fln_handler_stats *out)
{
	memset(out, 0, sizeof(*out));
	out->faults = __atomic_load_n(&h->stats.faults, __ATOMIC_RELAXED);
	out->refaults = __atomic_load_n(&h->stats.refaults, __ATOMIC_RELAXED);
	out->zero = __atomic_load_n(&h->stats.zero, __ATOMIC_RELAXED);
	out->failed = __atomic_load_n(&h->stats.failed, __ATOMIC_RELAXED);
	out->pages_installed = __atomic_load_n(&h->stats.pages_installed, __ATOMIC_RELAXED);
	out->pages_raced = __atomic_load_n(&h->stats.pages_raced, __ATOMIC_RELAXED);
	out->reads = __atomic_load_n(&h->stats.reads, __ATOMIC_RELAXED);
	out->installs = atomic_load_explicit(&h->uffd.nr_calls, memory_order_relaxed);
	out->wakes = atomic_load_explicit(&h->uffd.nr_wakes, memory_order_relaxed);
	fln_histogram_merge(&out->service, &h->stats.service);
}

void fln_handler_stop(struct fln_handler *h)
{
	if (!h)
		return;
	*(volatile char *)h->doorbell = 1;
	(void)pthread_join(h->thread, NULL);
	fln_uffd_close(&h->uffd);
	(void)munmap(h->doorbell, FLN_PAGE_BYTES);
	free(h->blocks);
	free(h);
}

int fln_handler_window_defaults(uint32_t *first, uint32_t *max)
{
	struct fln_window_policy p;
	int rc = fln_window_policy_init(&p, *first, *max);

	if (rc)
		return rc;
	*first = p.first;
	*max = p.max;
	return 0;
}
