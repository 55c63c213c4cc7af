/* SPDX-License-Identifier: MIT */
/*
 * The shards of a guest's in-context regions.
 *
 * They are separate userfaultfds, because UFFD_FEATURE_SIGBUS belongs to a whole userfaultfd.  No
 * fault is ever read from them.  Still each is attached to a worker, which reads their events (no
 * mremap() or discard goes unnoticed), gives back the chunks of wholly mapped blocks, and fills
 * pages for threads in fln_resolve().
 *
 * Tested by integration.context, integration.context_life.
 */
#include "engine/context/shards.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/command.h"
#include "engine/owners.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"
#include "engine/uffd_open.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t shards_bytes(const struct fln_guest *guest)
{
	return guest->nr_shards * sizeof(struct fln_shard);
}

static int open_uffds(struct fln_guest *guest, struct fln_shard *shards)
{
	struct fln_engine *engine = guest->engine;
	bool user_only = engine->opts.flags & FLN_ENGINE_F_USER_MODE_ONLY;
	uint64_t features = FLN_UFFD_GUEST_FEATURES | UFFD_FEATURE_SIGBUS;

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		int rc;

		shards[i].guest = guest;
		shards[i].index = i;
		shards[i].in_context = true;
		rc = fln_uffd_open(&shards[i].uffd, user_only, features);
		/*
		 * With SIGBUS no fault of the kernel is ever served, so a user-mode-only
		 * userfaultfd does as well if privileges were dropped.
		 */
		if ((rc == -EPERM || rc == -EACCES) && !user_only)
			rc = fln_uffd_open(&shards[i].uffd, true, features);
		if (rc == 0)
			continue;
		while (i-- > 0)
			fln_uffd_close(&shards[i].uffd);
		return rc;
	}
	return 0;
}

int fln_context_reopen(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	return shards ? open_uffds(guest, shards) : 0;
}

void fln_context_close_uffds(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	for (uint32_t i = 0; shards && i < guest->nr_shards; i++)
		fln_uffd_close(&shards[i].uffd);
}

int fln_context_open(struct fln_guest *guest)
{
	struct fln_engine *engine = guest->engine;
	struct fln_shard *shards = fln_context_shards(guest);
	int rc;

	/* They are not attached if an earlier call failed half-way. */
	if (shards)
		return shards[0].worker || !guest->running ? 0 : fln_context_attach(guest);
	if (!(engine->features & UFFD_FEATURE_SIGBUS))
		return fln_fail(EOPNOTSUPP,
				"region: this kernel's userfaultfd cannot raise SIGBUS (features "
				"0x%llx); use FLN_DELIVERY_QUEUED",
				(unsigned long long)engine->features);
	shards = fln_zalloc(&engine->alloc, shards_bytes(guest), FLN_NODE_ANY);
	if (!shards)
		return fln_fail(ENOMEM, "guest %s: no memory for %u in-context shards", guest->name,
				guest->nr_shards);
	rc = open_uffds(guest, shards);
	if (rc) {
		fln_free(&engine->alloc, shards, shards_bytes(guest), FLN_NODE_ANY);
		return rc;
	}
	atomic_store_explicit(&guest->context_shards, shards, memory_order_release);
	return guest->running ? fln_context_attach(guest) : 0;
}

/* Attach the shards to the workers, round-robin; all or none. */
int fln_context_attach(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	for (uint32_t i = 0; shards && i < guest->nr_shards; i++) {
		struct fln_worker *w = fln_guest_worker(guest, i);
		int rc = shards[i].worker ? 0
					  : fln_worker_command(w, FLN_COMMAND_ATTACH, &shards[i]);

		if (rc == 0)
			continue;
		fln_shards_detach(shards, i);
		return fln_fail(-rc, "guest %s: epoll cannot watch an in-context userfaultfd: %s%s",
				guest->name, strerror(-rc),
				rc == -ENOSPC ? "; raise fs.epoll.max_user_watches" : "");
	}
	/*
	 * Only when all are attached: fln_guest_pass_workers() must reach every worker that a
	 * thread in context has asked for a page.
	 */
	for (uint32_t i = 0; shards && i < guest->nr_shards; i++)
		atomic_store_explicit(&shards[i].helper, shards[i].worker, memory_order_release);
	return 0;
}

void fln_context_detach(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	if (!shards)
		return;
	for (uint32_t i = 0; i < guest->nr_shards; i++)
		atomic_store_explicit(&shards[i].helper, NULL, memory_order_release);
	fln_shards_detach(shards, guest->nr_shards);
}

/* Requires: the userfaultfds are closed, or stay open for good. */
void fln_context_close(struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	atomic_store_explicit(&guest->context_shards, NULL, memory_order_relaxed);
	fln_free(&guest->engine->alloc, shards, shards_bytes(guest), FLN_NODE_ANY);
}

void fln_context_kick_all(const struct fln_guest *guest)
{
	struct fln_shard *shards = fln_context_shards(guest);

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		struct fln_worker *w =
			atomic_load_explicit(&shards[i].helper, memory_order_acquire);

		if (!w || atomic_load_explicit(&shards[i].whole.nr, memory_order_relaxed) == 0)
			continue;
		atomic_store_explicit(&shards[i].whole.hurry, true, memory_order_relaxed);
		fln_worker_kick(w);
	}
}

void fln_context_nap(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / FLN_NS_PER_S),
			       .tv_nsec = (long)(ns % FLN_NS_PER_S) };

	(void)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL);
}
