/* SPDX-License-Identifier: MIT */
/*
 * One userfaultfd, one thread; or one of both for each part of the memory.
 *
 * Theory of operation.  A reader sleeps in a blocking read() of one message.
 * That is one system call a fault less than the poll() and read() of the event
 * loops that it stands for, and measures cheaper, so it is the better opponent.
 * Then it maps the message's page or (SINGLE_WINDOW) the window around it that
 * is not mapped yet, which wakes the threads that wait for it.  Only one thread maps a
 * part, so its record of what is mapped needs no atomics.
 *
 * Stopping: a page of each reader's own, registered like the rest, is its doorbell.
 * The thread that stops us touches it, and the fault is the message to end.
 */
#include "baselines/handler.h"

#include "baselines/handler.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/page.h"
#include "engine/uffd.h"
#include "engine/uffd_open.h"
#include "engine/window.h"

#include <errno.h>
#include <faultlane/stats.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_READERS 4096u
#define STACK_BYTES (64u << 10)

/* What the thread knows of 2 MiB: a hint, as in the engine; faults are the truth. */
struct block {
	struct fln_mask mapped;
	uint32_t nr_faults;
};

/* Written by its thread alone while that runs; lines of caches are not shared. */
struct reader {
	_Alignas(128) struct fln_uffd uffd;
	struct fln_window_policy window;
	uint64_t addr; /* of its part */
	uint64_t len_bytes;
	void *doorbell;
	struct block *blocks;  /* NULL but with SINGLE_WINDOW */
	const char *copy_from; /* NULL: the page cache behind it is mapped */
	pthread_t thread;
	struct fln_handler_stats stats;
};

struct fln_handler {
	char *doorbells; /* a page for each */
	uint32_t nr_readers;
	uint32_t nr_started;
	struct reader readers[];
};

/* One writer; others read at any time. */
static void count(uint64_t *field, uint64_t n)
{
	__atomic_store_n(field, *field + n, __ATOMIC_RELAXED);
}

/*
 * The page has failed: a thread that touches it shall get a signal, not wait for
 * ever and not read zeros.
 */
static void fail_page(struct reader *r, uint64_t addr)
{
	uint64_t done;

	count(&r->stats.failed, 1);
	if (fln_uffd_can_poison(&r->uffd))
		(void)fln_uffd_poison(&r->uffd, addr, FLN_PAGE_BYTES, &done);
}

/*
 * The cache has no page at @addr: a hole, which is zero, since the contents are all
 * there.  One call for the whole of it, up to @len_bytes.  Return: how far it came.
 */
static uint64_t install_hole(struct reader *r, uint64_t addr, uint64_t len_bytes,
			     uint64_t fault_addr)
{
	uint64_t done;
	enum fln_uffd_result result = fln_uffd_zeropage(&r->uffd, addr, len_bytes, true, &done);

	if (fault_addr >= addr && fault_addr - addr < done)
		count(&r->stats.zero, 1);
	count(&r->stats.pages_installed, fln_bytes_to_pages(done));
	if (result == FLN_UFFD_OK || done > 0)
		return done;
	if (result == FLN_UFFD_PRESENT)
		fln_uffd_wake(&r->uffd, addr, FLN_PAGE_BYTES); /* failed calls wake nobody */
	else
		fail_page(r, addr);
	return FLN_PAGE_BYTES;
}

/* Map [addr, addr + len_bytes), holes as zeros, and wake the threads that wait there. */
static void install(struct reader *r, uint64_t addr, uint64_t len_bytes, uint64_t fault_addr)
{
	uint64_t end = addr + len_bytes;

	while (addr < end) {
		uint64_t done;
		enum fln_uffd_result result =
			r->copy_from
				? fln_uffd_copy(&r->uffd, addr, r->copy_from + (addr - r->addr),
						end - addr, true, &done)
				: fln_uffd_continue(&r->uffd, addr, end - addr, true, &done);

		count(&r->stats.pages_installed, fln_bytes_to_pages(done));
		addr += done;
		switch (result) {
		case FLN_UFFD_OK:
			return;
		case FLN_UFFD_PRESENT:
			count(&r->stats.pages_raced, 1);
			fln_uffd_wake(&r->uffd, addr, FLN_PAGE_BYTES);
			break;
		case FLN_UFFD_AGAIN:
			sched_yield(); /* no events are asked for: somebody is in mremap() or fork() */
			continue;
		case FLN_UFFD_NO_PAGE:
			addr += install_hole(r, addr, end - addr, fault_addr);
			continue;
		default:
			if (addr <= fault_addr)
				fail_page(r, fault_addr);
			return;
		}
		addr += FLN_PAGE_BYTES;
	}
}

/* Map what is not mapped of the window that holds @fault_addr. */
static void install_window(struct reader *r, uint64_t fault_addr)
{
	uint64_t offset_pages = fln_bytes_to_pages(fault_addr - r->addr);
	uint32_t page = (uint32_t)(offset_pages % FLN_BLOCK_PAGES);
	uint64_t block_pages = offset_pages - page;
	struct block *block = &r->blocks[block_pages / FLN_BLOCK_PAGES];
	uint64_t left_pages = fln_bytes_to_pages(r->len_bytes) - block_pages;
	struct fln_window w;
	struct fln_mask todo;
	uint32_t lo = 0, hi;

	if (fln_mask_test(&block->mapped, page)) {
		/*
		 * Woken before it ran, or taken away behind us: mapping it
		 * again tells, and wakes in either case.
		 */
		count(&r->stats.refaults, 1);
		install(r, fault_addr, FLN_PAGE_BYTES, fault_addr);
		return;
	}
	w = fln_window_for(&r->window, block->nr_faults++, page);
	if (w.hi > left_pages)
		w.hi = (uint32_t)left_pages;
	todo = fln_mask_range(w.lo, w.hi);
	todo = fln_mask_andnot(&todo, &block->mapped);
	block->mapped = fln_mask_or(&block->mapped, &todo);
	while (fln_mask_next_run(&todo, &lo, &hi)) {
		install(r, r->addr + fln_pages_to_bytes(block_pages + lo),
			fln_pages_to_bytes(hi - lo), fault_addr);
		lo = hi;
	}
}

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	for (;;) {
		struct uffd_msg msg;
		ssize_t got = fln_uffd_read(&r->uffd, &msg, 1);
		uint64_t read_ns, addr;

		if (got < 0)
			return NULL;
		if (got == 0 || msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		read_ns = fln_now_ns();
		addr = fln_align_down(msg.arg.pagefault.address, FLN_PAGE_BYTES);
		if (addr == (uint64_t)(uintptr_t)r->doorbell) {
			uint64_t done;

			(void)fln_uffd_zeropage(&r->uffd, addr, FLN_PAGE_BYTES, true, &done);
			return NULL;
		}
		FLN_ASSERT(addr - r->addr < r->len_bytes);
		count(&r->stats.reads, 1);
		count(&r->stats.faults, 1);
		if (r->blocks)
			install_window(r, addr);
		else
			install(r, addr, FLN_PAGE_BYTES, addr);
		fln_histogram_record(&r->stats.service, fln_now_ns() - read_ns);
	}
}

static int check_readers(const struct fln_handler_opts *opts)
{
	uint64_t max = fln_bytes_to_pages(opts->len_bytes);

	if (opts->design != FLN_HANDLER_PER_VCPU) {
		if (opts->nr_readers == 0 && !opts->reader_cpus)
			return 0;
		return fln_fail(EINVAL,
				"handler: %u readers; only one for each vCPU can be asked "
				"for, others have one",
				opts->nr_readers);
	}
	if (max > MAX_READERS)
		max = MAX_READERS;
	if (opts->nr_readers == 0 || opts->nr_readers > max)
		return fln_fail(EINVAL, "handler: %u readers; this memory can have 1 to %llu",
				opts->nr_readers, (unsigned long long)max);
	for (uint32_t i = 0; opts->reader_cpus && i < opts->nr_readers; i++) {
		if (opts->reader_cpus[i] >= CPU_SETSIZE)
			return fln_fail(EINVAL, "handler: processor %u for reader %u; use 0 to %d",
					opts->reader_cpus[i], i, CPU_SETSIZE - 1);
	}
	return 0;
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
	if (opts->copy_from && opts->design != FLN_HANDLER_SINGLE)
		return fln_fail(EINVAL, "handler: copies are made by FLN_HANDLER_SINGLE only");
	return check_readers(opts);
}

static int open_uffd(struct reader *r, bool user_mode_only)
{
	uint64_t need = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
	int rc = fln_uffd_open(&r->uffd, user_mode_only, need);
	int flags;

	if (rc)
		return rc;
	if ((r->uffd.features & need) != need)
		rc = fln_fail(EOPNOTSUPP,
			      "this kernel has no minor faults on shmem; use 5.14 or newer");
	flags = fcntl(r->uffd.fd, F_GETFL);
	if (!rc && (flags < 0 || fcntl(r->uffd.fd, F_SETFL, flags & ~O_NONBLOCK) < 0))
		rc = fln_fail(errno, "handler: cannot make the userfaultfd blocking");
	if (rc)
		fln_uffd_close(&r->uffd);
	return rc;
}

static int register_ranges(struct reader *r)
{
	uint64_t modes =
		UFFDIO_REGISTER_MODE_MISSING | (r->copy_from ? 0 : UFFDIO_REGISTER_MODE_MINOR);
	int rc = fln_uffd_register(&r->uffd, (uint64_t)(uintptr_t)r->doorbell, FLN_PAGE_BYTES,
				   UFFDIO_REGISTER_MODE_MISSING);

	if (rc)
		return fln_fail(-rc, "handler: cannot register a page of its own: %s",
				strerror(-rc));
	rc = fln_uffd_register(&r->uffd, r->addr, r->len_bytes, modes);
	if (rc)
		return fln_fail(-rc, "handler: cannot register %llu bytes at 0x%llx: %s",
				(unsigned long long)r->len_bytes, (unsigned long long)r->addr,
				strerror(-rc));
	return 0;
}

static int alloc_blocks(struct reader *r)
{
	uint64_t nr = fln_align_up(r->len_bytes, FLN_BLOCK_BYTES) / FLN_BLOCK_BYTES;

	r->blocks = calloc(nr, sizeof(*r->blocks));
	if (!r->blocks)
		return fln_fail(ENOMEM, "handler: no memory for %llu blocks",
				(unsigned long long)nr);
	return 0;
}

/* Its processor, or NULL: any. */
static int start_thread(struct reader *r, const uint32_t *cpu)
{
	pthread_attr_t attr;
	cpu_set_t set;
	int rc = -pthread_attr_init(&attr);

	if (rc)
		return fln_fail(-rc, "handler: cannot start a thread: %s", strerror(-rc));
	CPU_ZERO(&set);
	if (cpu)
		CPU_SET(*cpu, &set);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (cpu)
		rc = -pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (!rc)
		rc = -pthread_create(&r->thread, &attr, reader_main, r);
	(void)pthread_attr_destroy(&attr);
	if (rc == -EINVAL && cpu)
		return fln_fail(EINVAL,
				"handler: no thread of this process may run on processor %u", *cpu);
	return rc ? fln_fail(-rc, "handler: cannot start a thread: %s", strerror(-rc)) : 0;
}

static int start_reader(struct fln_handler *h, const struct fln_handler_opts *opts)
{
	uint32_t i = h->nr_started;
	struct reader *r = &h->readers[i];
	uint64_t pages = fln_bytes_to_pages(opts->len_bytes);
	uint64_t lo = pages * i / h->nr_readers, hi = pages * (i + 1) / h->nr_readers;
	int rc;

	r->addr = (uint64_t)(uintptr_t)opts->addr + fln_pages_to_bytes(lo);
	r->len_bytes = fln_pages_to_bytes(hi - lo);
	r->doorbell = h->doorbells + fln_pages_to_bytes(i);
	r->copy_from = opts->copy_from;
	rc = fln_window_policy_init(&r->window,
				    opts->kvm ? fln_window_first_kvm(opts->window_first,
								     opts->window_max)
					      : opts->window_first,
				    opts->window_max);
	if (!rc && opts->design == FLN_HANDLER_SINGLE_WINDOW)
		rc = alloc_blocks(r);
	if (!rc)
		rc = open_uffd(r, opts->user_mode_only);
	if (rc)
		goto out_free;
	rc = register_ranges(r);
	if (!rc)
		rc = start_thread(r, opts->reader_cpus ? &opts->reader_cpus[i] : NULL);
	if (rc)
		goto out_close;
	h->nr_started++;
	return 0;

out_close:
	fln_uffd_close(&r->uffd);
out_free:
	free(r->blocks);
	return rc;
}

int fln_handler_start(const struct fln_handler_opts *opts, struct fln_handler **out)
{
	uint32_t nr = opts->design == FLN_HANDLER_PER_VCPU ? opts->nr_readers : 1;
	struct fln_handler *h;
	size_t size;
	int rc = check_opts(opts);

	if (rc)
		return rc;
	size = sizeof(*h) + nr * sizeof(h->readers[0]);
	h = aligned_alloc(_Alignof(struct reader), size);
	if (!h)
		return fln_fail(ENOMEM, "handler: out of memory for %u readers", nr);
	memset(h, 0, size);
	h->nr_readers = nr;
	h->doorbells = mmap(NULL, fln_pages_to_bytes(nr), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h->doorbells == MAP_FAILED) {
		rc = fln_fail(errno, "handler: cannot map %u pages of its own", nr);
		free(h);
		return rc;
	}
	while (!rc && h->nr_started < nr)
		rc = start_reader(h, opts);
	if (rc)
		fln_handler_stop(h);
	else
		*out = h;
	return rc;
}

static void add_stats(struct fln_handler_stats *to, const struct reader *r)
{
	to->faults += __atomic_load_n(&r->stats.faults, __ATOMIC_RELAXED);
	to->refaults += __atomic_load_n(&r->stats.refaults, __ATOMIC_RELAXED);
	to->zero += __atomic_load_n(&r->stats.zero, __ATOMIC_RELAXED);
	to->failed += __atomic_load_n(&r->stats.failed, __ATOMIC_RELAXED);
	to->pages_installed += __atomic_load_n(&r->stats.pages_installed, __ATOMIC_RELAXED);
	to->pages_raced += __atomic_load_n(&r->stats.pages_raced, __ATOMIC_RELAXED);
	to->reads += __atomic_load_n(&r->stats.reads, __ATOMIC_RELAXED);
	to->installs += atomic_load_explicit(&r->uffd.nr_calls, memory_order_relaxed);
	to->wakes += atomic_load_explicit(&r->uffd.nr_wakes, memory_order_relaxed);
	fln_histogram_merge(&to->service, &r->stats.service);
}

void fln_handler_stats(const struct fln_handler *h, struct fln_handler_stats *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < h->nr_readers; i++)
		add_stats(out, &h->readers[i]);
}

void fln_handler_stop(struct fln_handler *h)
{
	if (!h)
		return;
	for (uint32_t i = 0; i < h->nr_started; i++)
		*(volatile char *)h->readers[i].doorbell = 1;
	for (uint32_t i = 0; i < h->nr_started; i++) {
		(void)pthread_join(h->readers[i].thread, NULL);
		fln_uffd_close(&h->readers[i].uffd);
		free(h->readers[i].blocks);
	}
	(void)munmap(h->doorbells, fln_pages_to_bytes(h->nr_readers));
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
