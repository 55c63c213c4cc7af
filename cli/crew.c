/* SPDX-License-Identifier: MIT */
/* Work shared by a few threads. */
#include "cli/crew.h"

#include "cli/cli.h"
#include "cli/machine.h"
#include "cli/progress.h"

#include <faultlane/context.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_THREADS 16u

static void *crew_main(void *arg)
{
	struct cli_crew *crew = arg;
	/* Memory that was mapped can fault again: the kernel moves pages, for one. */
	bool entered = fln_thread_enter() == 0;

	while (!atomic_load(&crew->failed)) {
		uint64_t item = atomic_fetch_add(&crew->next, 1);

		if (item >= crew->nr_items || !crew->work(crew, item))
			break;
		atomic_fetch_add_explicit(&crew->nr_done, 1, memory_order_relaxed);
	}
	if (entered)
		fln_thread_leave();
	return NULL;
}

static uint64_t items_done(const void *ctx)
{
	const struct cli_crew *crew = ctx;

	return atomic_load_explicit(&crew->nr_done, memory_order_relaxed);
}

bool cli_crew_fail(struct cli_crew *crew, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)pthread_mutex_lock(&crew->mutex);
	if (!atomic_exchange(&crew->failed, true))
		(void)vsnprintf(crew->error, sizeof(crew->error), fmt, ap);
	(void)pthread_mutex_unlock(&crew->mutex);
	va_end(ap);
	return false;
}

bool cli_crew_run(struct cli_crew *crew, const char *title, uint64_t nr_items,
		  bool (*work)(struct cli_crew *crew, uint64_t item), void *ctx)
{
	struct cli_progress progress;
	pthread_t threads[MAX_THREADS];
	uint32_t want = cli_nr_cpus() < MAX_THREADS ? cli_nr_cpus() : MAX_THREADS;
	uint32_t nr = 0;

	memset(crew, 0, sizeof(*crew));
	(void)pthread_mutex_init(&crew->mutex, NULL);
	crew->nr_items = nr_items;
	crew->work = work;
	crew->ctx = ctx;
	cli_progress_start(&progress, title, nr_items, items_done, crew);
	/* This thread is one of the crew, so that it works when none can be started. */
	while (nr + 1 < want && pthread_create(&threads[nr], NULL, crew_main, crew) == 0)
		nr++;
	(void)crew_main(crew);
	while (nr)
		(void)pthread_join(threads[--nr], NULL);
	cli_progress_stop(&progress);
	(void)pthread_mutex_destroy(&crew->mutex);
	if (atomic_load(&crew->failed))
		cli_error("%s", crew->error);
	return !atomic_load(&crew->failed);
}
