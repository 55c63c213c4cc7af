/* SPDX-License-Identifier: MIT */
/*
 * Workers and fillers on threads that the embedder made beforehand, and that it gets
 * back as they were; hooks that are refused, and hooks that fail.
 */
#include "tests/integration/harness.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_WORKERS 2u
#define NR_FILLERS 3u
#define NR_THREADS (NR_WORKERS + NR_FILLERS + 1) /* and the guard */

/* What can be seen of a thread from outside and inside. */
struct looks {
	char name[16];
	cpu_set_t cpus;
	sigset_t signals;
	int nice;
};

struct lent {
	pthread_t thread;
	struct pool *pool;
	uint32_t index;
	bool busy;
	void *(*main)(void *arg);
	void *arg;
	enum fln_thread_kind kind;
	uint32_t number;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct lent threads[NR_THREADS];
	uint32_t nr_created, nr_joined, fail_at; /* of creates, from 1 on; 0: none */
	bool ending;
};

static void look(struct looks *l)
{
	memset(l, 0, sizeof(*l));
	(void)pthread_getname_np(pthread_self(), l->name, sizeof(l->name));
	CHECK(sched_getaffinity(0, sizeof(l->cpus), &l->cpus) == 0, "%s", strerror(errno));
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &l->signals) == 0, "sigmask");
	l->nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
}

static void check_looks(const struct looks *before)
{
	struct looks after;

	look(&after);
	CHECK(strcmp(before->name, after.name) == 0, "the thread was %s and is %s", before->name,
	      after.name);
	CHECK(CPU_EQUAL(&before->cpus, &after.cpus), "%s: other processors than before",
	      before->name);
	for (int sig = 1; sig < NSIG; sig++)
		CHECK(sigismember(&before->signals, sig) == sigismember(&after.signals, sig),
		      "%s: signal %d: blocked %d before, %d now", before->name, sig,
		      sigismember(&before->signals, sig), sigismember(&after.signals, sig));
	CHECK(before->nice == after.nice, "%s: nice was %d and is %d", before->name, before->nice,
	      after.nice);
}

/* Waits to be borrowed, again and again. */
static void *lent_main(void *arg)
{
	struct lent *t = arg;
	struct pool *p = t->pool;
	struct looks before;
	sigset_t some;
	int cancel;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	(void)sigemptyset(&some);
	(void)sigaddset(&some, SIGUSR1 + (int)(t->index % 2));
	(void)pthread_sigmask(SIG_BLOCK, &some, NULL);
	(void)pthread_setname_np(pthread_self(), "lent-by-me");
	look(&before);
	(void)pthread_mutex_lock(&p->lock);
	while (!p->ending) {
		if (!t->busy) {
			(void)pthread_cond_wait(&p->changed, &p->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&p->lock);
		(void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &cancel);
		CHECK(t->main(t->arg) == NULL, "main returned something");
		/* Cancelled meanwhile or not, this one goes on. */
		(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
		CHECK(cancel == PTHREAD_CANCEL_ENABLE, "it cannot be cancelled any more");
		check_looks(&before);
		(void)pthread_mutex_lock(&p->lock);
		t->busy = false;
		(void)pthread_cond_broadcast(&p->changed);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* What threads of the engine are called. */
static const char *const kinds[] = {
	[FLN_THREAD_WORKER] = "worker", [FLN_THREAD_FILLER] = "filler", [FLN_THREAD_LINK] = "link",
	[FLN_THREAD_GUARD] = "guard",   [FLN_THREAD_ENDER] = "ender",
};

static int lend(void *ctx, enum fln_thread_kind kind, uint32_t index, void *(*main)(void *arg),
		void *arg, void **handle)
{
	struct pool *p = ctx;
	struct lent *t = NULL;

	(void)pthread_mutex_lock(&p->lock);
	p->nr_created++;
	if (p->nr_created != p->fail_at) {
		for (uint32_t i = 0; i < NR_THREADS && !t; i++)
			t = p->threads[i].busy ? NULL : &p->threads[i];
		CHECK(t, "a thread too many is asked for");
		t->busy = true;
		t->kind = kind;
		t->number = index;
		t->main = main;
		t->arg = arg;
		*handle = t;
		(void)pthread_cond_broadcast(&p->changed);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return t ? 0 : -EXDEV;
}

static void get_back(void *ctx, void *handle)
{
	struct pool *p = ctx;
	struct lent *t = handle;

	(void)pthread_mutex_lock(&p->lock);
	while (t->busy)
		(void)pthread_cond_wait(&p->changed, &p->lock);
	p->nr_joined++;
	(void)pthread_mutex_unlock(&p->lock);
}

static void pool_start(struct pool *p)
{
	memset(p, 0, sizeof(*p));
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->changed, NULL);
	for (uint32_t i = 0; i < NR_THREADS; i++) {
		p->threads[i].pool = p;
		p->threads[i].index = i;
		CHECK(pthread_create(&p->threads[i].thread, NULL, lent_main, &p->threads[i]) == 0,
		      "no thread");
	}
}

static void pool_stop(struct pool *p)
{
	(void)pthread_mutex_lock(&p->lock);
	p->ending = true;
	(void)pthread_cond_broadcast(&p->changed);
	(void)pthread_mutex_unlock(&p->lock);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_join(p->threads[i].thread, NULL) == 0, "join");
}

static struct fln_thread_hooks hooks_of(struct pool *p)
{
	struct fln_thread_hooks hooks = {
		.size = sizeof(hooks), .ctx = p, .create = lend, .join = get_back
	};

	return hooks;
}

static void use_hooks(struct bed *b, struct fln_thread_hooks *hooks)
{
	b->engine_opts.nr_workers = NR_WORKERS;
	b->engine_opts.nr_fillers = NR_FILLERS;
	b->engine_opts.thread_hooks = hooks;
}

/* While an engine runs: each of its threads is one of the pool's, and is named. */
static void check_borrowed(struct pool *p)
{
	uint32_t nr[FLN_THREAD_NR_KINDS] = { 0 };
	char name[16], want[16];

	for (uint32_t i = 0; i < NR_THREADS; i++) {
		struct lent *t = &p->threads[i];

		CHECK(t->busy, "thread %u is not borrowed", i);
		(void)snprintf(want, sizeof(want), "fln-%s-%u", kinds[t->kind], t->number);
		for (uint32_t tries = 0; tries < 1000 * WAIT_S; tries++) {
			CHECK(pthread_getname_np(t->thread, name, sizeof(name)) == 0, "no name");
			if (strcmp(name, want) == 0)
				break;
			sleep_ms(1); /* it has not begun */
		}
		CHECK(strcmp(name, want) == 0, "a thread is called %s and not %s", name, want);
		CHECK(t->number == nr[t->kind], "kind %d: number %u comes after %u", (int)t->kind,
		      t->number, nr[t->kind]);
		nr[t->kind]++;
	}
	CHECK(nr[FLN_THREAD_WORKER] == NR_WORKERS && nr[FLN_THREAD_FILLER] == NR_FILLERS &&
		      nr[FLN_THREAD_GUARD] == 1,
	      "%u workers, %u fillers, %u guards", nr[FLN_THREAD_WORKER], nr[FLN_THREAD_FILLER],
	      nr[FLN_THREAD_GUARD]);
}

static void threads_are_borrowed(void)
{
	struct pool pool;
	struct bed b;

	pool_start(&pool);
	for (uint32_t round = 0; round < 3; round++) {
		struct fln_thread_hooks hooks = hooks_of(&pool);

		bed_init(&b, 3000);
		use_hooks(&b, &hooks);
		OK(fln_engine_create(&b.engine_opts, &b.engine));
		memset(&hooks, 0xff, sizeof(hooks)); /* they have been copied */
		STEP("round %u: starting on borrowed threads", round);
		OK(fln_engine_start(b.engine));
		check_borrowed(&pool);
		bed_up(&b);
		read_all(&b, 16);
		/* Once stopped, it may start again. */
		OK(fln_guest_stop(b.guest));
		OK(fln_engine_stop(b.engine));
		CHECK(pool.nr_created == pool.nr_joined, "%u lent, %u back", pool.nr_created,
		      pool.nr_joined);
		OK(fln_engine_start(b.engine));
		bed_down(&b);
		CHECK(pool.nr_created == 2 * NR_THREADS * (round + 1) &&
			      pool.nr_created == pool.nr_joined,
		      "%u lent, %u back", pool.nr_created, pool.nr_joined);
	}
	pool_stop(&pool);
}

/* An embedder that cancels the threads that it has lent: they serve on. */
static void threads_are_not_cancelled(void)
{
	struct fln_thread_hooks hooks;
	struct pool pool;
	struct bed b;

	pool_start(&pool);
	hooks = hooks_of(&pool);
	bed_init(&b, 3000);
	use_hooks(&b, &hooks);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	OK(fln_engine_start(b.engine));
	check_borrowed(&pool);
	for (uint32_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_cancel(pool.threads[i].thread) == 0, "cancel");
	STEP("a guest on threads that have been cancelled");
	bed_up(&b);
	read_all(&b, 16);
	bed_down(&b);
	pool_stop(&pool);
}

/* A hook that fails, whichever it is: the start fails with it, and nothing is left running. */
static void hooks_that_fail(void)
{
	struct fln_thread_hooks hooks;
	struct pool pool;
	struct bed b;

	pool_start(&pool);
	hooks = hooks_of(&pool);
	bed_init(&b, 600);
	use_hooks(&b, &hooks);
	OK(fln_engine_create(&b.engine_opts, &b.engine));
	for (uint32_t nth = 1; nth <= NR_THREADS; nth++) {
		STEP("hook %u fails", nth);
		pool.nr_created = pool.nr_joined = 0;
		pool.fail_at = nth;
		REFUSED(fln_engine_start(b.engine), -EXDEV,
			nth <= NR_FILLERS                ? "filler"
			: nth <= NR_FILLERS + NR_WORKERS ? "worker"
							 : "guard");
		CHECK(pool.nr_created == nth && pool.nr_joined == nth - 1, "%u lent, %u back",
		      pool.nr_created, pool.nr_joined);
		for (uint32_t i = 0; i < NR_THREADS; i++)
			CHECK(!pool.threads[i].busy, "thread %u did not come back", i);
	}
	pool.fail_at = 0;
	STEP("none fails");
	OK(fln_engine_start(b.engine));
	bed_up(&b);
	read_all(&b, 8);
	bed_down(&b);
	pool_stop(&pool);
}

static void hooks_that_are_refused(void)
{
	struct fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	struct fln_engine *engine = NULL;
	struct fln_thread_hooks hooks = { .size = sizeof(hooks), .create = lend };

	o.flags = test_engine_flags();
	o.thread_hooks = &hooks;
	REFUSED(fln_engine_create(&o, &engine), -EINVAL, "thread_hooks create join");
	hooks.create = NULL;
	hooks.join = get_back;
	REFUSED(fln_engine_create(&o, &engine), -EINVAL, "thread_hooks join create");
	hooks.size = 0;
	REFUSED(fln_engine_create(&o, &engine), -EINVAL, "fln_thread_hooks");
	/* None of both is as good as no hooks. */
	hooks.size = sizeof(hooks);
	hooks.join = NULL;
	OK(fln_engine_create(&o, &engine));
	OK(fln_engine_start(engine));
	OK(fln_engine_destroy(engine));
}

int main(void)
{
	test_init();
	RUN(hooks_that_are_refused);
	RUN(threads_are_borrowed);
	RUN(threads_are_not_cancelled);
	RUN(hooks_that_fail);
	return 0;
}
