/* SPDX-License-Identifier: MIT */
/*
 * The library loaded by dlopen() into a program with a malloc of its own: it finds
 * room for its thread-local data, and its threads call malloc for nothing.
 *
 * usage: test_integration_plugin LIBRARY
 */
#include "tests/support/interpose.h"

#include <dirent.h>
#include <dlfcn.h>
#include <faultlane/faultlane.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_THREADS 64u
#define NR_PAGES 8192u
#define PAGE ((size_t)4096)
#define LIMIT_S 200u

#define FUNCTIONS(F)             \
	F(fln_engine_create)     \
	F(fln_engine_start)      \
	F(fln_engine_nr_workers) \
	F(fln_engine_destroy)    \
	F(fln_source_create)     \
	F(fln_source_destroy)    \
	F(fln_image_create)      \
	F(fln_image_destroy)     \
	F(fln_guest_create)      \
	F(fln_guest_start)       \
	F(fln_guest_destroy)     \
	F(fln_region_add)        \
	F(fln_region_addr)       \
	F(fln_last_error)

/* Each is a pointer of its function's type, with the name behind "lib.". */
#define POINTER(name) __typeof__(&name) name;
static struct {
	FUNCTIONS(POINTER)
} lib;

#define CHECK(cond, ...)                                              \
	do {                                                          \
		if (!(cond)) {                                        \
			(void)fprintf(stderr, "line %d: ", __LINE__); \
			(void)fprintf(stderr, __VA_ARGS__);           \
			(void)fputc('\n', stderr);                    \
			_exit(1);                                     \
		}                                                     \
	} while (0)
#define OK(call) CHECK((call) == 0, #call ": %s", lib.fln_last_error())

static void load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	CHECK(handle, "dlopen: %s", dlerror());
	/* A function pointer may be copied from dlsym()'s, not cast. */
#define FIND(name)                                    \
	do {                                          \
		void *sym = dlsym(handle, #name);     \
		CHECK(sym, "%s is not there", #name); \
		memcpy(&lib.name, &sym, sizeof(sym)); \
	} while (0);
	FUNCTIONS(FIND)
}

/* Page n begins with n + 1; the last 512 pages fail. */
static int64_t read_pages(void *ctx, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	(void)ctx;
	if (offset_bytes + len_bytes > (NR_PAGES - 512) * PAGE)
		return -5; /* EIO */
	memset(buf, 0, len_bytes);
	for (uint64_t at = 0; at < len_bytes; at += PAGE) {
		uint64_t word = (offset_bytes + at) / PAGE + 1;

		memcpy((char *)buf + at, &word, sizeof(word));
	}
	return (int64_t)len_bytes;
}

static char *memory;
static _Atomic uint32_t nr_wrong;

static void *touch(void *arg)
{
	for (size_t page = (size_t)(uintptr_t)arg; page < NR_PAGES - 512; page += NR_THREADS) {
		uint64_t word;

		memcpy(&word, memory + page * PAGE, sizeof(word));
		if (word != page + 1)
			atomic_fetch_add(&nr_wrong, 1);
	}
	return NULL;
}

static sigjmp_buf failed;

static void on_sigbus(int sig)
{
	siglongjmp(failed, sig);
}

/* A page that fails: its way has errors to speak of. */
static void touch_failing(void)
{
	volatile const char *page = memory + (NR_PAGES - 1) * PAGE;

	(void)signal(SIGBUS, on_sigbus);
	if (sigsetjmp(failed, 1) == 0)
		CHECK(false, "a page whose source fails reads %d", *page);
	(void)signal(SIGBUS, SIG_DFL);
}

static void touch_all(void)
{
	pthread_t threads[NR_THREADS];

	for (uintptr_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, touch, (void *)i) == 0, "no thread");
	for (uint32_t i = 0; i < NR_THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	CHECK(atomic_load(&nr_wrong) == 0, "%u pages were wrong", atomic_load(&nr_wrong));
	CHECK(madvise(memory, 2048 * PAGE, MADV_REMOVE) == 0, "MADV_REMOVE");
	for (size_t page = 0; page < 2048; page++)
		CHECK(memory[page * PAGE] == 0, "page %zu was given up and is not zero", page);
}

static void log_line(void *ctx, enum fln_log_level level, const char *msg)
{
	(void)ctx;
	(void)level;
	(void)!write(STDERR_FILENO, msg, strlen(msg));
	(void)!write(STDERR_FILENO, "\n", 1);
}

/* How many threads of the engine sleep: have begun, and wait for work. */
static uint32_t nr_asleep(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	uint32_t nr = 0;

	CHECK(dir, "/proc/self/task");
	while ((entry = readdir(dir)) != NULL) {
		char path[300], stat[64] = "";
		FILE *f;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		nr += fgets(stat, sizeof(stat), f) && strstr(stat, "(fln-") && strstr(stat, ") S ");
		(void)fclose(f);
	}
	(void)closedir(dir);
	return nr;
}

static void say_caller(uint64_t nr, void *caller)
{
	Dl_info info = { .dli_fname = "?" };

	if (nr > 0)
		(void)dladdr(caller, &info);
	CHECK(nr == 0,
	      "threads of the engine called malloc or free %llu times, first from %s + 0x%tx",
	      (unsigned long long)nr, info.dli_fname, (char *)caller - (char *)info.dli_fbase);
}

static void serve(void)
{
	struct fln_source_ops ops = { .size = sizeof(ops),
				      .name = "pages",
				      .concurrency = FLN_SOURCE_PARALLEL,
				      .read = read_pages };
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_engine *engine;
	struct fln_guest *guest;
	struct fln_region *region;
	uint64_t nr;
	void *caller;

	engine_opts.flags = FLN_ENGINE_F_USER_MODE_ONLY;
	engine_opts.nr_fillers = 4;
	engine_opts.log = log_line;
	engine_opts.source_retries = UINT32_MAX;
	engine_opts.worker_nice = FLN_NICE_KEEP;
	if (lib.fln_engine_create(&engine_opts, &engine) != 0) {
		(void)printf("SKIP: %s\n", lib.fln_last_error());
		exit(77);
	}
	OK(lib.fln_engine_start(engine));
	OK(lib.fln_source_create(&ops, NULL, &image_opts.source));
	image_opts.len_bytes = region_opts.len_bytes = NR_PAGES * PAGE;
	OK(lib.fln_image_create(engine, &image_opts, &region_opts.image));
	OK(lib.fln_guest_create(engine, NULL, &guest));
	OK(lib.fln_region_add(guest, &region_opts, &region));
	memory = lib.fln_region_addr(region);
	OK(lib.fln_guest_start(guest));
	/* A thread allocates when it begins (liburcu's place for it), and not from then on. */
	while (nr_asleep() < engine_opts.nr_fillers + lib.fln_engine_nr_workers(engine) + 1)
		(void)usleep(1000);
	interpose_watch(true);
	touch_all();
	touch_failing();
	nr = interpose_nr_watched(&caller);
	interpose_watch(false);
	say_caller(nr, caller);
	OK(lib.fln_guest_destroy(guest));
	OK(lib.fln_image_destroy(region_opts.image));
	lib.fln_source_destroy(image_opts.source);
	OK(lib.fln_engine_destroy(engine));
}

int main(int argc, char **argv)
{
	CHECK(argc == 2, "usage: %s LIBRARY", argv[0]);
	if (!interpose_works()) {
		(void)puts("SKIP: a sanitizer's malloc is not to be replaced");
		return 77;
	}
	(void)alarm(LIMIT_S); /* a hang ends with SIGALRM */
	load(argv[1]);
	CHECK(interpose_nr_calls() > 0, "the program's malloc is not the one in use");
	serve();
	return 0;
}
