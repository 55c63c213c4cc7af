/* SPDX-License-Identifier: MIT */
/*
 * fln_plan_print(): the plan of an engine and a guest as text or JSON.  It calls the functions
 * that the engine itself plans with.  Runs on the caller's thread.
 *
 * Tested by unit.plan.
 */
#include "base/alloc.h"
#include "base/blockmap.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/page.h"
#include "engine/state/guest.h"
#include "numa/cpuset.h"
#include "numa/plan.h"
#include "numa/topology.h"
#include "sharding/stripes.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/plan.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A text buffer.  @len counts the whole text, also the part that does not fit. */
struct text {
	char *buf;
	size_t buf_len;
	size_t len;
};

struct view {
	const struct fln_plan_opts *o;
	const struct fln_topology *topology;
	const struct fln_plan *plan;
	uint32_t nr_vcpus;
	uint32_t nr_shards;
	struct text text;
	bool json;
	uint32_t nr_notes;
};

static void put(struct view *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct view *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct view *v, const char *fmt, ...)
{
	struct text *t = &v->text;
	size_t room = t->len < t->buf_len ? t->buf_len - t->len : 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
	va_end(ap);
	t->len += n > 0 ? (size_t)n : 0;
}

/* A JSON string.  File names and descriptions can contain any character. */
static void put_string(struct view *v, const char *s)
{
	put(v, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			put(v, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			put(v, "\\u%04x", c);
		else
			put(v, "%c", c);
	}
	put(v, "\"");
}

static void note(struct view *v, const char *fmt, ...)
{
	char line[320];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (v->json) {
		put(v, "%s", v->nr_notes++ ? ", " : "");
		put_string(v, line);
	} else {
		put(v, "%s  - %s\n", v->nr_notes++ ? "" : "\nnot ideal\n", line);
	}
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* A number of bytes in the largest fitting unit. */
static const char *human(uint64_t bytes, char buf[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	uint32_t u = 0;

	for (; n >= 1024 && u + 1 < sizeof(units) / sizeof(units[0]); u++)
		n /= 1024;
	(void)snprintf(buf, 32, n < 10 && u > 0 ? "%.1f %s" : "%.0f %s", n, units[u]);
	return buf;
}

enum pu_kind {
	PU_ALL,
	PU_VCPU,
	PU_STRAY,
};

/* A node's processors as a list. */
static const char *pus_of(const struct view *v, uint32_t node, enum pu_kind kind, char *buf,
			  size_t buf_len)
{
	struct fln_cpuset set = { .w = { 0 } };

	for (uint32_t i = 0; i < fln_topology_nr_pus(v->topology); i++) {
		const struct fln_pu *pu = fln_topology_pu(v->topology, i);

		if (pu->node != node)
			continue;
		if (kind == PU_ALL || (kind == PU_STRAY && pu->stray) ||
		    (kind == PU_VCPU && fln_cpuset_has(&v->plan->vcpu_cpus, pu->os_index)))
			fln_cpuset_add(&set, pu->os_index);
	}
	return fln_cpuset_format(&set, buf, buf_len);
}

/* The most that page-state maps of @len_bytes can take, with one region per node. */
static uint64_t map_bytes(uint64_t len_bytes)
{
	uint64_t nr_blocks = (len_bytes + FLN_BLOCK_BYTES - 1) / FLN_BLOCK_BYTES;

	return nr_blocks * (sizeof(uintptr_t) + sizeof(struct fln_chunk));
}

static uint32_t shards_of_worker(const struct view *v, uint32_t worker)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < v->nr_shards; i++)
		nr += fln_plan_shard_worker(v->plan, v->nr_shards, 0, i) == worker;
	return nr;
}

/* The shards served by the node's own workers: those of its memory, if it has any workers. */
static bool own_shards(const struct view *v, uint32_t node, uint32_t *first, uint32_t *nr)
{
	*nr = 0;
	return v->plan->nodes[node].nr_workers > 0 &&
	       fln_plan_node_shards(v->plan, node, v->nr_shards, 0, first, nr);
}

static void note_strays(struct view *v, uint32_t i)
{
	const struct fln_plan_node *node = &v->plan->nodes[i];
	bool used = node->nr_workers > 0 && v->plan->workers[node->first_worker].pu.stray;
	char list[96];

	if (node->nr_strays == 0)
		return;
	note(v, "processor%s %s belong%s to no node in cpuset.mems and count%s as node %u's: %s",
	     plural(node->nr_strays), pus_of(v, i, PU_STRAY, list, sizeof(list)),
	     node->nr_strays == 1 ? "s" : "", node->nr_strays == 1 ? "s" : "", node->os_index,
	     used ? "its workers run there, perhaps far from its memory, because its other "
		    "processors are taken"
		  : "workers avoid them");
}

static void note_node(struct view *v, uint32_t i)
{
	const struct fln_plan_node *node = &v->plan->nodes[i];
	uint32_t server = v->plan->nodes[node->server].os_index, first, nr;

	if (node->has_memory && node->nr_workers == 0) {
		if (node->nr_pus == 0)
			note(v,
			     "node %u has no processors: node %u serves its memory, at distance %u, "
			     "and every fault there is remote",
			     node->os_index, server,
			     fln_topology_distance(v->topology, node->server, i));
		else if (node->nr_may == 0)
			note(v,
			     "worker_cpus has no processor of node %u: node %u serves its memory; "
			     "add a processor of node %u",
			     node->os_index, server, node->os_index);
		else
			note(v,
			     "node %u has no worker, because there are fewer workers than nodes, and "
			     "node %u serves its memory: raise nr_workers",
			     node->os_index, server);
	} else if (node->has_memory &&
		   !fln_plan_node_shards(v->plan, i, v->nr_shards, 0, &first, &nr)) {
		note(v, "node %u gets none of the %u shards: raise nr_shards", node->os_index,
		     v->nr_shards);
	}
	if (!node->has_memory && node->nr_pus > 0)
		note(v, "node %u has no memory: its processors only touch remote memory",
		     node->os_index);
}

static void note_workers(struct view *v)
{
	uint32_t vcpu = 0, crowded = 0, beside = 0;

	for (uint32_t i = 0; i < v->plan->nr_workers; i++) {
		vcpu += v->plan->workers[i].shares_vcpu;
		crowded += v->plan->workers[i].shares_worker;
		beside += v->plan->workers[i].sibling_of_vcpu;
	}
	if (vcpu)
		note(v,
		     "%u worker%s share%s a processor with vCPUs: leave one processor of each node "
		     "out of vcpu_cpus",
		     vcpu, plural(vcpu), vcpu == 1 ? "s" : "");
	if (crowded)
		note(v, "%u workers share their processors with one another: lower nr_workers",
		     crowded);
	if (beside)
		note(v,
		     "%u worker%s run%s on a core that also runs vCPUs: leave whole cores out of "
		     "vcpu_cpus",
		     beside, plural(beside), beside == 1 ? "s" : "");
	if (v->nr_shards < v->plan->nr_workers)
		note(v, "%u shard%s for %u workers: some workers serve none of this guest's faults",
		     v->nr_shards, plural(v->nr_shards), v->plan->nr_workers);
	else if (v->plan->nr_workers > 0 && v->nr_shards % v->plan->nr_workers)
		note(v, "%u shards for %u workers: some workers serve one more than others",
		     v->nr_shards, v->plan->nr_workers);
	if (!v->o->vcpu_cpus && v->plan->nr_workers > 0)
		note(v, "vcpu_cpus is not given: workers share the processors of their nodes with "
			"vCPUs, and move among them; each prefers the one shown");
}

static void notes(struct view *v)
{
	uint32_t nr_vcpu_pus = 0;

	for (uint32_t i = 0; i < v->plan->nr_nodes; i++) {
		nr_vcpu_pus += v->plan->nodes[i].nr_vcpu_pus;
		note_node(v, i);
		note_strays(v, i);
	}
	note_workers(v);
	if (nr_vcpu_pus > 0 && v->o->nr_vcpus > nr_vcpu_pus)
		note(v, "%u vCPUs share %u processors", v->o->nr_vcpus, nr_vcpu_pus);
}

static const char *machine(const struct view *v)
{
	if (v->o->synthetic)
		return v->o->synthetic;
	if (v->o->xml)
		return v->o->xml;
	return fln_topology_is_live(v->topology) ? "this machine"
						 : "the machine of the environment";
}

/* A node's workers, one line per cache. */
static void text_workers(struct view *v, const struct fln_plan_node *node)
{
	const struct fln_plan_worker *w = &v->plan->workers[node->first_worker];
	bool seen[FLN_PLAN_MAX_WORKERS] = { false };

	for (uint32_t i = 0; i < node->nr_workers; i++) {
		uint32_t nr = 0;

		if (seen[i])
			continue;
		put(v, "  %-10s package %u, cache %u:", i == 0 ? "workers" : "", w[i].pu.package,
		    w[i].pu.cache);
		for (uint32_t k = i; k < node->nr_workers; k++) {
			if (w[k].pu.cache != w[i].pu.cache)
				continue;
			seen[k] = true;
			if (nr > 0 && nr % 4 == 0)
				put(v, ",\n  %-10s %-19s", "", "");
			else if (nr > 0)
				put(v, ",");
			put(v, " %u@%u (core %u%s)", node->first_worker + k, w[k].pu.os_index,
			    w[k].pu.core,
			    w[k].shares_vcpu       ? ", a vCPU's"
			    : w[k].shares_worker   ? ", shared"
			    : w[k].sibling_of_vcpu ? ", beside a vCPU"
						   : "");
			nr++;
		}
		put(v, "\n");
	}
}

static void text_node(struct view *v, uint32_t i)
{
	const struct fln_plan_node *node = &v->plan->nodes[i];
	uint64_t offset_bytes, len_bytes;
	uint32_t first, nr;
	char list[128], a[32], b[32];

	put(v, "\nnode %u", node->os_index);
	if (node->nr_pus)
		put(v, ": %u processor%s (%s)", node->nr_pus, plural(node->nr_pus),
		    pus_of(v, i, PU_ALL, list, sizeof(list)));
	else
		put(v, ": no processors");
	if (node->memory_bytes)
		put(v, ", %s", human(node->memory_bytes, a));
	else
		put(v, node->has_memory ? ", memory of unknown size" : ", no memory");
	if (node->server != i && node->has_memory)
		put(v, ", served by node %u", v->plan->nodes[node->server].os_index);
	put(v, "\n");
	text_workers(v, node);
	if (node->nr_vcpu_pus)
		put(v, "  %-10s %u processor%s: %s\n", "vCPUs", node->nr_vcpu_pus,
		    plural(node->nr_vcpu_pus), pus_of(v, i, PU_VCPU, list, sizeof(list)));
	if (own_shards(v, i, &first, &nr))
		put(v, "  %-10s %u: %u to %u\n", "shards", nr, first, first + nr - 1);
	if (v->o->memory_bytes &&
	    fln_plan_extent(v->plan, i, v->o->memory_bytes, &offset_bytes, &len_bytes)) {
		put(v, "  %-10s %s of the guest (%.1f %%), from offset %s on\n", "memory",
		    human(len_bytes, a), 100.0 * (double)len_bytes / (double)v->o->memory_bytes,
		    human(offset_bytes, b));
		put(v, "  %-10s at most %s\n", "maps", human(map_bytes(len_bytes), a));
	}
}

static void print_text(struct view *v)
{
	uint32_t nr_pus = fln_topology_nr_pus(v->topology);
	char a[32];

	put(v, "%s: %u node%s, %u processor%s\n", machine(v), v->plan->nr_nodes,
	    plural(v->plan->nr_nodes), nr_pus, plural(nr_pus));
	put(v, "%u worker%s (worker@processor), %u shard%s", v->plan->nr_workers,
	    plural(v->plan->nr_workers), v->nr_shards, plural(v->nr_shards));
	if (v->o->nr_vcpus)
		put(v, ", %u vCPU%s", v->o->nr_vcpus, plural(v->o->nr_vcpus));
	if (v->o->memory_bytes)
		put(v, ", a guest of %s", human(v->o->memory_bytes, a));
	put(v, "\n");
	for (uint32_t i = 0; i < v->plan->nr_nodes; i++)
		text_node(v, i);
	notes(v);
}

static void json_workers(struct view *v, const struct fln_plan_node *node)
{
	put(v, ", \"workers\": [");
	for (uint32_t k = 0; k < node->nr_workers; k++) {
		const struct fln_plan_worker *w = &v->plan->workers[node->first_worker + k];

		put(v,
		    "%s{\"index\": %u, \"processor\": %u, \"core\": %u, \"cache\": %u, "
		    "\"package\": %u, \"shards\": %u, \"shares_vcpu\": %s, \"shares_worker\": %s, "
		    "\"sibling_of_vcpu\": %s}",
		    k ? ", " : "", node->first_worker + k, w->pu.os_index, w->pu.core, w->pu.cache,
		    w->pu.package, shards_of_worker(v, node->first_worker + k),
		    w->shares_vcpu ? "true" : "false", w->shares_worker ? "true" : "false",
		    w->sibling_of_vcpu ? "true" : "false");
	}
	put(v, "]");
}

static void json_node(struct view *v, uint32_t i)
{
	const struct fln_plan_node *node = &v->plan->nodes[i];
	uint64_t offset_bytes = 0, len_bytes = 0;
	uint32_t first = 0, nr = 0;
	char list[1024];

	put(v, "%s{\"node\": %u, \"processors\": \"%s\"", i ? ", " : "", node->os_index,
	    pus_of(v, i, PU_ALL, list, sizeof(list)));
	put(v, ", \"vcpu_processors\": \"%s\"", pus_of(v, i, PU_VCPU, list, sizeof(list)));
	put(v,
	    ", \"nr_processors\": %u, \"nr_vcpu_processors\": %u, \"nr_worker_processors\": %u, "
	    "\"has_memory\": %s, \"memory_bytes\": %" PRIu64 ", \"served_by\": %u, "
	    "\"distance\": %u",
	    node->nr_pus, node->nr_vcpu_pus, node->nr_worker_pus,
	    node->has_memory ? "true" : "false", node->memory_bytes,
	    v->plan->nodes[node->server].os_index,
	    fln_topology_distance(v->topology, node->server, i));
	json_workers(v, node);
	(void)own_shards(v, i, &first, &nr);
	put(v, ", \"first_shard\": %u, \"nr_shards\": %u", nr ? first : 0, nr);
	if (v->o->memory_bytes)
		(void)fln_plan_extent(v->plan, i, v->o->memory_bytes, &offset_bytes, &len_bytes);
	put(v,
	    ", \"guest_offset_bytes\": %" PRIu64 ", \"guest_bytes\": %" PRIu64
	    ", \"map_bytes\": %" PRIu64 "}",
	    offset_bytes, len_bytes, map_bytes(len_bytes));
}

static void print_json(struct view *v)
{
	put(v, "{\"machine\": ");
	put_string(v, machine(v));
	put(v,
	    ", \"nr_processors\": %u, \"nr_workers\": %u, \"nr_shards\": %u, \"nr_vcpus\": %u, "
	    "\"guest_bytes\": %" PRIu64 ", \"nodes\": [",
	    fln_topology_nr_pus(v->topology), v->plan->nr_workers, v->nr_shards, v->nr_vcpus,
	    v->o->memory_bytes);
	for (uint32_t i = 0; i < v->plan->nr_nodes; i++)
		json_node(v, i);
	put(v, "], \"notes\": [");
	notes(v);
	put(v, "]}\n");
}

static int check(const struct fln_plan_opts *o, enum fln_plan_format format, const char *buf,
		 size_t buf_len)
{
	if ((unsigned int)format >= FLN_PLAN_NR_FORMATS)
		return fln_fail(EINVAL, "plan: format is %u; use one of enum fln_plan_format",
				(unsigned int)format);
	if (!buf && buf_len)
		return fln_fail(EINVAL, "plan: buf is NULL and buf_len %zu", buf_len);
	if (o->synthetic && o->xml)
		return fln_fail(EINVAL, "plan: synthetic and xml are both given; leave one out");
	if (o->nr_shards > FLN_STRIPE_SHARDS_MAX)
		return fln_fail(EINVAL, "plan: nr_shards is %u; use at most %u", o->nr_shards,
				FLN_STRIPE_SHARDS_MAX);
	if (o->reserved)
		return fln_fail(EINVAL, "plan: reserved is %u; set it to 0", o->reserved);
	return 0;
}

static int make_plan(const struct fln_plan_opts *o, struct fln_topology **t, struct fln_plan **plan)
{
	struct fln_plan_input input = {
		.worker_cpus = o->worker_cpus,
		.vcpu_cpus = o->vcpu_cpus,
		.nr_workers = o->nr_workers,
	};
	struct fln_allocator alloc;
	int rc = fln_alloc_init(&alloc, NULL);

	if (rc == 0)
		rc = o->xml ? fln_topology_load_xml(t, &alloc, o->xml)
			    : fln_topology_load(t, &alloc, o->synthetic);
	if (rc)
		return rc;
	rc = fln_plan_create(plan, &alloc, *t, &input);
	if (rc)
		fln_topology_destroy(*t);
	return rc;
}

int64_t fln_plan_print(const struct fln_plan_opts *opts, enum fln_plan_format format, char *buf,
		       size_t buf_len)
{
	FLN_UNCANCELLABLE;
	struct fln_plan_opts o;
	struct fln_topology *t = NULL;
	struct fln_plan *plan = NULL;
	struct view v;
	int rc = fln_opts_copy(&o, sizeof(o), opts, "fln_plan_opts");

	if (rc == 0)
		rc = check(&o, format, buf, buf_len);
	if (rc == 0)
		rc = make_plan(&o, &t, &plan);
	if (rc)
		return rc;
	v = (struct view){
		.o = &o,
		.topology = t,
		.plan = plan,
		.nr_vcpus = o.nr_vcpus ? o.nr_vcpus : FLN_GUEST_DEFAULT_VCPUS,
		.text = { .buf = buf, .buf_len = buf_len },
		.json = format == FLN_PLAN_JSON,
	};
	v.nr_shards =
		o.nr_shards ? o.nr_shards : fln_default_nr_shards(v.nr_vcpus, plan->nr_workers);
	if (buf_len)
		buf[0] = '\0';
	if (v.json)
		print_json(&v);
	else
		print_text(&v);
	fln_plan_destroy(plan);
	fln_topology_destroy(t);
	return (int64_t)v.text.len;
}
