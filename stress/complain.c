/* SPDX-License-Identifier: MIT */
/* Reports errors, counts them, and may end the run. */
#include "stress/complain.h"

#include "stress/stress.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>

#define EXIT_WRONG 1
#define COMPLAINTS_MAX 20u
#define UNDOES_MAX 4u

#define REMEMBERED_MAX 16u

double run_time_s(const struct stress *s)
{
	uint64_t begin = atomic_load(&s->begin_ns), now = now_ns();

	return now > begin ? (double)(now - begin) / 1e9 : 0;
}

static undo_fn undoes[UNDOES_MAX];
static uint32_t nr_undoes;

/* The last messages of the engine; under the lock. */
static pthread_mutex_t remembered_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	double at_s;
	char text[256];
} remembered[REMEMBERED_MAX];
static uint64_t nr_remembered;

void remember(const struct stress *s, const char *msg)
{
	uint64_t at;

	(void)pthread_mutex_lock(&remembered_lock);
	at = nr_remembered++ % REMEMBERED_MAX;
	remembered[at].at_s = run_time_s(s);
	(void)snprintf(remembered[at].text, sizeof(remembered[at].text), "%s", msg);
	(void)pthread_mutex_unlock(&remembered_lock);
}

void tell_remembered(void)
{
	(void)pthread_mutex_lock(&remembered_lock);
	for (uint64_t i = nr_remembered > REMEMBERED_MAX ? nr_remembered - REMEMBERED_MAX : 0;
	     i < nr_remembered; i++)
		(void)fprintf(stderr, "  the engine said after %.1f s: %s\n",
			      remembered[i % REMEMBERED_MAX].at_s,
			      remembered[i % REMEMBERED_MAX].text);
	(void)pthread_mutex_unlock(&remembered_lock);
}

void undo_at_end(undo_fn undo)
{
	if (nr_undoes < UNDOES_MAX)
		undoes[nr_undoes++] = undo;
}

void undo_all(struct stress *s)
{
	/* Several threads may end the program, so each undo function can be called again. */
	for (uint32_t i = nr_undoes; i-- > 0;)
		undoes[i](s);
}

_Noreturn void end_at_once(struct stress *s)
{
	if (getenv("FAULTLANE_STRESS_WAIT"))
		(void)pause(); /* for a debugger */
	undo_all(s);
	_exit(EXIT_WRONG);
}

void complain(struct stress *s, const char *format, ...)
{
	uint64_t n = atomic_fetch_add(&s->nr_wrong, 1);
	char text[512];
	va_list args;

	if (n >= COMPLAINTS_MAX)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)fprintf(stderr, "\nfaultlane-stress: WRONG: %s (after %.1f s)\n", text,
		      run_time_s(s));
	if (n == 0)
		tell_remembered();
	if (s->opts.until_wrong)
		end_at_once(s);
}
