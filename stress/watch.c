/* SPDX-License-Identifier: MIT */
/* Who waits for ever is lost: it is said what for, and the run ends. */
#include "stress/stress.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* A thread's state as in /proc: R, S, D; 0: it is not known.  The engine's tell by their name. */
static char state_of(const char *tid, bool *is_engines)
{
	char path[320], line[512] = "";
	const char *end;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%s/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	end = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	(void)fclose(f);
	*is_engines = strstr(line, "(fln-") != NULL;
	return end && end[1] ? end[2] : 0;
}

const char *watch_state(pid_t tid)
{
	bool is_engines;
	char text[16], state;

	(void)snprintf(text, sizeof(text), "%d", (int)tid);
	state = state_of(text, &is_engines);
	return state == 'R' ? "runs or wants a processor"
	       : state      ? "sleeps"
			    : "cannot be looked at";
}

/* Does anybody run?  Where all sleep they wait for each other. */
static void say_threads(void)
{
	uint32_t nr = 0, nr_running = 0, nr_engines = 0, nr_engines_running = 0;
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;

	while (dir && (e = readdir(dir)) != NULL) {
		bool is_engines = false, runs;

		if (e->d_name[0] == '.')
			continue;
		runs = state_of(e->d_name, &is_engines) == 'R';
		nr++;
		nr_running += runs;
		nr_engines += is_engines;
		nr_engines_running += is_engines && runs;
	}
	if (!dir)
		return;
	(void)closedir(dir);
	(void)fprintf(stderr,
		      "  of %u threads %u run or want a processor; of the engine's %u, %u\n", nr,
		      nr_running, nr_engines, nr_engines_running);
}

double watch_oldest_touch(struct stress *s, struct toucher **who)
{
	uint64_t now = touch_now_ns(s), oldest = now;

	*who = NULL;
	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		uint64_t since =
			atomic_load_explicit(&s->touchers[i].since_ns, memory_order_relaxed);

		if (since && since < oldest) {
			oldest = since;
			*who = &s->touchers[i];
		}
	}
	return (double)(now - oldest) / 1e9;
}

/* What the engine has to say: of the same fault, or that it knows of none. */
static void say_engines_view(struct stress *s)
{
	struct fln_oldest_fault f = FLN_OLDEST_FAULT_INIT;
	int found = -EBUSY;

	if (pthread_rwlock_tryrdlock(&s->world) == 0) {
		found = s->guest ? fln_guest_oldest_fault(s->guest, &f) : 0;
		(void)pthread_rwlock_unlock(&s->world);
	}
	if (found != 1) {
		(void)fprintf(
			stderr, "  the engine %s\n",
			found == 0
				? "knows of no fault that waits"
				: "is not asked: a step has the guest to itself, or waits for that");
		return;
	}
	(void)fprintf(stderr,
		      "  the engine's oldest fault: 0x%" PRIx64 " (page %" PRIu64
		      " of its region), shard %u, worker %u, for %.1f s; it waits for %s",
		      f.addr, f.offset_bytes / PAGE_BYTES, f.shard, f.worker,
		      (double)f.age_ns / 1e9, fln_waits_for_name(f.waits_for));
	if (f.waits_ns)
		(void)fprintf(stderr, ", for %.1f s", (double)f.waits_ns / 1e9);
	(void)fputc('\n', stderr);
}

_Noreturn void watch_lost(struct stress *s, struct toucher *t, double age_s)
{
	uint64_t page = atomic_load(&t->page);
	struct totals now = s->totals;
	char buf[128];

	memory_take_stats(s, &now);
	(void)fprintf(stderr,
		      "\nfaultlane-stress: LOST: thread %u waits for page %" PRIu64
		      " for %.1f s, where %s is due\n"
		      "  %" PRIu64 " faults, %" PRIu64 " resumed, %" PRIu64 " poisoned, %" PRIu64
		      " failed, %" PRIu64 " put off, gate %s, seed %" PRIu64 "\n",
		      t->index, page, age_s, model_describe(&s->model, page, buf, sizeof(buf)),
		      now.faults, now.resumed, now.poisoned, now.failed, now.again,
		      atomic_load(&s->gate) ? "closed" : "open", s->opts.seed);
	(void)fprintf(stderr, "  the thread %s\n", watch_state(atomic_load(&t->tid)));
	say_engines_view(s);
	chaos_say_steps(s);
	say_threads();
	end_at_once(s);
}

/* A stage of a step of chaos takes as long as several touches, and not for ever. */
static void watch_chaos(struct stress *s)
{
	enum chaos_kind kind = CHAOS_NR;
	double age = chaos_oldest(s, &kind);

	if (age <= 2 * s->opts.max_wait_s)
		return;
	(void)fprintf(stderr,
		      "\nfaultlane-stress: LOST: a step of %s has come no further for %.1f s, "
		      "seed %" PRIu64 "\n",
		      chaos_names[kind], age, s->opts.seed);
	say_engines_view(s);
	chaos_say_steps(s);
	say_threads();
	end_at_once(s);
}

double watch_once(struct stress *s)
{
	struct toucher *t;
	double age = watch_oldest_touch(s, &t);

	if (t && age > s->opts.max_wait_s)
		watch_lost(s, t, age);
	watch_chaos(s);
	if (pthread_rwlock_tryrdlock(&s->world) == 0) {
		memory_check_ended(s);
		(void)pthread_rwlock_unlock(&s->world);
	}
	return age;
}
