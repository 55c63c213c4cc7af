/* SPDX-License-Identifier: MIT */
/*
 * Stages of the steps of chaos, one step at a time of each kind.  Each stage is written by the
 * thread of its kind alone, and read by the main thread, which reports a stage that never ends as
 * lost, and prints all stages when a thread or a step is lost (watch.c).
 */
#include "stress/stage.h"

#include "stress/stress.h"
#include "stress/task.h"

const char stage_waits_turn[] = "waits for its turn";
const char stage_waits_others[] = "waits for the steps of other kinds to end";

static struct stage {
	_Atomic pid_t tid;
	_Atomic uint64_t since_ns;   /* when it began; 0: no step is under way */
	_Atomic(const char *) stage; /* NULL: the step has only one */
} stages[CHAOS_NR];
static _Thread_local struct stage *my_stage;
static _Atomic uint64_t worked_ns; /* when a stage that is not a wait last began or ended */

static bool is_wait(const char *stage)
{
	return stage == stage_waits_turn || stage == stage_waits_others;
}

void stage_thread(enum chaos_kind kind)
{
	my_stage = &stages[kind];
	atomic_store(&my_stage->tid, gettid());
}

void stage_begin(const char *stage)
{
	if (!my_stage)
		return;
	/* First, so that no stage is ever seen with the age of the one before it. */
	atomic_store(&my_stage->since_ns, now_ns());
	if (!is_wait(atomic_exchange(&my_stage->stage, stage)) || !is_wait(stage))
		atomic_store(&worked_ns, now_ns());
}

void stage_end(void)
{
	if (!my_stage)
		return;
	atomic_store(&worked_ns, now_ns());
	atomic_store(&my_stage->since_ns, 0);
}

/*
 * A step that waits for its turn, or for other steps to end, waits for steps that have their own
 * time limits.  So its wait counts from when any step last began or ended a stage that is not
 * such a wait.
 */
static double age_of(struct stage *t, uint64_t now)
{
	uint64_t since = atomic_load(&t->since_ns), worked = atomic_load(&worked_ns);

	if (since && is_wait(atomic_load(&t->stage)) && worked > since)
		since = worked;
	return since && since < now ? (double)(now - since) / 1e9 : 0;
}

double stage_oldest(enum chaos_kind *kind)
{
	uint64_t now = now_ns();
	double oldest = 0;

	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		double age = age_of(&stages[k], now);

		if (age > oldest) {
			oldest = age;
			*kind = k;
		}
	}
	return oldest;
}

void stage_say_all(void)
{
	uint64_t now = now_ns();

	for (enum chaos_kind k = 0; k < CHAOS_NR; k++) {
		const char *stage = atomic_load(&stages[k].stage);

		if (atomic_load(&stages[k].since_ns))
			(void)fprintf(stderr, "  under way: %s%s%s, for %.1f s; its thread %s\n",
				      chaos_names[k], stage ? ", which " : "", stage ? stage : "",
				      age_of(&stages[k], now),
				      task_state(atomic_load(&stages[k].tid)));
	}
}
