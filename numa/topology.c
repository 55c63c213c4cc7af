/* SPDX-License-Identifier: MIT */
/*
 * Reads the topology once, through hwloc where /sys describes the machine, into tables that do
 * not change afterwards.
 */
#include "numa/topology.h"

#include "base/error.h"
#include "numa/cpuset.h"
#include "numa/sysfs.h"

#include <errno.h>
#include <hwloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

struct topology_node {
	uint32_t os_index;
	uint32_t nr_local; /* processors local to its memory, permitted or not */
	uint32_t first_pu; /* index into the topology's pus */
	uint32_t nr_pus;
	uint64_t memory_bytes;
};

/*
 * Distances between nodes when firmware gives none, in its scale: the node itself (10), a node
 * with the same processors, one of the same package, one of another package.
 */
#define DISTANCE_SELF 10u
#define DISTANCE_BESIDE 13u
#define DISTANCE_PACKAGE 16u
#define DISTANCE_FAR 21u

/*
 * One allocation: the struct, then nodes, then processors sorted by (node, smt_rank, logical),
 * then distances, one row for each node.
 */
struct fln_topology {
	struct fln_allocator allocator;
	size_t size_bytes;
	struct topology_node *nodes;
	struct fln_pu *pus;
	uint32_t *distances;
	uint32_t nr_nodes;
	uint32_t nr_pus;
	bool live;
};

static int hw_fail(int err, const char *what)
{
	/* Not every hwloc function sets errno. */
	if (err <= 0)
		err = EIO;
	return fln_fail(err,
			"cannot read the topology: %s failed: %s; try lstopo, or describe "
			"the machine with HWLOC_XMLFILE",
			what, strerror(err));
}

static int xml_fail(const char *path)
{
	return fln_fail(EINVAL,
			"cannot read topology file '%.150s'%s%s; make one with "
			"'lstopo file.xml', or install hwloc's XML plug-in (libhwloc-plugins)",
			path, errno ? ": " : "", errno ? strerror(errno) : "");
}

/* Where to read a topology from; both NULL: this machine. */
struct origin {
	const char *synthetic;
	const char *xml;
};

static int hw_load(hwloc_topology_t hw, const struct origin *from)
{
	const char *synthetic = from->synthetic;

	/* Without the first flag hwloc may move the calling thread between processors. */
	unsigned long flags = HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING |
			      HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS | HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS;

	errno = 0;
	/*
	 * No object type is filtered out: without groups and packages hwloc would report all
	 * nodes as local to every processor.
	 */
	if (hwloc_topology_set_flags(hw, flags))
		return hw_fail(errno, "hwloc_topology_set_flags()");
	if (synthetic && hwloc_topology_set_synthetic(hw, synthetic))
		return fln_fail(EINVAL,
				"invalid topology description '%.100s'; "
				"write it as 'node:4 core:4 pu:2'",
				synthetic);
	if (from->xml && hwloc_topology_set_xml(hw, from->xml))
		return xml_fail(from->xml);
	errno = 0;
	if (hwloc_topology_load(hw))
		return from->xml ? xml_fail(from->xml) : hw_fail(errno, "hwloc_topology_load()");
	return 0;
}

/* The processors that the process may use, and on this machine also the calling thread. */
static int hw_allowed(hwloc_topology_t hw, hwloc_bitmap_t *out)
{
	hwloc_bitmap_t allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(hw));
	hwloc_bitmap_t bound = hwloc_bitmap_alloc();
	int rc = 0;

	if (!allowed || !bound) {
		rc = fln_fail(ENOMEM, "no memory for a set of processors");
		goto out;
	}
	/* A failure of hwloc_get_cpubind() means no known restriction. */
	if (hwloc_topology_is_thissystem(hw) &&
	    hwloc_get_cpubind(hw, bound, HWLOC_CPUBIND_THREAD) == 0 &&
	    hwloc_bitmap_and(allowed, allowed, bound) != 0)
		rc = fln_fail(ENOMEM, "no memory for a set of processors");
	if (rc == 0 && hwloc_bitmap_iszero(allowed))
		rc = fln_fail(ENODEV, "this process may use no processor of the topology; "
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
		t->nodes[i].memory_bytes = obj->attr ? obj->attr->numanode.local_memory : 0;
	}
}

/* Guess the distance of two nodes by their positions in the tree. */
static uint32_t guess_distance(hwloc_topology_t hw, uint32_t from, uint32_t to)
{
	hwloc_obj_t a = hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, from);
	hwloc_obj_t b = hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, to);
	hwloc_obj_t above = hwloc_get_common_ancestor_obj(hw, a, b);

	if (from == to)
		return DISTANCE_SELF;
	if (hwloc_bitmap_isequal(a->cpuset, b->cpuset))
		return DISTANCE_BESIDE;
	return above && above->type != HWLOC_OBJ_MACHINE ? DISTANCE_PACKAGE : DISTANCE_FAR;
}

/* Take distances from firmware where available; guess the others. */
static void read_distances(struct fln_topology *t, hwloc_topology_t hw)
{
	struct hwloc_distances_s *d = NULL;
	unsigned int nr = 1;

	for (uint32_t i = 0; i < t->nr_nodes; i++) {
		for (uint32_t j = 0; j < t->nr_nodes; j++)
			t->distances[i * t->nr_nodes + j] = guess_distance(hw, i, j);
	}
	if (hwloc_distances_get_by_type(hw, HWLOC_OBJ_NUMANODE, &nr, &d,
					HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) != 0 ||
	    nr == 0)
		return;
	for (uint32_t i = 0; i < d->nbobjs; i++) {
		for (uint32_t j = 0; j < d->nbobjs; j++) {
			uint64_t value = d->values[i * d->nbobjs + j];
			uint32_t from = d->objs[i] ? d->objs[i]->logical_index : UINT32_MAX;
			uint32_t to = d->objs[j] ? d->objs[j]->logical_index : UINT32_MAX;

			if (from < t->nr_nodes && to < t->nr_nodes && value < UINT32_MAX)
				t->distances[from * t->nr_nodes + to] = (uint32_t)value;
		}
	}
	hwloc_distances_release(hw, d);
}

/*
 * The node whose memory is nearest to a processor.  A processor can be local to several nodes:
 * memory without processors of its own counts as local to all that surround it.  So the
 * node with the fewest local processors wins, then the first.  UINT32_MAX: a stray, local to
 * no node, because the process may not use its node's memory.
 */
static uint32_t nearest_node(const struct fln_topology *t, hwloc_topology_t hw,
			     uint32_t pu_os_index)
{
	uint32_t best = UINT32_MAX;
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
	const struct fln_pu *a = va;
	const struct fln_pu *b = vb;

	if (a->node != b->node)
		return a->node < b->node ? -1 : 1;
	if (a->smt_rank != b->smt_rank)
		return a->smt_rank < b->smt_rank ? -1 : 1;
	return a->logical < b->logical ? -1 : a->logical > b->logical;
}

/* The outermost cache of a processor; its package when no cache is known. */
static hwloc_obj_t last_cache(hwloc_obj_t pu)
{
	hwloc_obj_t found = NULL;

	for (hwloc_obj_t obj = pu->parent; obj; obj = obj->parent) {
		if (hwloc_obj_type_is_dcache(obj->type) ||
		    (!found && obj->type == HWLOC_OBJ_PACKAGE))
			found = obj;
	}
	return found;
}

/*
 * Numbers the objects of one type from 0.  In hwloc's order the processors of an object are
 * consecutive, so a comparison with the last object tells a new one.
 */
struct numbering {
	hwloc_obj_t last;
	uint32_t nr; /* so far */
};

/* @alone: hwloc knows no object of this type, and each processor counts as one. */
static uint32_t number_of(struct numbering *n, hwloc_obj_t obj, bool alone)
{
	if (n->nr == 0 || alone || obj != n->last)
		n->nr++;
	n->last = obj;
	return n->nr - 1;
}

static void read_pus(struct fln_topology *t, hwloc_topology_t hw, hwloc_const_bitmap_t allowed)
{
	struct numbering cores = { 0 }, caches = { 0 }, packages = { 0 };
	hwloc_obj_t last_core = NULL;
	hwloc_obj_t obj = NULL;
	uint32_t nr = 0;
	uint32_t rank = 0;
	uint32_t home;

	while ((obj = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_PU, obj)) != NULL) {
		hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_CORE, obj);
		hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_PACKAGE, obj);

		if (!hwloc_bitmap_isset(allowed, obj->os_index))
			continue;
		/* A core's processors are consecutive; without core objects, each one is a core. */
		rank = core && core == last_core ? rank + 1 : 0;
		last_core = core;
		home = nearest_node(t, hw, obj->os_index);
		FLN_ASSERT(nr < t->nr_pus);
		t->pus[nr] = (struct fln_pu){
			.os_index = obj->os_index,
			/* Strays go to node 0, to be usable when there is nothing else. */
			.node = home == UINT32_MAX ? 0 : home,
			.stray = home == UINT32_MAX,
			.core = number_of(&cores, core, !core),
			.cache = number_of(&caches, last_cache(obj), false),
			.package = number_of(&packages, package, false),
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

static struct fln_topology *allocate(const struct fln_allocator *a, uint32_t nr_nodes,
				     uint32_t nr_pus)
{
	struct fln_topology *t;
	size_t size_bytes = sizeof(*t) + nr_nodes * sizeof(t->nodes[0]) +
			    nr_pus * sizeof(t->pus[0]) +
			    (size_t)nr_nodes * nr_nodes * sizeof(t->distances[0]);

	t = fln_zalloc(a, size_bytes, FLN_NODE_ANY);
	if (!t)
		return NULL;
	t->allocator = *a;
	t->size_bytes = size_bytes;
	t->nr_nodes = nr_nodes;
	t->nr_pus = nr_pus;
	t->nodes = (struct topology_node *)(t + 1);
	t->pus = (struct fln_pu *)(t->nodes + nr_nodes);
	t->distances = (uint32_t *)(t->pus + nr_pus);
	return t;
}

static int build(struct fln_topology **out, const struct fln_allocator *a, hwloc_topology_t hw,
		 hwloc_const_bitmap_t allowed)
{
	int nr_nodes = hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_NUMANODE);
	uint32_t nr_pus = count_pus(hw, allowed);
	struct fln_topology *t;

	if (nr_nodes < 1 || nr_pus < 1)
		return fln_fail(
			ENODEV,
			"the topology has %d nodes and %u processors that this process may use; "
			"check cpuset and taskset",
			nr_nodes, nr_pus);
	t = allocate(a, (uint32_t)nr_nodes, nr_pus);
	if (!t)
		return fln_fail(ENOMEM, "no memory for a topology of %d nodes and %u processors",
				nr_nodes, nr_pus);
	t->live = hwloc_topology_is_thissystem(hw) != 0;
	read_nodes(t, hw);
	read_distances(t, hw);
	read_pus(t, hw, allowed);
	*out = t;
	return 0;
}

/*
 * Describe this machine without /sys: one node, and the processors that the calling thread
 * may use, each a core of its own.
 */
static int build_flat(struct fln_topology **out, const struct fln_allocator *a)
{
	struct fln_cpuset cpus = { { 0 } };
	struct sysinfo info;
	struct fln_topology *t;
	uint32_t nr = 0;

	if (syscall(SYS_sched_getaffinity, 0, sizeof(cpus), &cpus) <= 0)
		return fln_fail(errno,
				"cannot find the processors: /sys does not describe them, and "
				"sched_getaffinity() fails: %s",
				strerror(errno));
	for (uint32_t i = 0; i < FLN_MAX_PUS; i++)
		nr += fln_cpuset_has(&cpus, i);
	FLN_ASSERT(nr > 0);
	t = allocate(a, 1, nr);
	if (!t)
		return fln_fail(ENOMEM, "no memory for a topology of %u processors", nr);
	t->live = true;
	t->distances[0] = DISTANCE_SELF;
	t->nodes[0].nr_local = t->nodes[0].nr_pus = nr;
	if (sysinfo(&info) == 0)
		t->nodes[0].memory_bytes = (uint64_t)info.totalram * info.mem_unit;
	nr = 0;
	for (uint32_t i = 0; i < FLN_MAX_PUS; i++) {
		if (!fln_cpuset_has(&cpus, i))
			continue;
		t->pus[nr] = (struct fln_pu){ .os_index = i, .core = nr, .logical = nr };
		nr++;
	}
	*out = t;
	return 0;
}

/* Would hwloc read /sys and find no usable topology there?  *root: HWLOC_FSROOT or NULL. */
static bool lacks_sysfs(const struct origin *from, const char **root)
{
	static const char *const others[] = { "HWLOC_SYNTHETIC", "HWLOC_XMLFILE",
					      "HWLOC_COMPONENTS" };

	if (from->synthetic || from->xml)
		return false;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (getenv(others[i]))
			return false;
	}
	*root = getenv("HWLOC_FSROOT");
	return !fln_sysfs_has_topology(*root ? *root : "");
}

static int load(struct fln_topology **out, const struct fln_allocator *a, const struct origin *from)
{
	struct fln_allocator allocator;
	const char *root = NULL;
	hwloc_bitmap_t allowed;
	hwloc_topology_t hw;
	int rc = fln_alloc_init(&allocator, a);

	if (rc)
		return rc;
	if (lacks_sysfs(from, &root))
		return root ? fln_fail(ENODEV,
				       "HWLOC_FSROOT '%.150s' describes no machine: it lacks "
				       "/sys/devices/system/cpu/cpu0/topology, or its node "
				       "directory is empty",
				       root)
			    : build_flat(out, &allocator);
	errno = 0;
	if (hwloc_topology_init(&hw))
		return hw_fail(errno, "hwloc_topology_init()");
	rc = hw_load(hw, from);
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

int fln_topology_load(struct fln_topology **out, const struct fln_allocator *a,
		      const char *synthetic)
{
	return load(out, a, &(struct origin){ .synthetic = synthetic });
}

int fln_topology_load_xml(struct fln_topology **out, const struct fln_allocator *a,
			  const char *path)
{
	return load(out, a, &(struct origin){ .xml = path });
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

const struct fln_pu *fln_topology_pu(const struct fln_topology *t, uint32_t nth)
{
	FLN_ASSERT(nth < t->nr_pus);
	return &t->pus[nth];
}

uint64_t fln_topology_node_memory_bytes(const struct fln_topology *t, uint32_t node)
{
	FLN_ASSERT(node < t->nr_nodes);
	return t->nodes[node].memory_bytes;
}

uint32_t fln_topology_distance(const struct fln_topology *t, uint32_t from, uint32_t to)
{
	FLN_ASSERT(from < t->nr_nodes);
	FLN_ASSERT(to < t->nr_nodes);
	return t->distances[from * t->nr_nodes + to];
}

uint32_t fln_topology_find_node(const struct fln_topology *t, uint32_t os_index)
{
	for (uint32_t node = 0; node < t->nr_nodes; node++) {
		if (t->nodes[node].os_index == os_index)
			return node;
	}
	return FLN_NODE_ANY;
}
