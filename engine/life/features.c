/* SPDX-License-Identifier: MIT */
/*
 * Probing what this kernel and this user permit.  Every feature is tried; none is derived from a
 * kernel version.
 *
 * Pinning and the nice value change the calling thread, so they are tried on a temporary one.
 *
 * Tested by integration.stats_text, integration.privilege.
 */
#include "engine/life/features.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file_size.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/page.h"
#include "base/signals.h"
#include "engine/state/engine.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"
#include "engine/uffd_open.h"
#include "numa/topology.h"

#include <errno.h>
#include <faultlane/engine.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

#define NICE (-20) /* the nice value that workers ask for */
#define CPU_WORDS 128u

/* Does UFFDIO_API grant this feature? */
static bool can_enable(bool user_mode_only, uint64_t feature)
{
	struct fln_uffd u = { .fd = -1 };
	bool can;

	if (fln_uffd_open(&u, user_mode_only, feature) != 0)
		return false;
	can = u.features & feature;
	fln_uffd_close(&u);
	return can;
}

static bool has_huge_memfds(void)
{
	int fd = fln_fd_keep(memfd_create("fln-probe", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));

	if (fd < 0)
		return false;
	(void)close(fd);
	return true;
}

/* Tries MADV_COLLAPSE.  A lack of memory, or of a quiet moment, still means that it is there. */
static bool can_collapse(void)
{
	int fd = fln_fd_keep(memfd_create("fln-probe", MFD_CLOEXEC)), err = EINVAL;
	char *room, *block;

	if (fd < 0)
		return false;
	room = mmap(NULL, 2 * FLN_BLOCK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED) {
		(void)close(fd);
		return false;
	}
	block = room + (-(uintptr_t)room & (FLN_BLOCK_BYTES - 1));
	if (fln_file_size_set(fd, FLN_BLOCK_BYTES) == 0 &&
	    mmap(block, FLN_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
		    MAP_FAILED) {
		block[0] = 1;
		err = madvise(block, FLN_BLOCK_BYTES, MADV_COLLAPSE) == 0 ? 0 : errno;
	}
	(void)munmap(room, 2 * FLN_BLOCK_BYTES);
	(void)close(fd);
	return err == 0 || err == ENOMEM || err == EAGAIN || err == EBUSY;
}

/* On a thread of its own: adds FLN_FEATURE_PIN and FLN_FEATURE_NICE to *@arg where permitted. */
static void *try_scheduling(void *arg)
{
	unsigned long cpus[CPU_WORDS];
	uint64_t *bits = arg;
	long nr_bytes = syscall(SYS_sched_getaffinity, 0, sizeof(cpus), cpus);

	if (nr_bytes > 0 && syscall(SYS_sched_setaffinity, 0, (size_t)nr_bytes, cpus) == 0)
		*bits |= FLN_FEATURE_PIN;
	if (setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE) == 0)
		*bits |= FLN_FEATURE_NICE;
	return NULL;
}

static uint64_t probe_scheduling(void)
{
	uint64_t bits = 0;
	sigset_t before;
	pthread_t thread;
	int rc;

	fln_signals_block(&before);
	rc = pthread_create(&thread, NULL, try_scheduling, &bits);
	fln_signals_restore(&before);
	if (rc == 0)
		(void)pthread_join(thread, NULL);
	return bits;
}

static uint64_t probe_faults(bool user_mode_only)
{
	uint64_t huge = UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;
	uint64_t have, bits = FLN_FEATURE_QUEUED;

	if (fln_uffd_probe(user_mode_only, &have) != 0 || fln_uffd_check_features(have) != 0)
		return 0;
	if (!user_mode_only)
		bits |= FLN_FEATURE_KERNEL_MODE;
	if (have & UFFD_FEATURE_POISON)
		bits |= FLN_FEATURE_POISON;
	if (can_enable(user_mode_only, UFFD_FEATURE_SIGBUS))
		bits |= FLN_FEATURE_IN_CONTEXT;
	if ((have & huge) == huge && has_huge_memfds())
		bits |= FLN_FEATURE_HUGE;
	if (can_collapse())
		bits |= FLN_FEATURE_COLLAPSE;
	return bits;
}

/* Memory can be placed only where more than one node has some. */
static bool has_several_memory_nodes(const struct fln_topology *topology)
{
	uint32_t nr_nodes = fln_topology_nr_nodes(topology), nr = 0;

	for (uint32_t i = 0; i < nr_nodes; i++)
		nr += fln_topology_node_memory_bytes(topology, i) > 0;
	/* If no node's size is known, all are taken to have memory, as in the plan. */
	return (nr > 0 ? nr : nr_nodes) > 1;
}

int fln_query_features(uint64_t flags, uint64_t *out)
{
	FLN_UNCANCELLABLE;
	uint64_t known = FLN_ENGINE_F_NO_PIN | FLN_ENGINE_F_USER_MODE_ONLY, bits;
	struct fln_topology *topology = NULL;

	if (!out)
		return fln_fail(EINVAL, "fln_query_features: out is NULL");
	if (flags & ~known)
		return fln_fail(EINVAL,
				"fln_query_features: flags 0x%llx are not known to this "
				"version",
				(unsigned long long)(flags & ~known));
	bits = probe_faults(flags & FLN_ENGINE_F_USER_MODE_ONLY) | probe_scheduling();
	if (flags & FLN_ENGINE_F_NO_PIN)
		bits &= ~(uint64_t)FLN_FEATURE_PIN;
	/* Loaded as the engine does; a topology that cannot be read counts as a single node. */
	if (fln_topology_load(&topology, NULL, NULL) == 0) {
		if (!fln_topology_is_live(topology))
			bits &= ~(uint64_t)FLN_FEATURE_PIN;
		if (has_several_memory_nodes(topology))
			bits |= FLN_FEATURE_NUMA;
		fln_topology_destroy(topology);
	}
	*out = bits;
	return 0;
}

int fln_engine_check_features(struct fln_engine *engine)
{
	bool user_only = engine->opts.flags & FLN_ENGINE_F_USER_MODE_ONLY;
	struct fln_uffd u = { .fd = -1 };
	uint64_t features = 0;
	int rc;

	if (atomic_load(&engine->features))
		return 0;
	rc = fln_uffd_probe(user_only, &features);
	if (rc == 0)
		rc = fln_uffd_check_features(features);
	if (rc == 0)
		rc = fln_uffd_open(&u, user_only,
				   UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS);
	if (rc)
		return rc;
	fln_lock(&engine->asking_lock);
	if (engine->asking.fd < 0) {
		engine->asking = u;
		u.fd = -1;
	}
	fln_unlock(&engine->asking_lock);
	fln_uffd_close(&u); /* if another thread was faster; else its fd is -1 */
	atomic_store(&engine->features, features);
	return 0;
}
