/* SPDX-License-Identifier: MIT */
/* The progress bar. */
#include "measure/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WIDTH 40u
#define PERIOD_NS 100000000

static void draw(const struct measure_progress *p)
{
	static const char bar[] = "########################################";
	static const char gap[] = "                                        ";
	uint64_t done = p->done(p->ctx);
	uint64_t total = p->total ? p->total : 1;
	int filled;

	if (done > total)
		done = total;
	filled = (int)((double)done / (double)total * WIDTH);
	(void)fprintf(stderr, "\r  %-9s [%.*s%.*s] %3.0f %%", p->title, filled, bar,
		      (int)WIDTH - filled, gap, (double)done * 100.0 / (double)total);
	(void)fflush(stderr);
}

static void *progress_main(void *arg)
{
	struct measure_progress *p = arg;
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	(void)pthread_mutex_lock(&p->mutex);
	while (!p->stop) {
		until.tv_nsec += PERIOD_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		draw(p);
		(void)pthread_cond_timedwait(&p->cond, &p->mutex, &until);
	}
	(void)pthread_mutex_unlock(&p->mutex);
	return NULL;
}

void measure_progress_start(struct measure_progress *p, const char *title, uint64_t total,
			    uint64_t (*done)(const void *ctx), const void *ctx)
{
	memset(p, 0, sizeof(*p));
	p->title = title;
	p->total = total;
	p->done = done;
	p->ctx = ctx;
	if (!title || !isatty(STDERR_FILENO))
		return;
	(void)pthread_mutex_init(&p->mutex, NULL);
	(void)pthread_cond_init(&p->cond, NULL);
	p->running = pthread_create(&p->thread, NULL, progress_main, p) == 0;
}

void measure_progress_stop(struct measure_progress *p)
{
	if (!p->running)
		return;
	(void)pthread_mutex_lock(&p->mutex);
	p->stop = true;
	(void)pthread_cond_signal(&p->cond);
	(void)pthread_mutex_unlock(&p->mutex);
	(void)pthread_join(p->thread, NULL);
	(void)pthread_cond_destroy(&p->cond);
	(void)pthread_mutex_destroy(&p->mutex);
	(void)fputs("\r\033[K", stderr); /* clear the line for the output that follows */
	p->running = false;
}
