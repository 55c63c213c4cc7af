/* SPDX-License-Identifier: MIT */
/* Reads the topology through hwloc once, into tables that need hwloc no more. */
#include "numa/topology.h"

#include "base/error.h"

#include <errno.h>
#include <hwloc.h>
#include <stdlib.h>
#include <string.h>

struct topology_node {
	uint32_t os_index;
	uint32_t nr_local; /* processors near its memory, permitted or not */
	uint32_t first_pu; /* in the topology's table */
	uint32_t nr_pus;
};

struct topology_pu {
	uint32_t os_index;
	uint32_t node;
	uint32_t smt_rank; /* 0: the first processor of its core that is permitted */
	uint32_t logical;  /* hwloc's order: neighbours are near each other */
};

/* One piece of memory: the struct, then nodes, then processors by (node, rank, logical). */
struct fln_topology {
	struct fln_allocator allocator;
	size_t size_bytes;
	struct topology_node *nodes;
	struct topology_pu *pus;
	uint32_t nr_nodes;
	uint32_t nr_pus;
	bool live;
};

static int hw_fail(int err, const char *what)
{
	/* hwloc promises an errno only here and there. */
	if (err <= 0)
		err = EIO;
	return fln_fail(err,
			"reading the topology: %s failed: %s; try lstopo, or give a "
			"description with HWLOC_XMLFILE",
			what, strerror(err));
}

static int hw_load(hwloc_topology_t hw, const char *synthetic)
{
	/* Without the first flag hwloc may move the calling thread about while it looks. */
	unsigned long flags = HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING |
			      HWLOC_TOPOLOGY_FLAG_NO_DISTANCES | HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS |
			      HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS;

	errno = 0;
	/*
	 * No type is filtered out: without groups and packages hwloc says that every
	 * node is as near to every processor.
	 */
	if (hwloc_topology_set_flags(hw, flags))
		return hw_fail(errno, "hwloc_topology_set_flags()");
	if (synthetic && hwloc_topology_set_synthetic(hw, synthetic))
		return fln_fail(EINVAL,
				"topology description '%.100s' is not understood; "
				"write it as in 'node:4 core:4 pu:2'",
				synthetic);
	if (hwloc_topology_load(hw))
		return hw_fail(errno, "hwloc_topology_load()");
	return 0;
}

/* What the process may use, and on the live machine this thread. */
static int hw_allowed(hwloc_topology_t hw, hwloc_bitmap_t *out)
{
	hwloc_bitmap_t allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(hw));
	hwloc_bitmap_t bound = hwloc_bitmap_alloc();
	int rc = 0;

	if (!allowed || !bound) {
		rc = fln_fail(ENOMEM, "no memory for a set of processors");
		goto out;
	}
	/* No answer means no restriction that we could know of. */
	if (hwloc_topology_is_thissystem(hw) &&
	    hwloc_get_cpubind(hw, bound, HWLOC_CPUBIND_THREAD) == 0 &&
	    hwloc_bitmap_and(allowed, allowed, bound) != 0)
		rc = fln_fail(ENOMEM, "no memory for a set of processors");
	if (rc == 0 && hwloc_bitmap_iszero(allowed))
		rc = fln_fail(ENODEV, "no processor of the topology may be used; "
				      "check cpuset, taskset and HWLOC_THISSYSTEM");
out:
	hwloc_bitmap_free(bound);
	if (rc)
		hwloc_bitmap_free(allowed);
	else
		*out = allowed;
	return rc;
}

static void read_nodes(struct fln_topology *t, hwloc_topology_t hw)
{
	for (uint32_t i = 0; i < t->nr_nodes; i++) {
		hwloc_obj_t obj = hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, i);

		t->nodes[i].os_index = obj->os_index;
		t->nodes[i].nr_local = (uint32_t)hwloc_bitmap_weight(obj->cpuset);
	}
}

/*
 * The node whose memory is nearest.  Several nodes can name a processor: memory
 * without processors of its own counts as near to all that surround it, so the
 * node with the fewest wins, then the first.  A processor that no node names
 * (its node's memory is not permitted) goes to node 0, to be of use.
 */
static uint32_t home_of(const struct fln_topology *t, hwloc_topology_t hw, uint32_t pu_os_index)
{
	uint32_t best = 0;
	uint32_t best_local = UINT32_MAX;

	for (uint32_t i = 0; i < t->nr_nodes; i++) {
		hwloc_obj_t obj = hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, i);

		if (t->nodes[i].nr_local < best_local &&
		    hwloc_bitmap_isset(obj->cpuset, pu_os_index)) {
			best = i;
			best_local = t->nodes[i].nr_local;
		}
	}
	return best;
}

static int pu_order(const void *va, const void *vb)
{
	const struct topology_pu *a = va;
	const struct topology_pu *b = vb;

	if (a->node != b->node)
		return a->node < b->node ? -1 : 1;
	if (a->smt_rank != b->smt_rank)
		return a->smt_rank < b->smt_rank ? -1 : 1;
	return a->logical < b->logical ? -1 : a->logical > b->logical;
}

static void read_pus(struct fln_topology *t, hwloc_topology_t hw, hwloc_const_bitmap_t allowed)
{
	hwloc_obj_t core = NULL;
	hwloc_obj_t obj = NULL;
	uint32_t nr = 0;
	uint32_t rank = 0;

	while ((obj = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_PU, obj)) != NULL) {
		hwloc_obj_t of = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_CORE, obj);

		if (!hwloc_bitmap_isset(allowed, obj->os_index))
			continue;
		/* The processors of a core follow one another; without cores each is one. */
		rank = of && of == core ? rank + 1 : 0;
		core = of;
		FLN_ASSERT(nr < t->nr_pus);
		t->pus[nr] = (struct topology_pu){
			.os_index = obj->os_index,
			.node = home_of(t, hw, obj->os_index),
			.smt_rank = rank,
			.logical = nr,
		};
		nr++;
	}
	FLN_ASSERT(nr == t->nr_pus);
	qsort(t->pus, nr, sizeof(t->pus[0]), pu_order);
	for (uint32_t i = nr; i-- > 0;) {
		t->nodes[t->pus[i].node].first_pu = i;
		t->nodes[t->pus[i].node].nr_pus++;
	}
}

static uint32_t count_pus(hwloc_topology_t hw, hwloc_const_bitmap_t allowed)
{
	hwloc_obj_t obj = NULL;
	uint32_t nr = 0;

	while ((obj = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_PU, obj)) != NULL)
		nr += hwloc_bitmap_isset(allowed, obj->os_index) != 0;
	return nr;
}

static int build(struct fln_topology **out, const struct fln_allocator *a, hwloc_topology_t hw,
		 hwloc_const_bitmap_t allowed)
{
	int nr_nodes = hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_NUMANODE);
	uint32_t nr_pus = count_pus(hw, allowed);
	struct fln_topology *t;
	size_t size_bytes;

	if (nr_nodes < 1 || nr_pus < 1)
		return fln_fail(ENODEV,
				"the topology has %d nodes and %u usable processors; "
				"check cpuset and taskset",
				nr_nodes, nr_pus);
	size_bytes = sizeof(*t) + (size_t)nr_nodes * sizeof(t->nodes[0]) +
		     (size_t)nr_pus * sizeof(t->pus[0]);
	t = fln_zalloc(a, size_bytes, FLN_NODE_ANY);
	if (!t)
		return fln_fail(ENOMEM, "no memory for a topology of %d nodes and %u processors",
				nr_nodes, nr_pus);
	t->allocator = *a;
	t->size_bytes = size_bytes;
	t->nr_nodes = (uint32_t)nr_nodes;
	t->nr_pus = nr_pus;
	t->nodes = (struct topology_node *)(t + 1);
	t->pus = (struct topology_pu *)(t->nodes + t->nr_nodes);
	t->live = hwloc_topology_is_thissystem(hw) != 0;
	read_nodes(t, hw);
	read_pus(t, hw, allowed);
	*out = t;
	return 0;
}

int fln_topology_load(struct fln_topology **out, const struct fln_allocator *a,
		      const char *synthetic)
{
	struct fln_allocator allocator;
	hwloc_bitmap_t allowed;
	hwloc_topology_t hw;
	int rc = fln_alloc_init(&allocator, a);

	if (rc)
		return rc;
	errno = 0;
	if (hwloc_topology_init(&hw))
		return hw_fail(errno, "hwloc_topology_init()");
	rc = hw_load(hw, synthetic);
	if (rc)
		goto out_hw;
	rc = hw_allowed(hw, &allowed);
	if (rc)
		goto out_hw;
	rc = build(out, &allocator, hw, allowed);
	hwloc_bitmap_free(allowed);
out_hw:
	hwloc_topology_destroy(hw);
	return rc;
}

void fln_topology_destroy(struct fln_topology *t)
{
	struct fln_allocator allocator;

	if (!t)
		return;
	allocator = t->allocator;
	fln_free(&allocator, t, t->size_bytes, FLN_NODE_ANY);
}

bool fln_topology_is_live(const struct fln_topology *t)
{
	return t->live;
}

uint32_t fln_topology_nr_nodes(const struct fln_topology *t)
{
	return t->nr_nodes;
}

uint32_t fln_topology_nr_pus(const struct fln_topology *t)
{
	return t->nr_pus;
}

uint32_t fln_topology_node_os_index(const struct fln_topology *t, uint32_t node)
{
	FLN_ASSERT(node < t->nr_nodes);
	return t->nodes[node].os_index;
}

uint32_t fln_topology_node_nr_pus(const struct fln_topology *t, uint32_t node)
{
	FLN_ASSERT(node < t->nr_nodes);
	return t->nodes[node].nr_pus;
}

uint32_t fln_topology_node_pu(const struct fln_topology *t, uint32_t node, uint32_t nth)
{
	FLN_ASSERT(node < t->nr_nodes);
	FLN_ASSERT(nth < t->nodes[node].nr_pus);
	return t->pus[t->nodes[node].first_pu + nth].os_index;
}
