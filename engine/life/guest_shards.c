/* SPDX-License-Identifier: MIT */
/*
 * A guest's userfaultfds: opened, given to workers, closed.
 *
 * Tested by integration.life_calls, integration.release_life.
 */
#include "engine/life/guest_shards.h"

#include "base/error.h"
#include "engine/command.h"
#include "engine/context/shards.h"
#include "engine/owners.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/state/worker.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"
#include "engine/uffd_open.h"

#include <errno.h>
#include <faultlane/engine.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

int fln_guest_open_shards(struct fln_guest *guest, int foreign_uffd)
{
	struct fln_engine *engine = guest->engine;
	bool user_only = engine->opts.flags & FLN_ENGINE_F_USER_MODE_ONLY;

	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		struct fln_shard *s = &guest->shards[i];
		int rc;

		s->guest = guest;
		s->index = i;
		if (guest->foreign) {
			(void)fcntl(foreign_uffd, F_SETFL,
				    fcntl(foreign_uffd, F_GETFL) | O_NONBLOCK);
			fln_uffd_adopt(&s->uffd, foreign_uffd);
			/* Its own process registers, so POISON is assumed until a call fails. */
			s->uffd.range_ioctls = UINT64_C(1) << _UFFDIO_POISON;
			continue;
		}
		rc = fln_uffd_open(&s->uffd, user_only, FLN_UFFD_GUEST_FEATURES);
		if (rc == 0)
			continue;
		while (i-- > 0)
			fln_uffd_close(&guest->shards[i].uffd);
		return rc;
	}
	return 0;
}

/* Wake threads whose faults were read by a worker that has let go of the shard: they refault. */
static void wake_all(struct fln_guest *guest)
{
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		struct fln_shard *shard = &guest->shards[i];

		for (const struct fln_region *r = guest->regions; r; r = r->next)
			fln_uffd_wake(&shard->uffd, r->addr, r->len_bytes);
	}
}

static int attach_queued(struct fln_guest *guest)
{
	for (uint32_t i = 0; i < guest->nr_shards; i++) {
		struct fln_worker *w = fln_guest_worker(guest, i);
		int rc = fln_worker_command(w, FLN_COMMAND_ATTACH, &guest->shards[i]);

		if (rc == 0)
			continue;
		fln_shards_detach(guest->shards, i);
		wake_all(guest);
		return fln_fail(-rc, "guest %s: epoll cannot watch a userfaultfd: %s%s",
				guest->name, strerror(-rc),
				rc == -EPERM    ? "; foreign_uffd is not a userfaultfd"
				: rc == -ENOSPC ? "; raise fs.epoll.max_user_watches"
						: "");
	}
	return 0;
}

int fln_guest_attach_shards(struct fln_guest *guest)
{
	int rc = attach_queued(guest);

	if (rc)
		return rc;
	rc = fln_context_attach(guest);
	if (rc) {
		fln_shards_detach(guest->shards, guest->nr_shards);
		wake_all(guest);
	}
	return rc;
}

bool fln_shard_close(struct fln_shard *shard)
{
	if (atomic_load_explicit(&shard->keep_open, memory_order_relaxed))
		return true;
	fln_uffd_close(&shard->uffd);
	return false;
}
