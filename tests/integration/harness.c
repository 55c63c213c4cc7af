/* SPDX-License-Identifier: MIT */
/* What the integration and stress tests share; see harness.h. */
#include "tests/integration/harness.h"

#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define CASE_LIMIT_S 120u
/* ThreadSanitizer calls handlers with every signal blocked. */
#define SAVE_MASK TEST_TSAN
#define STACK_BYTES ((size_t)256 << 10)

static char current_step[256] = "start-up";
static const char *current_case = "main";
static uint64_t engine_flags;
static pid_t test_pid;

/* Verdicts. */

void test_fail(const char *file, int line, const char *what, const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "%s:%d: %s (step: %s)\n    %s: ", file, line, current_case,
		      current_step, what);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	(void)fflush(stdout);
	_exit(1);
}

void test_refused(const char *file, int line, const char *call, int rc, int want, const char *word)
{
	if (rc != want)
		test_fail(file, line, call, "returned %d and not %d (%s)", rc, want,
			  fln_last_error());
	if (!strstr(fln_last_error(), word))
		test_fail(file, line, call, "'%s' does not name '%s'", fln_last_error(), word);
}

void test_step(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(current_step, sizeof(current_step), fmt, ap);
	va_end(ap);
}

void test_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("    ", stdout);
	(void)vprintf(fmt, ap);
	(void)fputc('\n', stdout);
	va_end(ap);
	(void)fflush(stdout);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("SKIP: ", stdout);
	(void)vprintf(fmt, ap);
	(void)fputc('\n', stdout);
	va_end(ap);
	(void)fflush(stdout);
	_exit(77);
}

void test_run(const char *name, void (*fn)(void))
{
	uint64_t t0 = now_ns();

	current_case = name;
	test_step("begin");
	(void)alarm(CASE_LIMIT_S * (TEST_TSAN || TEST_ASAN ? 4 : 1));
	fn();
	(void)alarm(0);
	(void)printf("%s: ok, %u ms\n", name, (unsigned int)((now_ns() - t0) / MS));
	(void)fflush(stdout);
}

/* Signals. */

static _Thread_local sigjmp_buf touch_env;
static _Thread_local volatile sig_atomic_t touching;

static void say(const char *s)
{
	(void)!write(STDERR_FILENO, s, strlen(s));
}

static void say_hex(const char *what, uint64_t value)
{
	char text[19] = "0x";

	for (uint32_t i = 0; i < 16; i++)
		text[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
	say(what);
	say(text);
}

/* Where, as there may be no core file. */
static void say_where(const siginfo_t *info)
{
	void *frames[32];

	say_hex("address ", (uint64_t)(uintptr_t)info->si_addr);
	say_hex(", code ", (uint64_t)info->si_code);
	say("; called by\n");
	backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!touching) {
		say(sig == SIGBUS ? "SIGBUS" : "SIGSEGV");
		say(" outside a touch, in ");
		say(current_case);
		say(": ");
		say(current_step);
		say("\n");
		(void)signal(sig, SIG_DFL);
		say_where(info);
		return;
	}
	touching = 0;
	siglongjmp(touch_env, sig);
}

static void on_alarm(int sig)
{
	(void)sig;
	say("watchdog: ");
	say(current_case);
	say(" hangs at: ");
	say(current_step);
	say("\n");
	_exit(1);
}

static void install_signals(void)
{
	struct sigaction sa = { .sa_flags = SA_NODEFER | SA_SIGINFO };

	sa.sa_sigaction = on_fault;
	(void)sigaction(SIGBUS, &sa, NULL);
	(void)sigaction(SIGSEGV, &sa, NULL);
	sa.sa_flags = SA_NODEFER;
	sa.sa_handler = on_alarm;
	(void)sigaction(SIGALRM, &sa, NULL);
}

void test_init(void)
{
	struct fln_engine_opts opts = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine;
	uint64_t bits = 0;
	int rc;

	test_pid = getpid();
	install_signals();
	OK(fln_query_features(0, &bits));
	if (!(bits & FLN_FEATURE_QUEUED)) {
		engine_flags = opts.flags = FLN_ENGINE_F_USER_MODE_ONLY;
		OK(fln_query_features(engine_flags, &bits));
	}
	if (!(bits & FLN_FEATURE_QUEUED))
		test_skip("this user may have no userfaultfd, or the kernel's lacks minor faults");
	rc = fln_engine_create(&opts, &engine);
	if (rc == -ENOSYS || rc == -EOPNOTSUPP)
		test_skip("%s", fln_last_error());
	OK(rc);
	OK(fln_engine_destroy(engine));
}

uint64_t test_engine_flags(void)
{
	return engine_flags;
}

uint32_t test_scale(uint32_t quick, uint32_t normal, uint32_t many)
{
	const char *scale = getenv("FAULTLANE_TEST_SCALE");

	if (scale && strcmp(scale, "quick") == 0)
		return quick;
	if (scale && strcmp(scale, "long") == 0)
		return many;
	return normal;
}

uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t cpu_ns(void)
{
	struct rusage u;

	CHECK(getrusage(RUSAGE_SELF, &u) == 0, "%s", strerror(errno));
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 * MS +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

void sleep_ms(uint32_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
		;
}

/* SplitMix64. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t next_random(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state);
}

uint64_t word_of(uint64_t salt, uint64_t page, uint32_t word)
{
	return (mix((salt << 48) + page + 1) + 2 * (uint64_t)word) | 1;
}

void contents_of(uint64_t salt, uint64_t page, void *buf)
{
	uint64_t *words = buf;
	uint64_t first = word_of(salt, page, 0);

	for (uint32_t i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = (first + 2 * (uint64_t)i) | 1;
}

/* Touches. */

enum touch touch_read(const void *addr, uint64_t *value)
{
	int sig = sigsetjmp(touch_env, SAVE_MASK);

	if (sig)
		return sig == SIGBUS ? TOUCH_SIGBUS : TOUCH_SIGSEGV;
	touching = 1;
	*value = *(const volatile uint64_t *)addr;
	touching = 0;
	return TOUCH_OK;
}

enum touch touch_write(void *addr, uint64_t value)
{
	int sig = sigsetjmp(touch_env, SAVE_MASK);

	if (sig)
		return sig == SIGBUS ? TOUCH_SIGBUS : TOUCH_SIGSEGV;
	touching = 1;
	*(volatile uint64_t *)addr = value;
	touching = 0;
	return TOUCH_OK;
}

enum touch touch_page(const void *addr, uint64_t salt, uint64_t page, bool *right)
{
	const volatile uint64_t *words = addr;
	uint64_t first = word_of(salt, page, 0);
	int sig = sigsetjmp(touch_env, SAVE_MASK);
	bool same = true;

	if (sig)
		return sig == SIGBUS ? TOUCH_SIGBUS : TOUCH_SIGSEGV;
	touching = 1;
	for (uint32_t i = 0; i < PAGE / sizeof(*words); i++)
		same &= words[i] == ((first + 2 * (uint64_t)i) | 1);
	touching = 0;
	*right = same;
	return TOUCH_OK;
}

const char *touch_name(enum touch t)
{
	static const char *const names[] = { "still waits", "went through", "got SIGBUS",
					     "got SIGSEGV" };

	return names[t];
}

static void start_thread(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	int rc;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	rc = pthread_create(thread, &attr, fn, arg);
	(void)pthread_attr_destroy(&attr);
	CHECK(rc == 0, "pthread_create: %s", strerror(rc));
}

static void *toucher_main(void *arg)
{
	struct toucher *t = arg;
	uint64_t t0 = now_ns(), value = t->value;
	enum touch end = t->write ? touch_write(t->addr, value) : touch_read(t->addr, &value);

	t->took_ns = now_ns() - t0;
	t->value = value;
	atomic_store(&t->end, (int)end);
	return NULL;
}

static void toucher_start(struct toucher *t, void *addr, bool write, uint64_t value)
{
	t->addr = addr;
	t->write = write;
	t->value = value;
	atomic_store(&t->end, TOUCH_PENDING);
	start_thread(&t->thread, toucher_main, t);
}

void toucher_read(struct toucher *t, void *addr)
{
	toucher_start(t, addr, false, 0);
}

void toucher_write(struct toucher *t, void *addr, uint64_t value)
{
	toucher_start(t, addr, true, value);
}

enum touch toucher_wait(struct toucher *t, const char *what)
{
	uint64_t until = now_ns() + WAIT_S * 1000 * MS;

	while (atomic_load(&t->end) == TOUCH_PENDING) {
		CHECK(now_ns() < until, "a thread at %p waited for %u s: %s", t->addr, WAIT_S,
		      what);
		sleep_ms(1);
	}
	(void)pthread_join(t->thread, NULL);
	return (enum touch)atomic_load(&t->end);
}

void toucher_expect(struct toucher *t, enum touch end, const char *what)
{
	enum touch got = toucher_wait(t, what);

	CHECK(got == end, "%s: the thread %s (0x%llx), where one that %s was expected", what,
	      touch_name(got), (unsigned long long)t->value, touch_name(end));
}

void toucher_expect_value(struct toucher *t, uint64_t value, const char *what)
{
	toucher_expect(t, TOUCH_OK, what);
	CHECK(t->value == value, "%s: read 0x%llx, expected 0x%llx", what,
	      (unsigned long long)t->value, (unsigned long long)value);
}

void toucher_expect_asleep(struct toucher *t, uint32_t ms, const char *what)
{
	sleep_ms(ms);
	CHECK(atomic_load(&t->end) == TOUCH_PENDING, "%s: the thread %s (0x%llx)", what,
	      touch_name((enum touch)atomic_load(&t->end)), (unsigned long long)t->value);
}

static void *crew_main(void *arg)
{
	struct crew_member *m = arg;
	struct crew *c = m->crew;

	atomic_fetch_add(&c->nr_begun, 1);
	c->fn(c->arg, m->index);
	atomic_store(&m->ended, true);
	atomic_fetch_add(&c->nr_ended, 1);
	return NULL;
}

void crew_start(struct crew *c, uint32_t nr, void (*fn)(void *arg, uint32_t index), void *arg)
{
	memset(c, 0, sizeof(*c));
	c->nr = nr;
	c->fn = fn;
	c->arg = arg;
	c->members = calloc(nr, sizeof(*c->members));
	CHECK(c->members, "no memory for %u threads", nr);
	for (uint32_t i = 0; i < nr; i++) {
		c->members[i].crew = c;
		c->members[i].index = i;
		start_thread(&c->members[i].thread, crew_main, &c->members[i]);
	}
}

void crew_wait(struct crew *c, uint32_t seconds, const char *what)
{
	uint64_t until = now_ns() + seconds * 1000 * MS * (TEST_TSAN || TEST_ASAN ? 4 : 1);

	while (atomic_load(&c->nr_ended) < c->nr) {
		if (now_ns() > until) {
			uint32_t i = 0;

			while (i < c->nr && atomic_load(&c->members[i].ended))
				i++;
			test_fail(__FILE__, __LINE__, what,
				  "%u of %u threads have not ended after %u s; the first is %u",
				  c->nr - atomic_load(&c->nr_ended), c->nr, seconds, i);
		}
		sleep_ms(1);
	}
	for (uint32_t i = 0; i < c->nr; i++)
		(void)pthread_join(c->members[i].thread, NULL);
	free(c->members);
	c->members = NULL;
}

void wait_count(_Atomic uint32_t *counter, uint32_t want, uint32_t seconds, const char *what)
{
	uint64_t until = now_ns() + seconds * 1000 * MS * (TEST_TSAN || TEST_ASAN ? 4 : 1);

	while (atomic_load(counter) < want) {
		CHECK(now_ns() < until, "%s: waited for %u, it is %u after %u s", what, want,
		      atomic_load(counter), seconds);
		sleep_ms(1);
	}
}

/* The source that makes contents. */

static bool is_hole(const struct maker *m, uint64_t page)
{
	return m->every_zero && page % m->every_zero == m->every_zero - 1;
}

static int64_t maker_read(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	struct maker *m = ctx;
	uint32_t inside = atomic_fetch_add(&m->nr_inside, 1) + 1;
	uint32_t max = atomic_load(&m->max_inside);

	while (inside > max && !atomic_compare_exchange_weak(&m->max_inside, &max, inside))
		;
	atomic_fetch_add(&m->nr_reads, 1);
	atomic_fetch_add(&m->nr_bytes, len_bytes);
	if (m->delay_ns) {
		struct timespec ts = { .tv_sec = (time_t)(m->delay_ns / (1000 * MS)),
				       .tv_nsec = (long)(m->delay_ns % (1000 * MS)) };

		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	}
	while (atomic_load(&m->gate_closed))
		sleep_ms(1);
	for (uint64_t at = 0; at < len_bytes; at += PAGE) {
		if (is_hole(m, (offset_bytes + at) / PAGE))
			memset((char *)buf + at, 0, PAGE);
		else
			contents_of(m->salt, (offset_bytes + at) / PAGE, (char *)buf + at);
	}
	atomic_fetch_sub(&m->nr_inside, 1);
	return (int64_t)len_bytes;
}

static int64_t maker_extent(void *ctx, uint64_t offset_bytes, uint64_t len_bytes, int *hole)
{
	const struct maker *m = ctx;
	uint64_t at = PAGE;

	*hole = is_hole(m, offset_bytes / PAGE);
	while (at < len_bytes && is_hole(m, (offset_bytes + at) / PAGE) == (bool)*hole)
		at += PAGE;
	return (int64_t)at;
}

static void maker_destroy(void *ctx)
{
	struct maker *m = ctx;

	atomic_fetch_add(&m->nr_destroyed, 1);
}

void maker_source(struct maker *m, struct fln_source **out)
{
	struct fln_source_ops ops = {
		.size = sizeof(ops),
		.name = "maker",
		.concurrency = m->concurrency,
		.read = maker_read,
		.extent = m->every_zero ? maker_extent : NULL,
		.destroy = maker_destroy,
	};

	OK(fln_source_create(&ops, m, out));
}

/* Log. */

void test_log_fn(void *ctx, enum fln_log_level level, const char *msg)
{
	struct test_log *log = ctx;

	if (getenv("FAULTLANE_TEST_VERBOSE"))
		(void)fprintf(stderr, "log %d: %s\n", (int)level, msg);
	(void)pthread_mutex_lock(&log->lock);
	(void)snprintf(log->lines[log->nr % 64], sizeof(log->lines[0]), "%s", msg);
	log->nr++;
	(void)pthread_mutex_unlock(&log->lock);
}

bool log_has(struct test_log *log, const char *word)
{
	bool has = false;

	(void)pthread_mutex_lock(&log->lock);
	for (uint32_t i = 0; i < log->nr && i < 64; i++)
		has |= strstr(log->lines[i], word) != NULL;
	(void)pthread_mutex_unlock(&log->lock);
	return has;
}

void wait_log(struct test_log *log, const char *word)
{
	for (uint64_t t0 = now_ns(); !log_has(log, word); sleep_ms(1))
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "the log does not say \"%s\"", word);
}

/* The bed. */

void bed_init(struct bed *b, uint64_t nr_pages)
{
	memset(b, 0, sizeof(*b));
	(void)pthread_mutex_init(&b->log.lock, NULL);
	b->nr_pages = nr_pages;
	b->maker.salt = 1;
	b->maker.concurrency = FLN_SOURCE_PARALLEL;
	b->engine_opts = (struct fln_engine_opts)FLN_ENGINE_OPTS_INIT;
	b->engine_opts.flags = test_engine_flags();
	b->engine_opts.log = test_log_fn;
	b->engine_opts.log_ctx = &b->log;
	b->image_opts = (struct fln_image_opts)FLN_IMAGE_OPTS_INIT;
	b->image_opts.len_bytes = nr_pages * PAGE;
	b->guest_opts = (struct fln_guest_opts)FLN_GUEST_OPTS_INIT;
	b->guest_opts.nr_vcpus = 200;
	b->region_opts = (struct fln_region_opts)FLN_REGION_OPTS_INIT;
	b->region_opts.len_bytes = nr_pages * PAGE;
}

void bed_up_image(struct bed *b)
{
	STEP("setting up");
	if (!b->engine) {
		OK(fln_engine_create(&b->engine_opts, &b->engine));
		OK(fln_engine_start(b->engine));
	}
	if (!b->image) {
		if (!b->image_opts.source && !b->image_opts.flags) {
			maker_source(&b->maker, &b->source);
			b->image_opts.source = b->source;
		}
		OK(fln_image_create(b->engine, &b->image_opts, &b->image));
	}
}

void bed_up(struct bed *b)
{
	bed_up_image(b);
	if (!b->guest)
		OK(fln_guest_create(b->engine, &b->guest_opts, &b->guest));
	if (!b->region) {
		b->region_opts.image = b->image;
		OK(fln_region_add(b->guest, &b->region_opts, &b->region));
	}
	b->mem = fln_region_addr(b->region);
	OK(fln_guest_start(b->guest));
	STEP("set up");
}

static int until_in_time(int (*call)(void *), void *object)
{
	uint64_t t0 = now_ns();
	int rc;

	do {
		rc = call(object);
	} while ((rc == -ETIMEDOUT || rc == -EBUSY) && now_ns() - t0 < WAIT_S * 1000 * MS);
	return rc;
}

static int stop_engine(void *engine)
{
	return fln_engine_stop(engine);
}

static int destroy_image(void *image)
{
	return fln_image_destroy(image);
}

static int destroy_engine(void *engine)
{
	return fln_engine_destroy(engine);
}

int engine_stop_in_time(struct fln_engine *engine)
{
	return until_in_time(stop_engine, engine);
}

int image_destroy_in_time(struct fln_image *image)
{
	return until_in_time(destroy_image, image);
}

int engine_destroy_in_time(struct fln_engine *engine)
{
	return until_in_time(destroy_engine, engine);
}

void bed_down(struct bed *b)
{
	STEP("fln_guest_stop");
	OK(fln_guest_stop(b->guest));
	check_stats(b->guest, true, NULL);
	STEP("fln_guest_destroy");
	OK(fln_guest_destroy(b->guest));
	STEP("fln_image_destroy");
	OK(image_destroy_in_time(b->image));
	fln_source_destroy(b->source);
	STEP("fln_engine_destroy");
	OK(engine_destroy_in_time(b->engine));
	(void)pthread_mutex_destroy(&b->log.lock);
	STEP("taken down");
}

uint8_t *bed_page(const struct bed *b, uint64_t page)
{
	return b->mem + page * PAGE;
}

void settled_stats(struct fln_guest *guest, struct fln_stats *out)
{
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;

	for (;;) {
		check_stats(guest, false, out);
		if (out->in_flight == 0)
			return;
		CHECK(now_ns() < end, "%llu of %llu faults have not ended, and nobody waits",
		      (unsigned long long)out->in_flight, (unsigned long long)out->faults);
		sleep_ms(1);
	}
}

void wait_held(struct bed *b, uint64_t nr, uint64_t spare_page)
{
	uint64_t t0 = now_ns();
	struct fln_stats s;

	STEP("waiting for %llu faults", (unsigned long long)nr);
	for (;; sleep_ms(1)) {
		check_stats(b->guest, false, &s);
		if (s.in_flight >= nr)
			break;
		CHECK(now_ns() - t0 < WAIT_S * 1000 * MS, "%llu faults wait, of %llu",
		      (unsigned long long)s.in_flight, (unsigned long long)nr);
	}
	/* They are counted when they are read.  This waits for the end of the worker's round. */
	OK(fln_guest_advise(b->guest, (uintptr_t)bed_page(b, spare_page), PAGE,
			    FLN_ADVICE_DONTNEED));
}

void check_stats(struct fln_guest *guest, bool stopped, struct fln_stats *out)
{
	struct fln_stats s = FLN_STATS_INIT;

	OK(fln_guest_stats(guest, &s));
	if (stopped) {
		CHECK(s.in_flight == 0, "I4: %llu faults are in flight after stop",
		      (unsigned long long)s.in_flight);
		CHECK(s.faults == s.resumed + s.poisoned + s.failed,
		      "I4: %llu faults, %llu resumed, %llu poisoned, %llu failed",
		      (unsigned long long)s.faults, (unsigned long long)s.resumed,
		      (unsigned long long)s.poisoned, (unsigned long long)s.failed);
		CHECK(s.faults == s.minor + s.major + s.zero + s.invalid,
		      "classes: %llu faults, %llu minor, %llu major, %llu zero, %llu invalid",
		      (unsigned long long)s.faults, (unsigned long long)s.minor,
		      (unsigned long long)s.major, (unsigned long long)s.zero,
		      (unsigned long long)s.invalid);
		/* Faults on one page that were held together end together: one value. */
		CHECK(s.service.count <= s.faults, "histogram: %llu of %llu faults",
		      (unsigned long long)s.service.count, (unsigned long long)s.faults);
	}
	if (out)
		*out = s;
}

struct reading {
	const struct bed *bed;
	uint32_t nr_threads;
};

static void read_part(void *arg, uint32_t index)
{
	const struct reading *r = arg;
	const struct bed *b = r->bed;
	uint64_t lo = b->nr_pages * index / r->nr_threads;
	uint64_t hi = b->nr_pages * (index + 1) / r->nr_threads;
	uint64_t nr = hi - lo, seed = index;
	uint64_t at = nr ? next_random(&seed) % nr : 0;

	/* Interleaved, so that threads share blocks: thread i has pages i, i + n, ... */
	for (uint64_t i = 0; i < nr; i++, at = at + 1 < nr ? at + 1 : 0) {
		uint64_t page = at * r->nr_threads + index;
		bool right = false;
		enum touch end;

		if (page >= b->nr_pages)
			page = lo + at;
		end = touch_page(bed_page(b, page), b->maker.salt, page, &right);
		CHECK(end == TOUCH_OK, "page %llu: the thread %s", (unsigned long long)page,
		      touch_name(end));
		CHECK(right, "page %llu: wrong contents", (unsigned long long)page);
	}
}

void read_all(const struct bed *b, uint32_t nr_threads)
{
	struct reading r = { .bed = b, .nr_threads = nr_threads };
	struct crew crew;
	bool right;

	STEP("reading all of the memory with %u threads", nr_threads);
	crew_start(&crew, nr_threads, read_part, &r);
	crew_wait(&crew, 60, "threads that read all of the memory");
	for (uint64_t page = 0; page < b->nr_pages; page++) {
		CHECK(touch_page(bed_page(b, page), b->maker.salt, page, &right) == TOUCH_OK &&
			      right,
		      "page %llu: wrong contents at the end", (unsigned long long)page);
	}
}

/* What the process holds. */

static uint32_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t nr = 0;

	CHECK(dir, "%s: %s", path, strerror(errno));
	while (readdir(dir))
		nr++;
	(void)closedir(dir);
	return nr - 2;
}

uint32_t count_fds(void)
{
	return count_entries("/proc/self/fd") - 1;
}

uint32_t count_threads(void)
{
	return count_entries("/proc/self/task");
}

uint32_t settle_threads(uint32_t want)
{
	uint32_t nr = count_threads();

	/* A thread that was joined may be listed a little longer. */
	for (uint32_t i = 0; nr > want && i < 1000; i++) {
		sleep_ms(1);
		nr = count_threads();
	}
	return nr;
}

uint32_t count_maps(void)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	static char buf[65536];
	uint32_t nr = 0;
	ssize_t got;

	CHECK(fd >= 0, "/proc/self/maps: %s", strerror(errno));
	while ((got = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			nr += buf[i] == '\n';
	}
	(void)close(fd);
	return nr;
}

/* userfaultfd by hand. */

static int open_uffd(void)
{
	int dev, fd = -1;

	if (!engine_flags) {
		dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (dev >= 0) {
			fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
			(void)close(dev);
		}
		if (fd < 0)
			fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	return fd;
}

int raw_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = open_uffd();

	CHECK(fd >= 0, "userfaultfd: %s", strerror(errno));
	CHECK(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API: %s", strerror(errno));
	return fd;
}

int raw_register(int uffd, void *addr, uint64_t len, uint64_t mode)
{
	struct uffdio_register arg = { .range = { (uintptr_t)addr, len }, .mode = mode };

	return ioctl(uffd, UFFDIO_REGISTER, &arg) == 0 ? 0 : errno;
}

int raw_unregister(int uffd, void *addr, uint64_t len)
{
	struct uffdio_range arg = { (uintptr_t)addr, len };

	return ioctl(uffd, UFFDIO_UNREGISTER, &arg) == 0 ? 0 : errno;
}

/* The other process. */

struct peer_message {
	uint64_t order;
	uint64_t offset, len;
	int64_t result;
	uint64_t value;
};

static int send_message(int socket, const struct peer_message *m, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)m, .iov_len = sizeof(*m) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*m) ? 0 : -1;
}

static int receive_message(int socket, struct peer_message *m, int *fd)
{
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c;

	*fd = -1;
	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*m))
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return 0;
}

struct peer_state {
	uint8_t *mem;
	int memfd;
	uint64_t len;
};

/* Anonymous memory, registered MISSING, as a VMM that hands its memory over has it. */
static int make_foreign(struct peer_state *s, struct peer_message *m)
{
	int uffd = raw_uffd(UFFD_FEATURE_EVENT_REMOVE);

	s->mem = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	(void)madvise(s->mem, m->len, MADV_NOHUGEPAGE);
	m->result = -raw_register(uffd, s->mem, m->len, UFFDIO_REGISTER_MODE_MISSING);
	m->value = (uintptr_t)s->mem;
	return uffd;
}

static int obey_order(struct peer_state *s, struct peer_message *m, int fd)
{
	uint64_t value = 0;
	int out = -1, rc = 0;

	switch ((enum peer_order)m->order) {
	case PEER_MAP:
		s->memfd = fd;
		s->mem = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		rc = s->mem == MAP_FAILED ? -1 : 0;
		break;
	case PEER_REMOVE:
		rc = madvise(s->mem + m->offset, m->len, MADV_REMOVE);
		break;
	case PEER_DONTNEED:
		rc = madvise(s->mem + m->offset, m->len, MADV_DONTNEED);
		break;
	case PEER_PUNCH:
		rc = fallocate(s->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)m->offset, (off_t)m->len);
		break;
	case PEER_FOREIGN:
		return make_foreign(s, m);
	case PEER_READ:
		m->result = (int64_t)touch_read(s->mem + m->offset, &value);
		m->value = value;
		return -1;
	case PEER_WRITE:
		m->result = (int64_t)touch_write(s->mem + m->offset, m->len);
		return -1;
	case PEER_QUIT:
	default:
		_exit(0);
	}
	m->result = rc == 0 ? 0 : -errno;
	return out;
}

static _Noreturn void peer_main(int socket)
{
	struct peer_state s = { .memfd = -1 };
	struct peer_message m;
	int fd;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	install_signals();
	while (receive_message(socket, &m, &fd) == 0) {
		fd = obey_order(&s, &m, fd);
		if (send_message(socket, &m, fd) != 0)
			break;
		if (fd >= 0)
			(void)close(fd);
	}
	_exit(0);
}

void peer_start(struct peer *p)
{
	int sockets[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0, "%s",
	      strerror(errno));
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)fflush(stdout);
	p->pid = fork();
	CHECK(p->pid >= 0, "fork: %s", strerror(errno));
	if (p->pid == 0) {
		(void)close(sockets[0]);
		peer_main(sockets[1]);
	}
	(void)close(sockets[1]);
	p->socket = sockets[0];
}

int64_t peer_do(struct peer *p, enum peer_order order, uint64_t offset, uint64_t len, int fd,
		int *fd_out, uint64_t *value)
{
	struct peer_message m = { .order = order, .offset = offset, .len = len };
	struct timeval limit = { .tv_sec = (time_t)WAIT_S };
	int got = -1;

	(void)pthread_mutex_lock(&p->lock);
	(void)setsockopt(p->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	CHECK(send_message(p->socket, &m, fd) == 0, "order %d to the other process: %s", order,
	      strerror(errno));
	CHECK(receive_message(p->socket, &m, &got) == 0,
	      "the other process has not answered order %d for [%llu, +%llu) within %u s: %s",
	      order, (unsigned long long)offset, (unsigned long long)len, WAIT_S, strerror(errno));
	(void)pthread_mutex_unlock(&p->lock);
	if (fd_out)
		*fd_out = got;
	if (value)
		*value = m.value;
	return m.result;
}

void peer_stop(struct peer *p)
{
	struct peer_message m = { .order = PEER_QUIT };
	int status;

	(void)send_message(p->socket, &m, -1);
	(void)waitpid(p->pid, &status, 0);
	(void)close(p->socket);
	(void)pthread_mutex_destroy(&p->lock);
}
