/* SPDX-License-Identifier: MIT */
/*
 * faultlane-stress: hundreds of threads touch lazily served memory while the failures of
 * production are injected; every page is verified, every fault accounted for.
 */
#include "stress/account.h"
#include "stress/chaos.h"
#include "stress/complain.h"
#include "stress/gate.h"
#include "stress/guard.h"
#include "stress/memory.h"
#include "stress/neighbour.h"
#include "stress/stress.h"
#include "stress/task.h"
#include "stress/toucher.h"
#include "stress/vcpus.h"
#include "stress/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_WRONG 1
#define EXIT_SKIPPED 77

/* Counts of the process's resources that could be leaked. */
struct census {
	uint32_t descriptors, threads, image_mappings;
};

static uint32_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		(void)closedir(dir);
	return nr;
}

static struct census take_census(void)
{
	struct census c = { .descriptors = count_entries("/proc/self/fd"),
			    .threads = count_entries("/proc/self/task") };
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		c.image_mappings += strstr(line, "memfd:stress") != NULL;
	if (f)
		(void)fclose(f);
	return c;
}

static void compare_census(struct stress *s, const struct census *before)
{
	struct census after = take_census();

	/* Threads that have been joined leave /proc a moment later. */
	for (uint32_t i = 0; i < 100 && after.threads > before->threads; i++) {
		sleep_ms(10);
		after = take_census();
	}
	if (after.descriptors != before->descriptors)
		complain(s, "%u descriptors before, %u after", before->descriptors,
			 after.descriptors);
	if (after.threads != before->threads)
		complain(s, "%u threads before, %u after", before->threads, after.threads);
	if (after.image_mappings != before->image_mappings)
		complain(s, "%u mappings of the image are left", after.image_mappings);
}

struct sums {
	uint64_t touches, verified, declared;
	uint64_t longest_ns;
};

static struct sums sum_touchers(struct stress *s)
{
	struct sums x = { 0 };

	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		struct toucher *t = &s->touchers[i];

		x.touches += atomic_load_explicit(&t->nr_touches, memory_order_relaxed);
		x.verified += atomic_load_explicit(&t->nr_verified, memory_order_relaxed);
		if (atomic_load_explicit(&t->longest_ns, memory_order_relaxed) > x.longest_ns)
			x.longest_ns = atomic_load_explicit(&t->longest_ns, memory_order_relaxed);
		x.declared += atomic_load_explicit(&t->nr_declared, memory_order_relaxed);
	}
	return x;
}

static void status_line(struct stress *s, double elapsed_s, double age_s)
{
	static uint64_t last_touches;
	static double last_s;
	struct sums x = sum_touchers(s);
	struct totals now = s->totals;
	double rate =
		elapsed_s > last_s ? (double)(x.touches - last_touches) / (elapsed_s - last_s) : 0;

	if (pthread_rwlock_tryrdlock(&s->world) == 0) {
		account_add(s, &now);
		(void)pthread_rwlock_unlock(&s->world);
	}
	(void)fprintf(stderr,
		      "\r%6.1f s  %8.0f touches/s  faults %" PRIu64 " (minor %" PRIu64
		      " major %" PRIu64 " zero %" PRIu64 ")  in flight %" PRIu64
		      "  oldest %5.2f s (engine: %5.2f s)  wrong %" PRIu64 "   ",
		      elapsed_s, rate, now.faults, now.minor, now.major, now.zero,
		      now.faults - now.resumed - now.poisoned - now.failed, age_s,
		      (double)now.oldest_ns / 1e9, atomic_load(&s->nr_wrong));
	last_touches = x.touches;
	last_s = elapsed_s;
}

static bool touches_done(struct stress *s)
{
	return s->opts.nr_touches > 0 && sum_touchers(s).touches >= s->opts.nr_touches;
}

static double watch(struct stress *s)
{
	bool tty = isatty(STDERR_FILENO) && !s->opts.quiet;
	uint64_t n = 0;
	double elapsed = 0;

	task_raise_priority();
	for (;;) {
		double age;

		sleep_ms(100);
		elapsed = run_time_s(s);
		age = watch_once(s);
		if (tty && n++ % 3 == 0)
			status_line(s, elapsed, age);
		if (atomic_load(&s->stop) || touches_done(s) ||
		    (s->opts.seconds > 0 && elapsed >= s->opts.seconds))
			break;
	}
	if (tty)
		(void)fputc('\n', stderr);
	return elapsed;
}

/* Join the touchers, with a time limit: a thread that hangs is reported as lost. */
static void end_touchers(struct stress *s)
{
	bool busy = true;

	while (busy) {
		struct toucher *t;
		double age = watch_oldest_touch(s, &t);

		busy = t != NULL;
		if (busy && age > s->opts.max_wait_s)
			watch_lost(s, t, age);
		if (busy)
			sleep_ms(10);
	}
	touchers_join(s);
}

static void crowds_text(const char *name, const struct crowd_counts *c)
{
	if (c->nr == 0)
		return;
	(void)printf("%s that had the guest to themselves: %" PRIu64 ", with %" PRIu64
		     " faults, %" PRIu64 " fills (at most %" PRIu64 " each), %" PRIu64
		     " installs (at most %" PRIu64 ")\n",
		     name, c->nr, c->faults, c->fills, c->fills_max, c->installs, c->installs_max);
}

static void crowds_json(const char *name, const struct crowd_counts *c)
{
	(void)printf(", \"%s\": {\"counted\": %" PRIu64 ", \"faults\": %" PRIu64
		     ", \"fills\": %" PRIu64 ", \"fills_max\": %" PRIu64 ", \"installs\": %" PRIu64
		     ", \"installs_max\": %" PRIu64 "}",
		     name, c->nr, c->faults, c->fills, c->fills_max, c->installs, c->installs_max);
}

static void report_text(const struct stress *s, const struct sums *x, double elapsed_s)
{
	const struct totals *t = &s->totals;

	(void)printf("seed %" PRIu64 ": %u %s, %.1f s, %" PRIu64 " touches, %" PRIu64
		     " pages verified, %" PRIu64 " wrong, %" PRIu64 " lost; faults %" PRIu64
		     " (minor %" PRIu64 ", major %" PRIu64 ", zero %" PRIu64 ", invalid %" PRIu64
		     "), refaults %" PRIu64 ", poisoned %" PRIu64 ", in context %" PRIu64
		     ", ended as declared %" PRIu64
		     ", longest service %.1f us, longest touch %.1f ms; chaos:",
		     s->opts.seed, s->opts.nr_threads, s->opts.kvm ? "vCPUs" : "threads", elapsed_s,
		     x->touches, x->verified, atomic_load(&s->nr_wrong), t->unaccounted, t->faults,
		     t->minor, t->major, t->zero, t->invalid, t->refaults, t->poisoned,
		     t->in_context, x->declared, (double)t->service.max_ns / 1e3,
		     (double)x->longest_ns / 1e6);
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (has_chaos(&s->opts, k))
			(void)printf(" %s %" PRIu64, chaos_names[k], atomic_load(&s->nr_chaos[k]));
	}
	(void)puts(s->opts.chaos ? "" : " none");
	crowds_text("stampedes", &s->stampedes);
	crowds_text("convergences", &s->convergences);
}

static void report_json(const struct stress *s, const struct sums *x, double elapsed_s)
{
	const struct totals *t = &s->totals;
	const char *comma = "";

	(void)printf("{\"seed\": %" PRIu64 ", \"guest\": \"%s\", \"threads\": %u, \"seconds\": %.1f"
		     ", \"touches\": %" PRIu64 ", \"pages_verified\": %" PRIu64
		     ", \"wrong\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"faults\": %" PRIu64
		     ", \"minor\": %" PRIu64 ", \"major\": %" PRIu64 ", \"zero\": %" PRIu64
		     ", \"invalid\": %" PRIu64 ", \"refaults\": %" PRIu64 ", \"poisoned\": %" PRIu64
		     ", \"in_context\": %" PRIu64 ", \"declared\": %" PRIu64
		     ", \"service_max_us\": %.1f, \"touch_max_ms\": %.1f, \"chaos\": {",
		     s->opts.seed, s->opts.kvm ? "kvm" : "threads", s->opts.nr_threads, elapsed_s,
		     x->touches, x->verified, atomic_load(&s->nr_wrong), t->unaccounted, t->faults,
		     t->minor, t->major, t->zero, t->invalid, t->refaults, t->poisoned,
		     t->in_context, x->declared, (double)t->service.max_ns / 1e3,
		     (double)x->longest_ns / 1e6);
	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		if (!has_chaos(&s->opts, k))
			continue;
		(void)printf("%s\"%s\": %" PRIu64, comma, chaos_names[k],
			     atomic_load(&s->nr_chaos[k]));
		comma = ", ";
	}
	(void)putchar('}');
	crowds_json("stampedes", &s->stampedes);
	crowds_json("convergences", &s->convergences);
	(void)puts("}");
}

static void report(struct stress *s, double elapsed_s)
{
	struct sums x = sum_touchers(s);

	atomic_store(&s->nr_chaos[CHAOS_SOURCE_ERRORS], atomic_load(&s->source.nr_errors));
	atomic_store(&s->nr_chaos[CHAOS_SHORT_READS], atomic_load(&s->source.nr_short));
	atomic_store(&s->nr_chaos[CHAOS_SLOW_SOURCE], atomic_load(&s->source.nr_slow));
	(s->opts.json ? report_json : report_text)(s, &x, elapsed_s);
}

/* Create and destroy an engine once, so that what the library keeps is in the first census. */
static int warm_up(struct stress *s)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine;
	struct fln_guest *guest;
	int rc;

	o.flags = s->opts.user_mode_only ? FLN_ENGINE_F_USER_MODE_ONLY : 0;
	rc = fln_engine_create(&o, &engine);
	if (rc) {
		(void)fprintf(stderr, "faultlane-stress: %s\n", fln_last_error());
		return rc;
	}
	rc = fln_guest_create(engine, NULL, &guest);
	if (rc == 0)
		rc = fln_guest_destroy(guest);
	if (rc)
		(void)fprintf(stderr, "faultlane-stress: %s\n", fln_last_error());
	(void)fln_engine_destroy(engine);
	return rc;
}

static int init_world(struct stress *s)
{
	pthread_rwlockattr_t attr;

	(void)pthread_rwlockattr_init(&attr);
	/* Else the thread that restarts the guest would wait for ever for the others' pauses to meet. */
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&s->world, &attr);
	gate_init(s);
	(void)pthread_rwlockattr_destroy(&attr);
	s->messages = stderr;
	return touchers_alloc(s) == 0 && model_init(&s->model, s->opts.memory_bytes / PAGE_BYTES,
						    s->opts.seed) == 0
		       ? 0
		       : -ENOMEM;
}

/*
 * As in a host that has closed its standard streams: no descriptor that the library keeps may
 * take the number of a standard stream, which other code would read or write.
 */
static int create_without_stdin(struct stress *s)
{
	int rc;

	(void)close(STDIN_FILENO);
	rc = memory_create(s);
	if (fcntl(STDIN_FILENO, F_GETFD) >= 0)
		complain(s, "the library keeps descriptor %d", STDIN_FILENO);
	else if (open("/dev/null", O_RDONLY) != STDIN_FILENO)
		complain(s, "no descriptor is free: %s", strerror(errno));
	return rc;
}

static int run(struct stress *s, double *elapsed_s)
{
	int rc = s->opts.kvm ? vcpus_create(s) : 0;

	atomic_store(&s->begin_ns, now_ns());
	if (rc == 0)
		rc = create_without_stdin(s);
	if (rc)
		return rc;
	atomic_store(&s->begin_ns, now_ns());
	rc = touchers_start(s);
	if (rc)
		return rc;
	rc = chaos_start(s);
	*elapsed_s = rc ? 0 : watch(s);
	atomic_store(&s->stop, true);
	while (!chaos_ended()) {
		(void)watch_once(s);
		sleep_ms(10);
	}
	/* Before opening the gate: a step that restarts the guest closes it. */
	chaos_stop();
	atomic_store(&s->source.healthy, true);
	gate_open(s);
	end_touchers(s);
	if (rc == 0)
		rc = memory_destroy(s);
	vcpus_destroy(s);
	return rc;
}

/* Output that cannot be written is an error, whichever way the process ends. */
static void check_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	(void)fprintf(stderr, "faultlane-stress: cannot write to standard output\n");
	_exit(EXIT_WRONG);
}

int main(int argc, char **argv)
{
	static struct stress s;
	struct census before;
	double elapsed_s = 0;
	int rc;

	if (argc > 1 && strcmp(argv[1], NEIGHBOUR_ARG) == 0)
		return neighbour_main(argc, argv);
	(void)atexit(check_output);
	rc = options_parse(&s.opts, argc, argv);
	if (rc)
		return rc == 1 ? 0 : rc;
	/* If it is closed, the next descriptor that this program opens would take its number. */
	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		(void)open("/dev/null", O_RDONLY);
	if (s.opts.kvm && vcpu_unavailable()) {
		(void)fprintf(stderr, "SKIP: faultlane-stress: --guest kvm: %s\n",
			      vcpu_last_error());
		return EXIT_SKIPPED;
	}
	rc = warm_up(&s);
	if (rc)
		return rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EOPNOTSUPP
			       ? EXIT_SKIPPED
			       : EXIT_WRONG;
	if (init_world(&s) || guard_install(s.opts.in_context, &s.nr_signals)) {
		(void)fprintf(stderr, "faultlane-stress: no memory\n");
		return EXIT_WRONG;
	}
	chaos_prepare(&s);
	before = take_census();
	rc = run(&s, &elapsed_s);
	if (rc == 0)
		compare_census(&s, &before);
	undo_all(&s);
	report(&s, elapsed_s);
	model_deinit(&s.model);
	touchers_free(&s);
	return rc || atomic_load(&s.nr_wrong) ? EXIT_WRONG : 0;
}
