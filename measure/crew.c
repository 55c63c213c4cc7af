/* SPDX-License-Identifier: MIT */
/* Processes items on a few threads. */
#include "measure/crew.h"

#include "measure/error.h"
#include "measure/machine.h"
#include "measure/progress.h"

#include <faultlane/context.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_THREADS 16u

static void *crew_main(void *arg)
{
	struct measure_crew *crew = arg;
	/* Mapped memory can fault again, for instance after page migration. */
	bool entered = fln_thread_enter() == 0;

	while (!__atomic_load_n(&crew->failed, __ATOMIC_SEQ_CST)) {
		uint64_t item = __atomic_fetch_add(&crew->next, 1, __ATOMIC_SEQ_CST);

		if (item >= crew->nr_items || !crew->work(crew, item))
			break;
		__atomic_fetch_add(&crew->nr_done, 1, __ATOMIC_RELAXED);
	}
	if (entered)
		fln_thread_leave();
	return NULL;
}

static uint64_t items_done(const void *ctx)
{
	const struct measure_crew *crew = ctx;

	return __atomic_load_n(&crew->nr_done, __ATOMIC_RELAXED);
}

bool measure_crew_fail(struct measure_crew *crew, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)pthread_mutex_lock(&crew->mutex);
	if (!__atomic_exchange_n(&crew->failed, true, __ATOMIC_SEQ_CST))
		(void)vsnprintf(crew->error, sizeof(crew->error), fmt, ap);
	(void)pthread_mutex_unlock(&crew->mutex);
	va_end(ap);
	return false;
}

bool measure_crew_run(struct measure_crew *crew, const char *title, uint64_t nr_items,
		      bool (*work)(struct measure_crew *crew, uint64_t item), void *ctx)
{
	struct measure_progress progress;
	pthread_t threads[MAX_THREADS];
	uint32_t want = measure_nr_cpus() < MAX_THREADS ? measure_nr_cpus() : MAX_THREADS;
	uint32_t nr = 0;

	memset(crew, 0, sizeof(*crew));
	(void)pthread_mutex_init(&crew->mutex, NULL);
	crew->nr_items = nr_items;
	crew->work = work;
	crew->ctx = ctx;
	measure_progress_start(&progress, title, nr_items, items_done, crew);
	/* The calling thread works too, so it makes progress even if no thread can be started. */
	while (nr + 1 < want && pthread_create(&threads[nr], NULL, crew_main, crew) == 0)
		nr++;
	(void)crew_main(crew);
	while (nr)
		(void)pthread_join(threads[--nr], NULL);
	measure_progress_stop(&progress);
	(void)pthread_mutex_destroy(&crew->mutex);
	if (__atomic_load_n(&crew->failed, __ATOMIC_SEQ_CST))
		measure_error("%s", crew->error);
	return !__atomic_load_n(&crew->failed, __ATOMIC_SEQ_CST);
}
