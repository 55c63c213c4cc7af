/* SPDX-License-Identifier: MIT */
/*
 * What the integration and stress tests share.
 *
 * They use the public headers, as an embedder does, and threads as vCPUs.  A
 * check that fails prints what was expected and ends the process: threads that
 * hang cannot be joined.  Every wait has an end and a name; behind the calls
 * that have none stands a watchdog, which prints the step that was under way.
 */
#ifndef FLN_TESTS_HARNESS_H
#define FLN_TESTS_HARNESS_H

#include <errno.h>
#include <faultlane/faultlane.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#define PAGE ((uint64_t)4096)
#define BLOCK ((uint64_t)2 << 20)
#define MS ((uint64_t)1000000)
#define WAIT_S 20u /* how long something that must happen may take */

#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif

/* Ends the process with a message when @cond does not hold. */
#define CHECK(cond, ...)                                                   \
	do {                                                               \
		if (!(cond))                                               \
			test_fail(__FILE__, __LINE__, #cond, __VA_ARGS__); \
	} while (0)

/* A call of the library that must succeed. */
#define OK(call)                                                                        \
	do {                                                                            \
		int ok_rc_ = (call);                                                    \
		if (ok_rc_ != 0)                                                        \
			test_fail(__FILE__, __LINE__, #call, "returned %d: %s", ok_rc_, \
				  fln_last_error());                                    \
	} while (0)

/* A call that must fail with @want (negative), and whose sentence holds @word. */
#define REFUSED(call, want, word) test_refused(__FILE__, __LINE__, #call, (call), (want), (word))

/* Names what goes on from here, for the watchdog. */
#define STEP(...) test_step(__VA_ARGS__)

/* Runs one case: void fn(void).  Prints its name and time. */
#define RUN(fn) test_run(#fn, fn)

_Noreturn void test_fail(const char *file, int line, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void test_refused(const char *file, int line, const char *call, int rc, int want, const char *word);
void test_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void test_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void test_run(const char *name, void (*fn)(void));

/*
 * First in main().  Installs signal handlers and decides whether userfaultfd is
 * available: exits 77 with the reason when it is not.
 */
void test_init(void);
_Noreturn void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* FAULTLANE_TEST_SCALE: quick, normal or long. */
uint32_t test_scale(uint32_t quick, uint32_t normal, uint32_t many);
/* What this process may ask userfaultfd for: 0 or FLN_ENGINE_F_USER_MODE_ONLY. */
uint64_t test_engine_flags(void);

uint64_t now_ns(void);
uint64_t cpu_ns(void); /* of the process, all its threads */
void sleep_ms(uint32_t ms);
uint64_t next_random(uint64_t *state);

/*
 * Contents that tell whose they are: no word of a page is zero, and no two pages
 * of two images (@salt) are alike.
 */
uint64_t word_of(uint64_t salt, uint64_t page, uint32_t word);
void contents_of(uint64_t salt, uint64_t page, void *buf);

/* A touch: what became of it. */
enum touch {
	TOUCH_PENDING,
	TOUCH_OK,
	TOUCH_SIGBUS,
	TOUCH_SIGSEGV
};

enum touch touch_read(const void *addr, uint64_t *value);
enum touch touch_write(void *addr, uint64_t value);
/* Reads all of a page.  TOUCH_OK with *@right set when it has these contents. */
enum touch touch_page(const void *addr, uint64_t salt, uint64_t page, bool *right);
const char *touch_name(enum touch t);

/* A thread of its own for one touch. */
struct toucher {
	pthread_t thread;
	void *addr;
	bool write;
	uint64_t value; /* to write, or what was read */
	uint64_t took_ns;
	_Atomic int end;
};

void toucher_read(struct toucher *t, void *addr);
void toucher_write(struct toucher *t, void *addr, uint64_t value);
/* Waits and joins; ends the test, saying @what was waited for, after WAIT_S. */
enum touch toucher_wait(struct toucher *t, const char *what);
void toucher_expect(struct toucher *t, enum touch end, const char *what);
void toucher_expect_value(struct toucher *t, uint64_t value, const char *what);
void toucher_expect_asleep(struct toucher *t, uint32_t ms, const char *what);

/* Many threads that run one function. */
struct crew {
	uint32_t nr;
	void (*fn)(void *arg, uint32_t index);
	void *arg;
	_Atomic uint32_t nr_begun, nr_ended;
	struct crew_member {
		struct crew *crew;
		uint32_t index;
		pthread_t thread;
		_Atomic bool ended;
	} * members;
};

void crew_start(struct crew *c, uint32_t nr, void (*fn)(void *arg, uint32_t index), void *arg);
void crew_wait(struct crew *c, uint32_t seconds, const char *what);

/* Waits until *@counter is at least @want. */
void wait_count(_Atomic uint32_t *counter, uint32_t want, uint32_t seconds, const char *what);

/* A source that makes contents of @salt, optionally late, held back, or never. */
struct maker {
	uint64_t salt;
	uint64_t delay_ns;
	enum fln_source_concurrency concurrency;
	uint32_t every_zero;      /* every so many pages is a hole; 0: none */
	_Atomic bool gate_closed; /* reads wait while it is */
	_Atomic uint32_t nr_reads, nr_inside, max_inside, nr_destroyed;
	_Atomic uint64_t nr_bytes;
};

void maker_source(struct maker *m, struct fln_source **out);

/* What the library said. */
struct test_log {
	pthread_mutex_t lock;
	uint32_t nr;
	char lines[64][256];
};

void test_log_fn(void *ctx, enum fln_log_level level, const char *msg);
bool log_has(struct test_log *log, const char *word);
void wait_log(struct test_log *log, const char *word); /* until it does, up to WAIT_S */

/*
 * An engine with one image, one guest and one region.  bed_init() sets options
 * that can be changed before bed_up(); what is set already is not made.
 */
struct bed {
	uint64_t nr_pages;
	struct test_log log;
	struct maker maker;
	struct fln_engine_opts engine_opts;
	struct fln_image_opts image_opts;
	struct fln_guest_opts guest_opts;
	struct fln_region_opts region_opts;
	struct fln_source *source;
	struct fln_engine *engine;
	struct fln_image *image;
	struct fln_guest *guest;
	struct fln_region *region;
	uint8_t *mem;
};

void bed_init(struct bed *b, uint64_t nr_pages);
/* The engine and the image only; bed_up() goes on from there. */
void bed_up_image(struct bed *b);
void bed_up(struct bed *b);
/* Stops, checks I4, and destroys everything that is left. */
void bed_down(struct bed *b);
uint8_t *bed_page(const struct bed *b, uint64_t page);

/*
 * The calls of these names.  A thread that has no processor for as long as the source may
 * take has not come back either: on a machine that is full, one call more does it.
 */
int engine_stop_in_time(struct fln_engine *engine);
int image_destroy_in_time(struct fln_image *image);
int engine_destroy_in_time(struct fln_engine *engine);

/* faults = resumed + poisoned + failed (+ in flight, 0 when @stopped), and the classes add up. */
void check_stats(struct fln_guest *guest, bool stopped, struct fln_stats *out);

/*
 * The same of a guest that runs and in which nobody touches anything now.  A thread goes on
 * when its page is mapped, and what that took is counted after: waits until all of it is.
 */
void settled_stats(struct fln_guest *guest, struct fln_stats *out);

/*
 * Waits until @nr faults have been read, and those in the block of @spare_page are held by
 * their worker.  Of that page DONTNEED is said, so nobody waits for it.
 */
void wait_held(struct bed *b, uint64_t nr, uint64_t spare_page);

/* Whole guest read by @nr_threads in random order; every page verified. */
void read_all(const struct bed *b, uint32_t nr_threads);

/* What the process holds. */
uint32_t count_fds(void);
uint32_t count_maps(void);
uint32_t count_threads(void);
/* The same after having waited for the number to go down to @want. */
uint32_t settle_threads(uint32_t want);

/* A userfaultfd of the test's own; features as asked for, or it ends the test. */
int raw_uffd(uint64_t features);
int raw_register(int uffd, void *addr, uint64_t len, uint64_t mode); /* 0 or errno */
int raw_unregister(int uffd, void *addr, uint64_t len);

/*
 * Another process, forked before there are threads, that does what it is told.
 * Orders are answered one at a time.
 */
enum peer_order {
	PEER_QUIT,
	PEER_MAP,    /* maps the memfd that comes along, @len bytes */
	PEER_REMOVE, /* MADV_REMOVE of [offset, +len) */
	PEER_DONTNEED,
	PEER_PUNCH,   /* by the descriptor */
	PEER_FOREIGN, /* anonymous memory of @len bytes; answers its address, sends a userfaultfd */
	PEER_READ,    /* reads a word at @offset: answers how it ended and the word */
	PEER_WRITE,   /* writes a word (@len) at @offset */
};

struct peer {
	pid_t pid;
	int socket;
	pthread_mutex_t lock;
};

void peer_start(struct peer *p);
void peer_stop(struct peer *p);
/* @fd: to send along, or -1; @fd_out: to receive, or NULL. */
int64_t peer_do(struct peer *p, enum peer_order order, uint64_t offset, uint64_t len, int fd,
		int *fd_out, uint64_t *value);

#endif
