/* SPDX-License-Identifier: MIT */
/*
 * What goes wrong: a thread per kind, which takes a step now and then.
 *
 * Steps read-lock the world; who takes the guest down write-locks it.  All that is
 * random comes from the seed and the number of the step, so that a kind takes the same
 * steps again; when they fall between the touches is the scheduler's affair.
 */
#include "stress/stress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define RUN_MAX 64u

typedef bool (*chaos_fn)(struct stress *s, struct rng *rng);

static char *base_of(struct stress *s)
{
	return atomic_load(&s->base);
}

/* Begin to give a run up; returns how many pages of it could be begun. */
static uint32_t begin_run(struct stress *s, uint64_t page, uint32_t nr)
{
	uint32_t n = 0;

	while (n < nr && page + n < s->nr_pages && !stress_is_dead(s, page + n) &&
	       model_begin_discard(&s->model, page + n))
		n++;
	return n;
}

static void end_run(struct stress *s, uint64_t page, uint32_t nr, enum discard_effect effect)
{
	for (uint32_t i = 0; i < nr; i++)
		model_end_discard(&s->model, page + i, effect);
}

void chaos_leave_trail(struct stress *s, uint64_t page, uint32_t nr)
{
	uint32_t i = atomic_fetch_add_explicit(&s->trail_next, 1, memory_order_relaxed);

	atomic_store_explicit(&s->trail[i % TRAIL_NR], page << 8 | (nr > 255 ? 255 : nr),
			      memory_order_relaxed);
}

/* Each region's part of its own image. */
static int discard_images(struct stress *s, uint64_t page, uint64_t nr)
{
	int rc = 0;

	while (rc == 0 && nr > 0) {
		const struct segment *g = layout_at(&s->layout, page);
		uint64_t n = layout_clip(g, page, nr);

		rc = fln_image_discard(memory_image(s, g), layout_offset(g, page), n * PAGE_BYTES);
		page += n;
		nr -= n;
	}
	return rc;
}

static bool discard_run(struct stress *s, uint64_t page, uint32_t nr, uint32_t how)
{
	enum discard_effect effect = DISCARD_ZEROES;
	char *at = base_of(s) + page * PAGE_BYTES;
	size_t len = (size_t)nr * PAGE_BYTES;
	int rc;

	if (s->opts.is_private) {
		effect = s->opts.in_context ? DISCARD_TO_IMAGE : DISCARD_ZEROES;
		rc = madvise(at, len, MADV_DONTNEED);
	} else if (how == 0) {
		effect = DISCARD_KEEPS;
		rc = madvise(at, len, MADV_DONTNEED);
	} else if (how == 1) {
		rc = madvise(at, len, MADV_REMOVE);
	} else {
		rc = discard_images(s, page, nr);
	}
	/* Half-done it may be: then both is possible. */
	end_run(s, page, nr, rc == 0 ? effect : DISCARD_KEEPS);
	if (rc)
		complain(s, "discard %u of %u pages at %llu: %s", how, nr, (unsigned long long)page,
			 strerror(errno));
	return rc == 0;
}

/*
 * Somebody puts pages of zeros into the cache behind the engine, as a child or another
 * mapping does that touches them: what has no page there gets one, nothing else changes,
 * and nobody may ever read these zeros where contents are due.
 */
static bool populate_behind(struct stress *s, uint64_t page, uint32_t nr, bool by_touch)
{
	const struct segment *g = layout_at(&s->layout, page);
	size_t len;
	off_t at;
	bool done;
	void *p;
	int fd;

	if (!g)
		return false;
	fd = fln_image_memfd(memory_image(s, g));
	at = (off_t)layout_offset(g, page);
	len = layout_clip(g, page, nr) * PAGE_BYTES;
	if (!by_touch)
		return fallocate(fd, 0, at, (off_t)len) == 0;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
	if (p == MAP_FAILED)
		return false;
	done = madvise(p, len, MADV_POPULATE_WRITE) == 0;
	(void)munmap(p, len);
	return done;
}

static bool chaos_discard(struct stress *s, struct rng *rng)
{
	uint64_t page = rng_below(rng, s->nr_pages);
	uint32_t nr = 1 + (uint32_t)rng_below(rng, RUN_MAX), how = (uint32_t)rng_below(rng, 5);
	bool early = rng_below(rng, 2), done;

	/* Most of what is cold is not filled. */
	if (rng_below(rng, 2))
		page = (page + s->nr_pages) / 2;
	if (s->layout.nr_segments > 1 && rng_below(rng, 3) == 0)
		page = s->layout.segments[rng_below(rng, s->layout.nr_segments)].first +
		       rng_below(rng, HUGE_PAGES);
	page %= s->nr_pages;
	if (s->opts.huge) {
		page &= ~(HUGE_PAGES - 1);
		nr = HUGE_PAGES;
	}
	/* They come while it happens, or find what has become of it. */
	if (early)
		chaos_leave_trail(s, page, nr);
	if (how >= 3) {
		done = populate_behind(s, page, nr, how == 4 && !s->opts.huge);
	} else {
		nr = begin_run(s, page, nr);
		if (s->opts.huge && nr < HUGE_PAGES) {
			end_run(s, page, nr, DISCARD_NOTHING);
			return false;
		}
		done = nr > 0 && discard_run(s, page, nr, how);
	}
	if (done && !early)
		chaos_leave_trail(s, page, nr);
	return done;
}

void chaos_unmap_page(struct stress *s, uint64_t page)
{
	uint32_t nr = s->opts.huge ? (uint32_t)HUGE_PAGES : 1, n;

	if (s->opts.huge)
		page &= ~(HUGE_PAGES - 1);
	n = begin_run(s, page, nr);
	if (n == nr)
		(void)discard_run(s, page, nr, 0);
	else
		end_run(s, page, n, DISCARD_NOTHING);
}

/* A child must not have the guest's memory, and the parent goes on. */
static bool chaos_fork(struct stress *s, struct rng *rng)
{
	char *base = base_of(s);
	int status = 0;
	pid_t child;

	(void)rng;
	child = fork();
	if (child < 0)
		return false;
	if (child == 0) {
		unsigned char vec;

		_exit(mincore(base, PAGE_BYTES, &vec) != 0 && errno == ENOMEM ? 0 : 3);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		complain(s, "a forked child ended with status 0x%x (it has the guest's memory?)",
			 (unsigned)status);
		return false;
	}
	return true;
}

/*
 * With threads that touch, as faults are to be in flight.  Where these leave the steps of
 * others no processor they have to wait until those have ended.
 */
static void take_world(struct stress *s)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	if (pthread_rwlock_timedwrlock(&s->world, &until) == 0)
		return;
	gate_close_begin(s);
	(void)pthread_rwlock_wrlock(&s->world);
	gate_open(s);
	sleep_ms(20);
}

static bool chaos_restart(struct stress *s, struct rng *rng)
{
	bool ok;

	turn_take(s);
	chaos_stage(CHAOS_WAITS_OTHERS);
	take_world(s);
	ok = memory_restart(s, rng_below(rng, 4) == 0, rng_below(rng, 2) == 0) == 0;
	if (!ok) {
		complain(s, "restart failed; nothing serves the memory any more");
		atomic_store(&s->stop, true);
	}
	(void)pthread_rwlock_unlock(&s->world);
	turn_give(s);
	return ok;
}

static bool chaos_signals(struct stress *s, struct rng *rng)
{
	for (uint32_t i = 0; i < 16; i++) {
		uint64_t n = rng_below(rng, s->opts.nr_threads);

		/* A signal lets a thread fault again that waits for ever: some get none. */
		if (n % 4)
			(void)pthread_kill(s->touchers[n].thread, SIGUSR1);
	}
	return true;
}

/*
 * Through a mapping that is nobody's guest: those that are lose their page-table
 * entries, and fault again.  Never through a guest's own: the kernel would map all
 * that the cache has there, filled or not, and raise nothing.
 */
bool collapse_elsewhere(struct stress *s, uint64_t page)
{
	char *room = mmap(NULL, 2 * HUGE_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at = (char *)(((uintptr_t)room + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	const struct segment *g = layout_at(&s->layout, page);
	uint64_t block = g ? layout_offset(g, page) / HUGE_BYTES : 0;
	bool done;

	if (room == MAP_FAILED)
		return false;
	done = g &&
	       mmap(at, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fln_image_memfd(memory_image(s, g)),
		    (off_t)(block * HUGE_BYTES)) != MAP_FAILED &&
	       madvise(at, HUGE_BYTES, MADV_DONTFORK) == 0 &&
	       madvise(at, HUGE_BYTES, MADV_COLLAPSE) == 0;
	(void)munmap(room, 2 * HUGE_BYTES);
	return done;
}

/* Refused where a block has holes, or is not wholly mapped: as it should be. */
static bool chaos_huge(struct stress *s, struct rng *rng)
{
	uint64_t block = rng_below(rng, s->opts.memory_bytes / HUGE_BYTES), nr = 0;

	if (rng_below(rng, 2))
		return collapse_elsewhere(s, block * HUGE_PAGES);
	return fln_guest_collapse(s->guest, (uint64_t)(uintptr_t)base_of(s) + block * HUGE_BYTES,
				  HUGE_BYTES, &nr) == 0 &&
	       nr > 0;
}

static const struct {
	chaos_fn step; /* NULL: happens elsewhere */
	uint32_t pause_ms;
	bool alone; /* locks the world itself */
} kinds[CHAOS_NR] = {
	[CHAOS_DISCARD] = { chaos_discard, 0, false },
	[CHAOS_FORK] = { chaos_fork, 200, false },
	[CHAOS_REMAP] = { chaos_remap, 50, false },
	[CHAOS_UNMAP] = { chaos_unmap, 50, false },
	[CHAOS_REGIONS] = { chaos_regions, 10, false },
	[CHAOS_RESTART] = { chaos_restart, 1500, true },
	[CHAOS_SIGNALS] = { chaos_signals, 1, false },
	[CHAOS_STALL] = { chaos_stall, 100, false },
	[CHAOS_DESCRIPTORS] = { chaos_descriptors, 500, false },
	[CHAOS_MAPPINGS] = { chaos_mappings, 1000, false },
	[CHAOS_MEMORY] = { chaos_memory, 1000, false },
	[CHAOS_CONVERGENCE] = { chaos_convergence, 300, true },
	[CHAOS_STAMPEDE] = { chaos_stampede, 20, true },
	[CHAOS_HUGE] = { chaos_huge, 30, false },
	[CHAOS_EMULATED] = { chaos_emulated, 100, false },
	[CHAOS_PAUSE] = { chaos_pause, 1000, true },
	[CHAOS_HOST] = { chaos_host, 200, false },
	[CHAOS_NEIGHBOURS] = { chaos_neighbours, 300, false },
};

struct chaos_thread {
	struct stress *s;
	enum chaos_kind kind;
	pthread_t thread;
	_Atomic pid_t tid;
	bool started;
	_Atomic uint64_t since_ns;   /* when the stage of its step began; 0: no step is under way */
	_Atomic(const char *) stage; /* NULL: the step has but one */
	_Atomic bool ended;
};

static struct chaos_thread threads[CHAOS_NR];
const char chaos_waits_turn[] = "waits for its turn";
static _Thread_local struct chaos_thread *my_thread;

void chaos_stage(const char *stage)
{
	if (!my_thread)
		return;
	atomic_store(&my_thread->stage, stage);
	atomic_store(&my_thread->since_ns, now_ns());
}

/*
 * Hundreds of threads that touch what is mapped leave a processor to nobody: a step
 * would wait a second for its turn.  Without the privilege it does.
 */
void go_before_touchers(void)
{
	int before = getpriority(PRIO_PROCESS, 0);

	(void)setpriority(PRIO_PROCESS, 0, before > -10 ? before - 10 : -20);
}

/* With random layouts each restart may bring another one: the more the better. */
static uint32_t pause_of(const struct chaos_thread *t)
{
	uint32_t ms = kinds[t->kind].pause_ms;

	return t->kind == CHAOS_RESTART && t->s->opts.random_layout ? ms / 4 : ms;
}

static void *chaos_main(void *arg)
{
	struct chaos_thread *t = arg;
	struct stress *s = t->s;
	uint64_t seed = mix(s->opts.seed ^ mix(0xc4a05 + (uint64_t)t->kind)), n = 0;
	int entered = s->opts.in_context ? fln_thread_enter() : -1;

	my_thread = t;
	atomic_store(&t->tid, gettid());
	go_before_touchers();
	while (!atomic_load(&s->stop)) {
		/* The same step again by its number, whatever became of those before. */
		struct rng rng = { mix(seed ^ n++) };
		bool done;

		for (uint64_t left = 1 + rng_below(&rng, pause_of(t) * 2 + 1);
		     left > 0 && !atomic_load(&s->stop); left -= left < 20 ? left : 20)
			sleep_ms(left < 20 ? left : 20);
		if (!kinds[t->kind].alone)
			(void)pthread_rwlock_rdlock(&s->world);
		chaos_stage(NULL);
		done = !atomic_load(&s->stop) && kinds[t->kind].step(s, &rng);
		atomic_store(&t->since_ns, 0);
		if (!kinds[t->kind].alone)
			(void)pthread_rwlock_unlock(&s->world);
		if (done)
			atomic_fetch_add_explicit(&s->nr_chaos[t->kind], 1, memory_order_relaxed);
	}
	if (entered == 0)
		fln_thread_leave();
	atomic_store(&t->ended, true);
	return NULL;
}

/*
 * Who waits for its turn waits for one of the others, and each of these has its own time;
 * so only the last of them counts.
 */
static double stage_age(const struct stress *s, struct chaos_thread *t, uint64_t now)
{
	uint64_t since = atomic_load(&t->since_ns), turn = atomic_load(&s->turn_since_ns);

	if (since && atomic_load(&t->stage) == chaos_waits_turn && turn > since)
		since = turn;
	return since && since < now ? (double)(now - since) / 1e9 : 0;
}

double chaos_oldest(const struct stress *s, enum chaos_kind *kind)
{
	uint64_t now = now_ns();
	double oldest = 0;

	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		double age = stage_age(s, &threads[k], now);

		if (age > oldest) {
			oldest = age;
			*kind = k;
		}
	}
	return oldest;
}

void chaos_say_steps(const struct stress *s)
{
	uint64_t now = now_ns();

	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		const char *stage = atomic_load(&threads[k].stage);

		if (atomic_load(&threads[k].since_ns))
			(void)fprintf(stderr, "  under way: %s%s%s, for %.1f s; it %s\n",
				      chaos_names[k], stage ? ", which " : "", stage ? stage : "",
				      stage_age(s, &threads[k], now),
				      watch_state(atomic_load(&threads[k].tid)));
	}
}

bool chaos_ended(void)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (threads[k].started && !atomic_load(&threads[k].ended))
			return false;
	}
	return true;
}

void chaos_prepare(struct stress *s)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		const char *why = has_chaos(&s->opts, k) ? chaos_limits_prepare(s, k) : NULL;

		if (!why)
			continue;
		(void)fprintf(s->messages, "chaos %s is left out: %s\n", chaos_names[k], why);
		s->opts.chaos &= ~(1u << k);
	}
}

int chaos_start(struct stress *s)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (!has_chaos(&s->opts, k) || !kinds[k].step)
			continue;
		threads[k].s = s;
		threads[k].kind = k;
		if (pthread_create(&threads[k].thread, NULL, chaos_main, &threads[k]) != 0) {
			(void)fprintf(stderr, "faultlane-stress: no thread for %s\n",
				      chaos_names[k]);
			return -EAGAIN;
		}
		threads[k].started = true;
	}
	return 0;
}

void chaos_stop(void)
{
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (threads[k].started)
			(void)pthread_join(threads[k].thread, NULL);
		threads[k].started = false;
	}
}
