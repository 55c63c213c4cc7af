/* SPDX-License-Identifier: MIT */
/* Pins threads to processors and binds memory to NUMA nodes. */
#include "numa/placement.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/page.h"
#include "numa/cpuset.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BITS_PER_LONG (8u * (uint32_t)sizeof(unsigned long))

/* The largest number of nodes that the kernel can be configured for. */
#define MAX_NODES 1024u

static void mask_set(unsigned long *mask, uint32_t bit)
{
	mask[bit / BITS_PER_LONG] |= 1ul << (bit % BITS_PER_LONG);
}

int fln_pin_thread_to(const struct fln_cpuset *cpus)
{
	/* The system call takes masks of any size; the C library's cpu_set_t ends at 1024. */
	unsigned long mask[FLN_MAX_PUS / BITS_PER_LONG] = { 0 };
	char list[64];
	int err;

	for (uint32_t i = 0; i < FLN_MAX_PUS; i++) {
		if (fln_cpuset_has(cpus, i))
			mask_set(mask, i);
	}
	if (syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask) == 0)
		return 0;
	err = errno;
	return fln_fail(err, "cannot pin to processors %s: %s; %s",
			fln_cpuset_format(cpus, list, sizeof(list)), strerror(err),
			err == EINVAL
				? "use processors that are online and in this process's cpuset"
				: "permit sched_setaffinity, or run without pinning");
}

int fln_pin_thread(uint32_t pu_os_index)
{
	struct fln_cpuset cpus = { { 0 } };

	if (pu_os_index >= FLN_MAX_PUS)
		return fln_fail(EINVAL,
				"processor %" PRIu32 " is above %u, the highest supported; "
				"pin to an existing one",
				pu_os_index, FLN_MAX_PUS - 1);
	fln_cpuset_add(&cpus, pu_os_index);
	return fln_pin_thread_to(&cpus);
}

enum memory_nodes {
	MEMORY_NODES_UNKNOWN,
	MEMORY_NODES_ONE,
	MEMORY_NODES_MANY,
};

/* The file holds one line such as "0", "0-3" or "0,2". */
static enum memory_nodes read_memory_nodes(void)
{
	char line[64];
	ssize_t got;
	int fd = fln_fd_keep(open("/sys/devices/system/node/has_memory", O_RDONLY | O_CLOEXEC));

	if (fd < 0) {
		/* A kernel without NUMA has /sys/devices/system/cpu but no node directory. */
		return access("/sys/devices/system/cpu", F_OK) == 0 ? MEMORY_NODES_ONE
								    : MEMORY_NODES_MANY;
	}
	do {
		got = read(fd, line, sizeof(line));
	} while (got < 0 && errno == EINTR);
	(void)close(fd);
	if (got <= 0)
		return MEMORY_NODES_MANY;
	return memchr(line, ',', (size_t)got) || memchr(line, '-', (size_t)got) ? MEMORY_NODES_MANY
										: MEMORY_NODES_ONE;
}

/* If so, binding has no effect and mbind() is skipped.  False when unknown. */
static bool has_one_memory_node(void)
{
	/* Cached.  Two threads that race to fill it read the same value. */
	static _Atomic uint32_t known = MEMORY_NODES_UNKNOWN;
	uint32_t nodes = atomic_load_explicit(&known, memory_order_relaxed);

	if (nodes == MEMORY_NODES_UNKNOWN) {
		nodes = read_memory_nodes();
		atomic_store_explicit(&known, nodes, memory_order_relaxed);
	}
	return nodes == MEMORY_NODES_ONE;
}

static const char *bind_remedy(int err)
{
	switch (err) {
	case EINVAL:
		return "choose a node with memory in this process's cpuset";
	case EFAULT:
		return "map the whole range first";
	case EPERM:
	case ENOSYS:
		return "permit mbind (in a container: CAP_SYS_NICE), or run without binding";
	default:
		return "run without binding";
	}
}

static int bind_to_node(void *addr, uint64_t len_bytes, uint32_t node_os_index)
{
	unsigned long mask[MAX_NODES / BITS_PER_LONG] = { 0 };
	int err;

	mask_set(mask, node_os_index);
	/*
	 * MPOL_PREFERRED, not MPOL_BIND: a full node must cost only speed, never an
	 * out-of-memory kill.  The kernel uses one bit less than maxnode says.
	 */
	if (syscall(SYS_mbind, addr, (unsigned long)len_bytes, MPOL_PREFERRED, mask,
		    (unsigned long)MAX_NODES + 1, 0u) == 0)
		return 0;
	err = errno;
	return fln_fail(err, "cannot bind %" PRIu64 " bytes to node %" PRIu32 ": %s; %s", len_bytes,
			node_os_index, strerror(err), bind_remedy(err));
}

int fln_bind_memory(void *addr, uint64_t len_bytes, uint32_t node_os_index)
{
	if (!fln_is_aligned((uintptr_t)addr, FLN_PAGE_BYTES) || len_bytes == 0 ||
	    !fln_is_aligned(len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"cannot bind memory at %p of %" PRIu64 " bytes: "
				"align address and length to %" PRIu64,
				addr, len_bytes, FLN_PAGE_BYTES);
	if (node_os_index == FLN_NODE_ANY || has_one_memory_node())
		return 0;
	if (node_os_index >= MAX_NODES)
		return fln_fail(EINVAL, "node %" PRIu32 " is above %u, the highest supported",
				node_os_index, MAX_NODES - 1);
	return bind_to_node(addr, len_bytes, node_os_index);
}
