/* SPDX-License-Identifier: MIT */
/*
 * What malloc() does in a process with many threads: memory is mapped and unmapped all the time,
 * and the kernel uses the first hole that is large enough, which may be a place that a region has
 * just left.  The end of a region must not unmap, protect or map over such memory.
 */
#include "stress/chaos_addresses.h"

#include "stress/chaos_regions.h"
#include "stress/complain.h"
#include "stress/stress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define NR_MAPPINGS 64u
#define REGIONS 4u /* removed per step */
#define WORDS 16u  /* checked per mapping */

struct mapping {
	char *addr;
	uint64_t len_bytes; /* 0: not mapped */
	uint64_t word;      /* the value at WORDS places */
};

struct mapper {
	struct stress *s;
	struct rng rng;
	_Atomic bool stop;
};

static struct mapping mappings[NR_MAPPINGS];

/* By a system call, because a touch of unmapped memory would raise a signal. */
static bool read_word(const char *at, uint64_t *word)
{
	struct iovec to = { .iov_base = word, .iov_len = sizeof(*word) };
	struct iovec from = { .iov_base = (void *)(uintptr_t)at, .iov_len = sizeof(*word) };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)sizeof(*word);
}

static void check(struct stress *s, const struct mapping *m)
{
	for (uint64_t i = 0; i < WORDS; i++) {
		const char *at = m->addr + m->len_bytes / WORDS * i;
		uint64_t word = 0;

		if (!read_word(at, &word))
			complain(s, "memory of the process's own at %p cannot be read any more",
				 (const void *)at);
		else if (word != m->word)
			complain(s,
				 "memory of the process's own at %p reads %016llx, and %016llx was "
				 "written there",
				 (const void *)at, (unsigned long long)word,
				 (unsigned long long)m->word);
		else
			continue;
		return;
	}
}

static bool write_words(const struct mapping *m)
{
	for (uint64_t i = 0; i < WORDS; i++) {
		uint64_t word = m->word;
		struct iovec from = { .iov_base = &word, .iov_len = sizeof(word) };
		struct iovec to = { .iov_base = m->addr + m->len_bytes / WORDS * i,
				    .iov_len = sizeof(word) };

		if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) != (ssize_t)sizeof(word))
			return false;
	}
	return true;
}

static void map(struct stress *s, struct mapping *m, struct rng *rng)
{
	uint64_t len = (1 + rng_below(rng, rng_below(rng, 2) ? 16 : 1500)) * PAGE_BYTES;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return; /* another kind of chaos has used up mappings or memory */
	*m = (struct mapping){ .addr = p, .len_bytes = len, .word = rng_next(rng) };
	if (!write_words(m))
		complain(s, "memory of the process's own at %p cannot be written any more", p);
}

static void *mapper_main(void *arg)
{
	struct mapper *t = arg;

	while (!atomic_load(&t->stop)) {
		struct mapping *m = &mappings[rng_below(&t->rng, NR_MAPPINGS)];

		if (m->len_bytes) {
			check(t->s, m);
			(void)munmap(m->addr, m->len_bytes);
			m->len_bytes = 0;
		} else {
			map(t->s, m, &t->rng);
		}
	}
	return NULL;
}

bool chaos_addresses(struct stress *s, struct rng *rng)
{
	struct mapper mapper = { .s = s, .rng = { rng_next(rng) } };
	pthread_t thread;
	bool ok = true;

	if (pthread_create(&thread, NULL, mapper_main, &mapper) != 0)
		return false;
	for (uint32_t i = 0; ok && i < REGIONS; i++)
		ok = extra_given_up(s, rng);
	atomic_store(&mapper.stop, true);
	(void)pthread_join(thread, NULL);
	return ok;
}
