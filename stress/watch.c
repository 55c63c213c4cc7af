/* SPDX-License-Identifier: MIT */
/*
 * A thread or a step that waits too long is lost: print what it waits for, and end the run.  All
 * of this runs on the main thread.
 */
#include "stress/watch.h"

#include "stress/account.h"
#include "stress/complain.h"
#include "stress/stage.h"
#include "stress/stress.h"
#include "stress/task.h"
#include "stress/vcpus.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

double watch_oldest_touch(struct stress *s, struct toucher **whose)
{
	uint64_t now = touch_now_ns(s), oldest = now;

	*whose = NULL;
	for (uint32_t i = 0; i < s->opts.nr_threads; i++) {
		uint64_t since =
			atomic_load_explicit(&s->touchers[i].since_ns, memory_order_relaxed);

		if (since && since < oldest) {
			oldest = since;
			*whose = &s->touchers[i];
		}
	}
	return (double)(now - oldest) / 1e9;
}

/* Print the oldest fault that the engine knows of. */
static void print_engines_view(struct stress *s)
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
			found == 0 ? "knows of no waiting fault"
				   : "cannot be asked: a step holds the guest alone, or waits to");
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

	account_add(s, &now);
	(void)fprintf(stderr,
		      "\nfaultlane-stress: LOST: thread %u has waited for page %" PRIu64
		      " for %.1f s, where %s is due\n"
		      "  %" PRIu64 " faults, %" PRIu64 " resumed, %" PRIu64 " poisoned, %" PRIu64
		      " failed, %" PRIu64 " put off, gate %s, seed %" PRIu64 "\n",
		      t->index, page, age_s, model_describe(&s->model, page, buf, sizeof(buf)),
		      now.faults, now.resumed, now.poisoned, now.failed, now.again,
		      atomic_load(&s->gate) ? "closed" : "open", s->opts.seed);
	(void)fprintf(stderr, "  the thread %s\n", task_state(atomic_load(&t->tid)));
	print_engines_view(s);
	tell_remembered();
	stage_say_all();
	task_say_all();
	end_at_once(s);
}

/* A stage of a step of chaos may take twice as long as a touch. */
static void watch_chaos(struct stress *s)
{
	enum chaos_kind kind = CHAOS_NR;
	double age = stage_oldest(&kind);

	if (age <= 2 * s->opts.max_wait_s)
		return;
	(void)fprintf(stderr,
		      "\nfaultlane-stress: LOST: a step of %s has made no progress for %.1f s, "
		      "seed %" PRIu64 "\n",
		      chaos_names[kind], age, s->opts.seed);
	print_engines_view(s);
	tell_remembered();
	stage_say_all();
	task_say_all();
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
		account_check_ended(s);
		(void)pthread_rwlock_unlock(&s->world);
	}
	return age;
}
