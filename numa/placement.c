/* SPDX-License-Identifier: MIT */
/* Pins threads and binds memory. */
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

/* What the kernel can be built for at most. */
#define MAX_NODES 1024u

static void mask_set(unsigned long *mask, uint32_t bit)
{
	mask[bit / BITS_PER_LONG] |= 1ul << (bit % BITS_PER_LONG);
}

int fln_pin_thread_to(const struct fln_cpuset *cpus)
{
	/* The C library's cpu_set_t ends at 1024 processors; the call does not. */
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
	return fln_fail(err, "pinning to processors %s: %s; %s",
			fln_cpuset_format(cpus, list, sizeof(list)), strerror(err),
			err == EINVAL ? "none of them is online and in this process's cpuset"
				      : "permit sched_setaffinity, or run without pinning");
}

int fln_pin_thread(uint32_t pu_os_index)
{
	struct fln_cpuset cpus = { { 0 } };

	if (pu_os_index >= FLN_MAX_PUS)
		return fln_fail(EINVAL,
				"processor %" PRIu32 " is above %u; "
				"pin to one that exists",
				pu_os_index, FLN_MAX_PUS - 1);
	fln_cpuset_add(&cpus, pu_os_index);
	return fln_pin_thread_to(&cpus);
}

enum memory_nodes {
	MEMORY_NODES_UNKNOWN,
	MEMORY_NODES_ONE,
	MEMORY_NODES_MANY,
};

/* One line such as "0", "0-3" or "0,2" of the kernel's list of nodes. */
static enum memory_nodes read_memory_nodes(void)
{
	char line[64];
	ssize_t got;
	int fd = fln_fd_keep(open("/sys/devices/system/node/has_memory", O_RDONLY | O_CLOEXEC));

	if (fd < 0) {
		/* A kernel without NUMA has the processors there and no nodes. */
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

/* Whether a binding could matter; when in doubt yes, and the kernel decides. */
static bool has_one_memory_node(void)
{
	/* Read once.  Two threads that come first at a time find the same. */
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
		return "the node has no memory that this process may use";
	case EFAULT:
		return "map all of the range first";
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
	 * Preferred, not bound: a node that is full must cost speed, never an
	 * out-of-memory kill.  The kernel takes one bit fewer than it is told.
	 */
	if (syscall(SYS_mbind, addr, (unsigned long)len_bytes, MPOL_PREFERRED, mask,
		    (unsigned long)MAX_NODES + 1, 0u) == 0)
		return 0;
	err = errno;
	return fln_fail(err, "binding %" PRIu64 " bytes to node %" PRIu32 ": %s; %s", len_bytes,
			node_os_index, strerror(err), bind_remedy(err));
}

int fln_bind_memory(void *addr, uint64_t len_bytes, uint32_t node_os_index)
{
	if (!fln_is_aligned((uintptr_t)addr, FLN_PAGE_BYTES) || len_bytes == 0 ||
	    !fln_is_aligned(len_bytes, FLN_PAGE_BYTES))
		return fln_fail(EINVAL,
				"binding memory at %p of %" PRIu64 " bytes: "
				"align both to %" PRIu64,
				addr, len_bytes, FLN_PAGE_BYTES);
	if (node_os_index == FLN_NODE_ANY || has_one_memory_node())
		return 0;
	if (node_os_index >= MAX_NODES)
		return fln_fail(EINVAL, "node %" PRIu32 " is above %u; bind to one that exists",
				node_os_index, MAX_NODES - 1);
	return bind_to_node(addr, len_bytes, node_os_index);
}
