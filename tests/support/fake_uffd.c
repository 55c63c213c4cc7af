/* SPDX-License-Identifier: MIT */
/* A fake kernel behind struct fln_uffd_ops; what it imitates is in fake_uffd.h. */
#include "tests/support/fake_uffd.h"

#include "tests/support/fake_uffd.h"

#include "base/error.h"
#include "base/page.h"
#include "engine/life/deny_kernel.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define NR_FAKES 16
#define PAGE_WORDS (FLN_PAGE_BYTES / sizeof(uint64_t))
#define DONTWAKE UINT64_C(1) /* the same bit in all four calls */

static struct fake_uffd *fakes[NR_FAKES];

static struct fake_uffd *fake_of(const struct fln_uffd *u)
{
	FLN_ASSERT(u->fd >= 0 && u->fd < NR_FAKES && fakes[u->fd]);
	return fakes[u->fd];
}

/* NULL outside of the fake. */
struct fake_page *fake_page(struct fake_uffd *f, uint64_t addr)
{
	uint64_t at = fln_bytes_to_pages(addr - f->addr);

	return addr >= f->addr && at < f->nr_pages ? &f->pages[at] : NULL;
}

bool fake_in_cache(const struct fake_page *page)
{
	off_t at = (off_t)fln_pages_to_bytes(page->file_page);

	return page->fd >= 0 && lseek(page->fd, at, SEEK_DATA) == at;
}

static uint64_t word_of(const uint64_t *words)
{
	for (uint32_t i = 1; i < PAGE_WORDS; i++) {
		if (words[i] != words[0])
			return FAKE_TORN;
	}
	return words[0];
}

uint64_t fake_contents(const struct fake_page *page)
{
	uint64_t words[PAGE_WORDS];

	if (page->fd < 0 || page->own)
		return page->value;
	FLN_ASSERT(pread(page->fd, words, sizeof(words),
			 (off_t)fln_pages_to_bytes(page->file_page)) == (ssize_t)sizeof(words));
	return word_of(words);
}

/* Nobody is asked: the page cache's, or zeros, which a shared mapping puts there. */
static void map_plainly(struct fake_page *page)
{
	static const uint64_t zeros[PAGE_WORDS];

	if (page->fd >= 0 && !fake_in_cache(page))
		FLN_ASSERT(pwrite(page->fd, zeros, sizeof(zeros),
				  (off_t)fln_pages_to_bytes(page->file_page)) ==
			   (ssize_t)sizeof(zeros));
	if (page->fd < 0)
		page->value = 0;
	page->pte = FAKE_MAPPED;
}

static void touch(struct fake_uffd *f, struct fake_thread *t)
{
	struct fake_page *page = fake_page(f, t->addr);

	if (page && page->vma && page->plain && !page->denied && page->pte == FAKE_ABSENT)
		map_plainly(page);
	if (!page || !page->vma || page->denied || page->pte == FAKE_POISONED) {
		t->state = FAKE_KILLED;
	} else if (page->pte == FAKE_MAPPED && !page->wp) {
		t->state = FAKE_READ;
		t->value = fake_contents(page);
	} else {
		t->state = FAKE_QUEUED;
		t->seq = f->seq++;
		t->nr_faults++;
	}
}

void fake_protect(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct fake_page *page = fake_page(f, addr + fln_pages_to_bytes(i));

		if (page && page->pte == FAKE_MAPPED && !page->plain)
			page->wp = true;
	}
}

uint32_t fake_touch(struct fake_uffd *f, uint64_t addr)
{
	uint32_t i = 0;

	while (i < FAKE_MAX_THREADS && f->threads[i].state != FAKE_IDLE)
		i++;
	FLN_ASSERT(i < FAKE_MAX_THREADS);
	memset(&f->threads[i], 0, sizeof(f->threads[i]));
	f->threads[i].addr = addr;
	touch(f, &f->threads[i]);
	return i;
}

void fake_reap(struct fake_uffd *f, uint32_t thread)
{
	FLN_ASSERT(f->threads[thread].state == FAKE_READ ||
		   f->threads[thread].state == FAKE_KILLED);
	f->threads[thread].state = FAKE_IDLE;
}

static void wake(struct fake_uffd *f, uint64_t start, uint64_t len_bytes)
{
	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		struct fake_thread *t = &f->threads[i];

		if ((t->state == FAKE_QUEUED || t->state == FAKE_WAITING) && t->addr >= start &&
		    t->addr - start < len_bytes)
			t->state = FAKE_WOKEN;
	}
}

static void zap(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, bool punch)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct fake_page *page = fake_page(f, addr + fln_pages_to_bytes(i));

		if (!page || !page->vma)
			continue;
		/* A hole in the file takes nobody's own copy away; zeros go. */
		if (!punch || !page->own || page->value == 0) {
			page->pte = FAKE_ABSENT;
			page->wp = false;
			page->own = false;
			page->value = 0;
		}
		if (punch && page->fd >= 0)
			FLN_ASSERT(fallocate(page->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					     (off_t)fln_pages_to_bytes(page->file_page),
					     (off_t)FLN_PAGE_BYTES) == 0);
	}
}

void fake_run(struct fake_uffd *f)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < f->nr_events; i++) {
		const struct fake_event *e = &f->events[i];

		if (!e->read)
			f->events[kept++] = *e;
		else if (e->zap)
			zap(f, e->msg.arg.remove.start,
			    fln_bytes_to_pages(e->msg.arg.remove.end - e->msg.arg.remove.start),
			    e->punch);
	}
	f->nr_events = kept;
	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
		if (f->threads[i].state == FAKE_WOKEN)
			touch(f, &f->threads[i]);
	}
}

static struct fake_event *add_event(struct fake_uffd *f, uint8_t kind)
{
	struct fake_event *e = &f->events[f->nr_events];

	FLN_ASSERT(f->nr_events < FAKE_MAX_EVENTS);
	f->nr_events++;
	memset(e, 0, sizeof(*e));
	e->msg.event = kind;
	return e;
}

void fake_discard(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, bool punch)
{
	struct fake_event *e = add_event(f, UFFD_EVENT_REMOVE);

	e->msg.arg.remove.start = addr;
	e->msg.arg.remove.end = addr + fln_pages_to_bytes(nr_pages);
	e->zap = true;
	e->punch = punch;
}

void fake_unmap(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages)
{
	struct fake_event *e = add_event(f, UFFD_EVENT_UNMAP);

	e->msg.arg.remove.start = addr;
	e->msg.arg.remove.end = addr + fln_pages_to_bytes(nr_pages);
	zap(f, addr, nr_pages, false);
	for (uint64_t i = 0; i < nr_pages; i++)
		fake_page(f, addr + fln_pages_to_bytes(i))->vma = false;
}

void fake_remap(struct fake_uffd *f, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct fake_event *e = add_event(f, UFFD_EVENT_REMAP);

	e->msg.arg.remap.from = from;
	e->msg.arg.remap.to = to;
	e->msg.arg.remap.len = fln_pages_to_bytes(nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct fake_page *a = fake_page(f, from + fln_pages_to_bytes(i));
		struct fake_page *b = fake_page(f, to + fln_pages_to_bytes(i));

		*b = *a;
		memset(a, 0, sizeof(*a));
	}
}

void fake_zap(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages)
{
	zap(f, addr, nr_pages, false);
}

void fake_punch(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages)
{
	zap(f, addr, nr_pages, true);
}

static ssize_t read_messages(struct fln_uffd *u, struct uffd_msg *msgs, uint32_t nr)
{
	struct fake_uffd *f = fake_of(u);
	uint32_t got = 0;

	if (f->read_errno)
		return -f->read_errno;
	while (got < nr) {
		struct fake_thread *oldest = NULL;

		for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++) {
			struct fake_thread *t = &f->threads[i];

			if (t->state == FAKE_QUEUED && (!oldest || t->seq < oldest->seq))
				oldest = t;
		}
		if (!oldest)
			break;
		memset(&msgs[got], 0, sizeof(msgs[got]));
		msgs[got].event = UFFD_EVENT_PAGEFAULT;
		msgs[got].arg.pagefault.address = oldest->addr;
		if (fake_page(f, oldest->addr)->pte == FAKE_MAPPED)
			msgs[got].arg.pagefault.flags =
				fake_page(f, oldest->addr)->wp ? UFFD_PAGEFAULT_FLAG_WP : 0;
		else if (fake_in_cache(fake_page(f, oldest->addr)))
			msgs[got].arg.pagefault.flags = UFFD_PAGEFAULT_FLAG_MINOR;
		msgs[got].arg.pagefault.flags |= f->flags;
		oldest->state = FAKE_WAITING;
		got++;
	}
	for (uint32_t i = 0; i < f->nr_events && got < nr; i++) {
		if (f->events[i].read)
			continue;
		f->events[i].read = true;
		f->events[i].again = f->again_after_read;
		msgs[got++] = f->events[i].msg;
	}
	if (got > 0 && f->on_read)
		f->on_read(f->ctx);
	return (ssize_t)got;
}

/* An event is unread, or its thread has not run since. */
static bool is_put_off(struct fake_uffd *f)
{
	bool put_off = false;

	for (uint32_t i = 0; i < f->nr_events; i++) {
		struct fake_event *e = &f->events[i];

		if (!e->read || e->again)
			put_off = true;
		if (e->read && e->again)
			e->again--;
	}
	return put_off;
}

static int injected(struct fake_uffd *f, const struct uffdio_range *range)
{
	if (f->process_gone)
		return ESRCH;
	if (f->fail_in == 0 || --f->fail_in > 0)
		return 0;
	for (uint64_t at = 0; f->on_injected && at < range->len; at += FLN_PAGE_BYTES)
		f->on_injected(f->ctx, range->start + at, f->fail_errno);
	if (f->fail_times > 1) {
		f->fail_times--;
		f->fail_in = 1;
	}
	return f->fail_errno;
}

static bool is_one_mapping(struct fake_uffd *f, uint64_t start, uint64_t nr_pages)
{
	const struct fake_page *first = fake_page(f, start);

	for (uint64_t i = 0; i < nr_pages; i++) {
		const struct fake_page *page = fake_page(f, start + fln_pages_to_bytes(i));

		if (!page || !page->vma || page->plain || page->fd != first->fd ||
		    (page->fd >= 0 && page->file_page != first->file_page + i))
			return false;
	}
	return true;
}

static void map_page(struct fake_uffd *f, struct fake_page *page)
{
	f->nr_unpoisoned += page->pte == FAKE_POISONED;
	if (page->pte == FAKE_POISONED && f->on_unpoison)
		f->on_unpoison(f->ctx, f->addr + fln_pages_to_bytes((uint64_t)(page - f->pages)));
	page->pte = FAKE_MAPPED;
}

/* 0 or the errno of one page. */
static int install_page(struct fake_uffd *f, enum fake_call call, struct fake_page *page,
			const void *src)
{
	static const uint64_t zeros[PAGE_WORDS];

	if (page->pte == FAKE_MAPPED)
		return EEXIST;
	switch (call) {
	case FAKE_CONTINUE:
		if (!fake_in_cache(page))
			return EFAULT;
		break;
	case FAKE_COPY:
		/* Of a private mapping it makes the page its own, over poison too. */
		if (!page->is_private && (page->fd >= 0 || page->pte == FAKE_POISONED))
			return EEXIST;
		page->value = word_of(src);
		page->own = page->is_private;
		break;
	case FAKE_ZEROPAGE:
		if (page->is_private || page->fd < 0 ? page->pte != FAKE_ABSENT
						     : fake_in_cache(page))
			return EEXIST;
		page->value = 0;
		page->own = page->is_private;
		if (page->fd >= 0 && !page->is_private)
			FLN_ASSERT(pwrite(page->fd, zeros, sizeof(zeros),
					  (off_t)fln_pages_to_bytes(page->file_page)) ==
				   (ssize_t)sizeof(zeros));
		break;
	case FAKE_POISON:
	default:
		if (page->pte == FAKE_POISONED)
			return EEXIST;
		page->pte = FAKE_POISONED;
		if (f->on_poison)
			f->on_poison(f->ctx,
				     f->addr + fln_pages_to_bytes((uint64_t)(page - f->pages)));
		return 0;
	}
	map_page(f, page);
	return 0;
}

static int install(struct fake_uffd *f, enum fake_call call, const struct uffdio_range *range,
		   uint64_t mode, uint64_t src, int64_t *done)
{
	uint64_t nr = fln_bytes_to_pages(range->len), at = 0;
	int err;

	f->nr_calls[call]++;
	f->last_start = range->start;
	f->last_len = range->len;
	if (nr == 0 || !fln_is_aligned(range->start | range->len, FLN_PAGE_BYTES))
		err = EINVAL;
	else if (is_put_off(f))
		err = EAGAIN;
	else if ((err = injected(f, range)) == 0 && !is_one_mapping(f, range->start, nr))
		err = ENOENT;
	else if (err == 0 && f->has_huge &&
		 !fln_is_aligned(range->start | range->len, FLN_BLOCK_BYTES))
		err = EINVAL;
	while (err == 0 && at < nr) {
		uint64_t addr = range->start + fln_pages_to_bytes(at);

		err = install_page(f, call, fake_page(f, addr),
				   (const void *)(uintptr_t)(src + fln_pages_to_bytes(at)));
		if (err)
			break;
		/* What is copied into a private mapping are zeros, and none of its file's. */
		if (f->on_map && (call == FAKE_CONTINUE ||
				  (call == FAKE_COPY && !fake_page(f, addr)->is_private)))
			f->on_map(f->ctx, addr);
		at++;
		if (at == f->max_pages)
			break;
	}
	f->nr_pages_done[call] += (uint32_t)at;
	if (at == 0) {
		*done = -err;
		return -err;
	}
	*done = (int64_t)fln_pages_to_bytes(at);
	if (!(mode & DONTWAKE))
		wake(f, range->start, fln_pages_to_bytes(at));
	return at == nr ? 0 : -EAGAIN;
}

/* A copy from where nothing can be read only asks what is at its target. */
static bool is_readable(uint64_t addr)
{
	uint64_t word;
	struct iovec to = { .iov_base = &word, .iov_len = sizeof(word) };
	struct iovec from = { .iov_base = (void *)(uintptr_t)addr, .iov_len = sizeof(word) };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)sizeof(word);
}

/* What such a copy comes to: no trouble gets in its way. */
static int tell_place(struct fake_uffd *f, const struct uffdio_range *range)
{
	const struct fake_page *page = fake_page(f, range->start);

	if (is_put_off(f))
		return -EAGAIN;
	if (f->process_gone)
		return -ESRCH;
	if (!page || !page->vma || page->plain)
		return -ENOENT;
	return f->has_huge ? -EINVAL : -EFAULT;
}

static int do_ioctl(struct fln_uffd *u, unsigned long request, void *arg)
{
	struct fake_uffd *f = fake_of(u);

	if (f->closed)
		return -EBADF;
	if (request == UFFDIO_CONTINUE) {
		struct uffdio_continue *a = arg;

		return install(f, FAKE_CONTINUE, &a->range, a->mode, 0, (int64_t *)&a->mapped);
	}
	if (request == UFFDIO_COPY) {
		struct uffdio_copy *a = arg;
		struct uffdio_range range = { .start = a->dst, .len = a->len };

		if (!is_readable(a->src))
			return tell_place(f, &range);
		return install(f, FAKE_COPY, &range, a->mode, a->src, (int64_t *)&a->copy);
	}
	if (request == UFFDIO_ZEROPAGE) {
		struct uffdio_zeropage *a = arg;

		return install(f, FAKE_ZEROPAGE, &a->range, a->mode, 0, (int64_t *)&a->zeropage);
	}
	if (request == UFFDIO_POISON) {
		struct uffdio_poison *a = arg;

		return install(f, FAKE_POISON, &a->range, a->mode, 0, (int64_t *)&a->updated);
	}
	if (request == UFFDIO_WRITEPROTECT) {
		const struct uffdio_writeprotect *a = arg;

		f->nr_unprotects++;
		if (f->process_gone)
			return -ESRCH;
		if (f->unprotect_errno)
			return -f->unprotect_errno;
		if (is_put_off(f))
			return -EAGAIN;
		for (uint64_t at = 0; at < a->range.len; at += FLN_PAGE_BYTES)
			fake_page(f, a->range.start + at)->wp = false;
		wake(f, a->range.start, a->range.len);
		return 0;
	}
	if (request == UFFDIO_WAKE) {
		const struct uffdio_range *a = arg;

		f->nr_wake_calls++;
		wake(f, a->start, a->len);
		return 0;
	}
	if (request == UFFDIO_REGISTER) {
		struct uffdio_register *a = arg;

		f->nr_registers++;
		a->ioctls = UINT64_C(1) << _UFFDIO_POISON;
		return 0;
	}
	if (request == UFFDIO_UNREGISTER) {
		const struct uffdio_range *a = arg;

		f->nr_unregisters++;
		/* Wakes before it takes the mapping's lock: faults may come in between. */
		wake(f, a->start, a->len);
		if (f->on_unregister)
			f->on_unregister(f->ctx, a->start, a->len);
		if (f->process_gone)
			return -ENOMEM;
		for (uint64_t at = 0; at < a->len; at += FLN_PAGE_BYTES) {
			struct fake_page *page = fake_page(f, a->start + at);

			if (f->unregister_errno && a->start + at >= f->unregister_stop)
				return -f->unregister_errno;
			if (!page || !page->vma)
				continue;
			page->plain = true;
			page->wp = false;
			if (f->on_plain)
				f->on_plain(f->ctx, a->start + at);
		}
		return 0;
	}
	return -EINVAL;
}

static void do_close(struct fln_uffd *u)
{
	fake_of(u)->closed = true;
}

static bool do_is_empty(struct fln_uffd *u, uint64_t addr)
{
	return fake_page(fake_of(u), addr)->pte == FAKE_ABSENT;
}

static int do_deny(struct fln_uffd *u, uint64_t addr, uint64_t len_bytes)
{
	struct fake_uffd *f = fake_of(u);

	f->nr_denied++;
	if (f->deny_errno)
		return -f->deny_errno;
	for (uint64_t at = addr; at < addr + len_bytes; at += FLN_PAGE_BYTES) {
		fake_page(f, at)->denied = true;
		if (f->on_deny)
			f->on_deny(f->ctx, at);
	}
	return 0;
}

static const struct fln_uffd_ops fake_ops = {
	.deny = do_deny,
	.is_empty = do_is_empty,
	.read = read_messages,
	.ioctl = do_ioctl,
	.close = do_close,
};

static struct fake_uffd *fake_below(const struct fln_region *r)
{
	return fake_of(&r->guest->shards[0].uffd);
}

static int memory_each(struct fln_region *r,
		       int (*fn)(struct fln_region *r, uint64_t addr, uint64_t len_bytes))
{
	struct fake_uffd *f = fake_below(r);
	uint64_t end = r->addr + r->len_bytes, lo = r->addr, hi;
	int rc = 0, first_rc = 0;

	if (f->maps_unknown)
		return -EMFILE;
	for (; lo < end; lo = hi + FLN_PAGE_BYTES) {
		for (hi = lo; hi < end && fake_page(f, hi)->vma; hi += FLN_PAGE_BYTES)
			;
		rc = hi > lo ? fn(r, lo, hi - lo) : 0;
		first_rc = first_rc ? first_rc : rc;
	}
	return first_rc;
}

static int memory_vacate(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	struct fake_uffd *f = fake_below(r);
	int rc = do_deny(&r->guest->shards[0].uffd, addr, len_bytes);

	for (uint64_t at = addr; rc == 0 && at < addr + len_bytes; at += FLN_PAGE_BYTES)
		fake_page(f, at)->vacated = true;
	return rc;
}

static int memory_zero(struct fln_region *r, uint64_t addr, uint64_t len_bytes)
{
	struct fake_uffd *f = fake_below(r);

	for (uint64_t at = addr; at < addr + len_bytes; at += FLN_PAGE_BYTES) {
		struct fake_page *page = fake_page(f, at);

		page->fd = -1;
		page->pte = FAKE_MAPPED;
		page->value = 0;
	}
	return 0;
}

static bool memory_own(struct fln_region *r, uint64_t addr, struct fln_mask *own)
{
	struct fake_uffd *f = fake_below(r);

	memset(own, 0, sizeof(*own));
	for (uint32_t i = 0; i < FLN_BLOCK_PAGES; i++) {
		const struct fake_page *page = fake_page(f, addr + fln_pages_to_bytes(i));

		if (page && page->vma && page->pte == FAKE_MAPPED && page->own && page->value)
			fln_mask_set(own, i);
	}
	return true;
}

const struct fln_memory_ops fake_memory = {
	.each = memory_each,
	.vacate = memory_vacate,
	.zero = memory_zero,
	.own = memory_own,
};

void fake_init(struct fake_uffd *f, struct fln_uffd *u, uint64_t addr, uint64_t nr_pages)
{
	int fd = 0;

	while (fd < NR_FAKES && fakes[fd])
		fd++;
	FLN_ASSERT(fd < NR_FAKES);
	memset(f, 0, sizeof(*f));
	f->addr = addr;
	f->nr_pages = nr_pages;
	f->pages = calloc(nr_pages, sizeof(*f->pages));
	FLN_ASSERT(f->pages);
	f->fd = fd;
	fakes[fd] = f;
	memset(u, 0, sizeof(*u));
	u->fd = fd;
	u->ops = &fake_ops;
	u->range_ioctls = UINT64_C(1) << _UFFDIO_POISON;
}

void fake_deinit(struct fake_uffd *f)
{
	fakes[f->fd] = NULL;
	free(f->pages);
}

void fake_map(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, int fd, uint64_t file_page)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		struct fake_page *page = fake_page(f, addr + fln_pages_to_bytes(i));

		FLN_ASSERT(page && !page->vma);
		page->vma = true;
		page->denied = false;
		page->pte = FAKE_ABSENT;
		page->fd = fd;
		page->file_page = file_page + i;
	}
}

void fake_map_private(struct fake_uffd *f, uint64_t addr, uint64_t nr_pages, int fd,
		      uint64_t file_page)
{
	fake_map(f, addr, nr_pages, fd, file_page);
	for (uint64_t i = 0; i < nr_pages; i++)
		fake_page(f, addr + fln_pages_to_bytes(i))->is_private = true;
}

void fake_write(struct fake_uffd *f, uint64_t addr, uint64_t value)
{
	struct fake_page *page = fake_page(f, addr);
	uint64_t words[PAGE_WORDS];

	FLN_ASSERT(page && page->vma && page->pte == FAKE_MAPPED);
	if (page->fd < 0 || page->is_private) {
		page->own = page->is_private;
		page->value = value;
		return;
	}
	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		words[i] = value;
	FLN_ASSERT(pwrite(page->fd, words, sizeof(words),
			  (off_t)fln_pages_to_bytes(page->file_page)) == (ssize_t)sizeof(words));
}

uint32_t fake_count(const struct fake_uffd *f, enum fake_thread_state state)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < FAKE_MAX_THREADS; i++)
		nr += f->threads[i].state == state;
	return nr;
}

uint32_t fake_nr_mapped(const struct fake_uffd *f)
{
	uint32_t nr = 0;

	for (uint64_t i = 0; i < f->nr_pages; i++)
		nr += f->pages[i].pte == FAKE_MAPPED;
	return nr;
}

uint32_t fake_nr_installs(const struct fake_uffd *f)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < FAKE_NR_CALLS; i++)
		nr += f->nr_calls[i];
	return nr;
}

bool fake_event_pending(const struct fake_uffd *f)
{
	return f->nr_events > 0;
}
