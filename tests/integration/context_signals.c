/* SPDX-License-Identifier: MIT */
/*
 * Signals upon signals: at a high rate, on threads that resolve their own faults, and
 * with handlers that touch such memory themselves, whatever they interrupt: another
 * resolution, a wait for contents, malloc(), and calls of the library that hold its
 * locks, also those without which the contents would not come.
 */
#include "tests/integration/context_bed.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_THREADS 24u
#define PAGES_EACH 256u
#define HANDLER_PAGES 64u /* of each thread: touched by its handlers only */
#define PAGES (NR_THREADS * (PAGES_EACH + HANDLER_PAGES))

enum work {
	TOUCHING,
	ALLOCATING,
	PUTTING,
	COUNTING,
	ADDING,
	NR_WORKS
};

static struct {
	struct bed bed;
	struct fln_image *other; /* for regions that come and go */
	_Atomic bool stop;
	_Atomic uint32_t nr_running, nr_done;
	_Atomic uint64_t nr_signals, nr_touched;
	pthread_t threads[NR_THREADS];
	_Atomic bool ready[NR_THREADS];
	_Atomic uint32_t next_page[NR_THREADS];
} storm;

static _Thread_local uint32_t self = NR_THREADS;
static _Thread_local volatile sig_atomic_t in_handler;

/* What only the handlers of thread @index touch. */
static uint64_t handler_page(uint32_t index, uint32_t n)
{
	return (uint64_t)NR_THREADS * PAGES_EACH + (uint64_t)index * HANDLER_PAGES + n;
}

static void on_signal(int sig)
{
	const struct bed *b = &storm.bed;
	int err = errno;
	uint32_t n;
	uint64_t page;
	sigset_t bus;

	(void)sig;
	atomic_fetch_add(&storm.nr_signals, 1);
	if (self == NR_THREADS || in_handler > 2)
		return;
	in_handler++;
	/* ThreadSanitizer calls handlers with every signal blocked. */
	(void)sigemptyset(&bus);
	(void)sigaddset(&bus, SIGBUS);
	(void)pthread_sigmask(SIG_UNBLOCK, &bus, NULL);
	n = atomic_fetch_add(&storm.next_page[self], 1);
	page = handler_page(self, n % HANDLER_PAGES);
	/* Plainly, and not by touch_read(): that may be what was interrupted. */
	if (*(const volatile uint64_t *)bed_page(b, page) != word_of(b->maker.salt, page, 0))
		test_fail(__FILE__, __LINE__, "contents", "page %llu is wrong in a handler",
			  (unsigned long long)page);
	if (n < HANDLER_PAGES)
		atomic_fetch_add(&storm.nr_touched, 1);
	in_handler--;
	errno = err;
}

/*
 * ThreadSanitizer keeps the mask to go back to once per thread: where a handler is called
 * inside a handler, which a fault in one can lead to, it goes back to every signal blocked,
 * and the next fault ends the process.  A raw call, behind which it calls no handler.
 */
static void unblock_signals(void)
{
#ifdef __SANITIZE_THREAD__
	static const uint64_t none;

	(void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
#endif
}

static void touch_own(const struct bed *b, uint32_t index, uint32_t n)
{
	uint64_t page = (uint64_t)n * NR_THREADS + index;
	const volatile uint64_t *word = (const volatile uint64_t *)bed_page(b, page);
	uint64_t value;

	unblock_signals();
	value = *word;
	CHECK(value == word_of(b->maker.salt, page, 0), "page %llu reads 0x%llx",
	      (unsigned long long)page, (unsigned long long)value);
}

static void add_and_remove(const struct bed *b, uint32_t round)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	struct fln_region *region;

	o.image = storm.other;
	o.len_bytes = 16 * PAGE;
	o.delivery = round % 2 ? FLN_DELIVERY_IN_CONTEXT : FLN_DELIVERY_QUEUED;
	OK(fln_region_add(b->guest, &o, &region));
	OK(fln_region_remove(region));
}

static void work(struct bed *b, uint32_t index, uint32_t round)
{
	uint64_t page = (uint64_t)(round % PAGES_EACH) * NR_THREADS + index;
	static _Thread_local _Alignas(8) uint8_t buf[PAGE];
	struct fln_stats s = FLN_STATS_INIT;

	switch ((enum work)(index % NR_WORKS)) {
	case ALLOCATING:
		free(malloc(64 + round % 5000));
		break;
	case PUTTING:
		/* Contents that are due: a put, the source's read, whichever is first. */
		contents_of(b->maker.salt, page, buf);
		OK(fln_image_put(b->image, page * PAGE, buf, PAGE));
		break;
	case COUNTING:
		OK(fln_guest_stats(b->guest, &s));
		(void)fln_image_filled_bytes(b->image);
		break;
	case ADDING:
		if (round % 8 == 0)
			add_and_remove(b, round / 8);
		break;
	case TOUCHING:
	default:
		break;
	}
	if (round < PAGES_EACH)
		touch_own(b, index, round);
}

static void worker(void *arg, uint32_t index)
{
	struct bed *b = arg;

	OK(fln_thread_enter());
	self = index;
	storm.threads[index] = pthread_self();
	atomic_store(&storm.ready[index], true);
	atomic_fetch_add(&storm.nr_running, 1);
	/* Until all handlers have touched all of theirs, and some more. */
	for (uint32_t round = 0;
	     round < PAGES_EACH || atomic_load(&storm.next_page[index]) < HANDLER_PAGES; round++) {
		work(b, index, round);
		if (round >= PAGES_EACH)
			sleep_ms(1);
	}
	atomic_store(&storm.ready[index], false);
	atomic_fetch_add(&storm.nr_done, 1);
	/* Whoever still sends to it has looked before. */
	while (!atomic_load(&storm.stop))
		sleep_ms(1);
	self = NR_THREADS;
	fln_thread_leave();
}

static void sender(void *arg, uint32_t index)
{
	uint64_t seed = index + 1;

	(void)arg;
	while (atomic_load(&storm.nr_done) < NR_THREADS) {
		uint64_t r = next_random(&seed);
		uint32_t to = (uint32_t)(r % NR_THREADS);

		if (atomic_load(&storm.ready[to]))
			(void)pthread_kill(storm.threads[to], r >> 32 & 1 ? SIGUSR1 : SIGUSR2);
		if (r >> 40 & 1)
			sched_yield();
		else
			(void)clock_nanosleep(CLOCK_MONOTONIC, 0,
					      &(struct timespec){ .tv_nsec = 20000 }, NULL);
	}
}

static void install_handlers(void)
{
	struct sigaction sa = { .sa_flags = SA_RESTART };

	sa.sa_handler = on_signal;
	(void)sigaction(SIGUSR1, &sa, NULL);
	(void)sigaction(SIGUSR2, &sa, NULL);
}

static void run_storm(uint64_t delay_ns, uint32_t window)
{
	struct crew workers, senders;
	struct bed *b = &storm.bed;
	struct fln_stats s;

	memset(&storm, 0, sizeof(storm));
	bed_init(b, PAGES);
	b->maker.delay_ns = delay_ns;
	b->engine_opts.fill_pages = 4;
	b->guest_opts.window_first = b->guest_opts.window_max = window;
	b->guest_opts.nr_shards = 4;
	context_up(b, false);
	{
		struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;

		o.len_bytes = 16 * PAGE;
		o.source = b->source;
		OK(fln_image_create(b->engine, &o, &storm.other));
	}
	STEP("storm of signals");
	crew_start(&workers, NR_THREADS, worker, b);
	wait_count(&storm.nr_running, NR_THREADS, WAIT_S, "threads that begin");
	crew_start(&senders, 2, sender, NULL);
	crew_wait(&senders, 90, "threads under a storm of signals: some hang");
	atomic_store(&storm.stop, true);
	crew_wait(&workers, WAIT_S, "threads after the storm");
	check_stats(b->guest, false, &s);
	CHECK(s.in_flight == 0, "%llu faults in flight", (unsigned long long)s.in_flight);
	CHECK(s.in_context > 0 && s.major > 0, "%llu faults in context, %llu waited",
	      (unsigned long long)s.in_context, (unsigned long long)s.major);
	CHECK(atomic_load(&storm.nr_touched) == (uint64_t)NR_THREADS * HANDLER_PAGES,
	      "handlers have touched %llu pages", (unsigned long long)storm.nr_touched);
	test_note("%llu signals, %llu faults, %llu waited", (unsigned long long)storm.nr_signals,
		  (unsigned long long)s.faults, (unsigned long long)s.major);
	OK(fln_image_destroy(storm.other));
	bed_down(b);
}

static void contents_are_late(void)
{
	run_storm(MS / 2, 1);
}

static void contents_are_near(void)
{
	run_storm(0, 0);
}

int main(void)
{
	uint32_t rounds = test_scale(1, 2, 20);

	test_init();
	context_init();
	install_handlers();
	for (uint32_t i = 0; i < rounds; i++) {
		RUN(contents_are_late);
		RUN(contents_are_near);
	}
	return 0;
}
