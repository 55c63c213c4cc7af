/* SPDX-License-Identifier: MIT */
/*
 * Plans a machine: assigns workers to nodes and processors, and shards to workers.
 *
 * Theory of operation
 *
 * First each node gets its candidates: the processors that workers may use, minus those of
 * vCPUs if that leaves the node any, minus strays (which may be far from the node's memory)
 * if that leaves any.  Then every node's memory is charged to a node with candidates:
 * itself, or the nearest one.  Workers are apportioned to nodes by that charge with the
 * Sainte-Laguë method (divisors 1, 3, 5 …), which favours neither large nor small nodes.
 * A node whose candidates all have a worker is skipped until all nodes' candidates have one.
 * A node that has only vCPUs' processors counts as full with one worker.
 *
 * Cost: nodes squared, plus workers times nodes, plus sorting the processors.
 */
#include "numa/plan.h"

#include "base/error.h"
#include "base/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PUS_PER_WORKER 8u
#define MIN_WORKERS 2u /* if there are that many processors */

__extension__ typedef unsigned __int128 wide;

/* A processor that a worker of its node may run on, with its sort keys. */
struct candidate {
	const struct fln_pu *pu;
	bool beside_vcpu;
	uint32_t rank; /* index among the candidates of its core */
	uint32_t turn; /* index among the equally good candidates of its cache */
};

/* The working state of the planner; its arrays are one allocation. */
struct planner {
	struct fln_plan *plan;
	const struct fln_topology *topology;
	size_t size_bytes;
	struct candidate *candidates; /* grouped by node */
	bool *core_has_vcpu;          /* by core */
	uint32_t *first;              /* by node: index of its first candidate */
	uint32_t *nr;                 /* by node: number of candidates, later of workers */
	uint32_t *flaws;              /* by node: flaws_of() its best processor */
	/* By node: memory that its workers serve, in MiB; in processors if no size is known. */
	uint64_t *charge;
};

static int by_core(const void *va, const void *vb)
{
	const struct fln_pu *a = ((const struct candidate *)va)->pu;
	const struct fln_pu *b = ((const struct candidate *)vb)->pu;

	if (a->core != b->core)
		return a->core < b->core ? -1 : 1;
	return a->logical < b->logical ? -1 : a->logical > b->logical;
}

/* Compare two candidates by quality, ignoring caches. */
static int by_worth(const struct candidate *a, const struct candidate *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	return a->beside_vcpu - b->beside_vcpu;
}

static int by_cache(const void *va, const void *vb)
{
	const struct candidate *a = va, *b = vb;
	int worth = by_worth(a, b);

	if (worth)
		return worth;
	if (a->pu->cache != b->pu->cache)
		return a->pu->cache < b->pu->cache ? -1 : 1;
	return a->pu->logical < b->pu->logical ? -1 : a->pu->logical > b->pu->logical;
}

static int by_turn(const void *va, const void *vb)
{
	const struct candidate *a = va, *b = vb;
	int worth = by_worth(a, b);

	if (worth)
		return worth;
	if (a->turn != b->turn)
		return a->turn < b->turn ? -1 : 1;
	return by_cache(va, vb);
}

/* Sort a node's candidates into the order in which workers are placed on them. */
static void order_candidates(struct candidate *c, uint32_t nr)
{
	qsort(c, nr, sizeof(*c), by_core);
	for (uint32_t i = 0; i < nr; i++)
		c[i].rank = i > 0 && c[i - 1].pu->core == c[i].pu->core ? c[i - 1].rank + 1 : 0;
	qsort(c, nr, sizeof(*c), by_cache);
	for (uint32_t i = 0; i < nr; i++) {
		bool same = i > 0 && by_worth(&c[i - 1], &c[i]) == 0 &&
			    c[i - 1].pu->cache == c[i].pu->cache;

		c[i].turn = same ? c[i - 1].turn + 1 : 0;
	}
	qsort(c, nr, sizeof(*c), by_turn);
}

/* How unsuitable a processor is: a vCPU on it weighs more than being a stray. */
static uint32_t flaws_of(const struct fln_plan *plan, const struct fln_pu *pu)
{
	return (fln_cpuset_has(&plan->vcpu_cpus, pu->os_index) ? 2u : 0u) + pu->stray;
}

/*
 * Count each node's processors by kind, and find the smallest flaws_of() of those for workers.
 * @may: the processors that workers may use; NULL: all.
 */
static void count_pus(struct planner *m, const struct fln_cpuset *may)
{
	const struct fln_plan *plan = m->plan;

	for (uint32_t i = 0; i < plan->nr_nodes; i++)
		m->flaws[i] = UINT32_MAX;
	for (uint32_t i = 0; i < fln_topology_nr_pus(m->topology); i++) {
		const struct fln_pu *pu = fln_topology_pu(m->topology, i);
		struct fln_plan_node *node = &plan->nodes[pu->node];
		bool vcpu = fln_cpuset_has(&plan->vcpu_cpus, pu->os_index);
		bool allowed = !may || fln_cpuset_has(may, pu->os_index);

		node->nr_pus++;
		node->nr_may += allowed;
		node->nr_vcpu_pus += vcpu;
		node->nr_strays += pu->stray;
		if (allowed && flaws_of(plan, pu) < m->flaws[pu->node])
			m->flaws[pu->node] = flaws_of(plan, pu);
		if (vcpu)
			m->core_has_vcpu[pu->core] = true;
	}
}

static void gather_candidates(struct planner *m, const struct fln_cpuset *may)
{
	const struct fln_plan *plan = m->plan;
	uint32_t nr = 0;

	FLN_ASSERT(m->core_has_vcpu && m->nr && m->first && m->flaws);
	count_pus(m, may);
	/* The topology lists processors node by node, so each node's candidates are contiguous. */
	for (uint32_t i = 0; i < fln_topology_nr_pus(m->topology); i++) {
		const struct fln_pu *pu = fln_topology_pu(m->topology, i);
		struct fln_plan_node *node = &plan->nodes[pu->node];

		if (may && !fln_cpuset_has(may, pu->os_index))
			continue;
		if (flaws_of(plan, pu) > m->flaws[pu->node])
			continue;
		if (m->nr[pu->node]++ == 0)
			m->first[pu->node] = nr;
		node->nr_free += !fln_cpuset_has(&plan->vcpu_cpus, pu->os_index);
		node->nr_worker_pus++;
		fln_cpuset_add(&node->worker_cpus, pu->os_index);
		m->candidates[nr++] = (struct candidate){
			.pu = pu,
			.beside_vcpu = m->core_has_vcpu[pu->core],
		};
	}
	for (uint32_t node = 0; node < plan->nr_nodes; node++)
		order_candidates(&m->candidates[m->first[node]], m->nr[node]);
}

/* The node nearest to @node for which @nr is not zero; UINT32_MAX when there is none. */
static uint32_t nearest(const struct planner *m, uint32_t node, const uint32_t *nr)
{
	uint32_t best = UINT32_MAX;

	if (nr[node] > 0)
		return node;
	for (uint32_t i = 0; i < m->plan->nr_nodes; i++) {
		if (nr[i] == 0)
			continue;
		if (best == UINT32_MAX || fln_topology_distance(m->topology, i, node) <
						  fln_topology_distance(m->topology, best, node))
			best = i;
	}
	return best;
}

/* Charge every node's memory to a node that can have workers. */
static void charge_memory(struct planner *m)
{
	struct fln_plan *plan = m->plan;
	bool known = false;

	for (uint32_t i = 0; i < plan->nr_nodes; i++)
		known |= plan->nodes[i].memory_bytes > 0;
	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		struct fln_plan_node *node = &plan->nodes[i];

		node->has_memory = !known || node->memory_bytes > 0;
		if (!node->has_memory)
			continue;
		/* MiB, so that sums and products do not overflow; plus 1, so that it is never 0. */
		m->charge[nearest(m, i, m->nr)] +=
			known ? (node->memory_bytes >> 20) + 1 : node->nr_pus + 1;
	}
}

static uint32_t default_nr_workers(const struct planner *m)
{
	uint32_t nr_pus = fln_topology_nr_pus(m->topology);
	uint32_t want = nr_pus / PUS_PER_WORKER;
	uint32_t nr_candidates = 0, nr_serving = 0;
	bool any_free = false;

	for (uint32_t i = 0; i < m->plan->nr_nodes; i++)
		any_free |= m->plan->nodes[i].nr_free > 0;
	for (uint32_t i = 0; i < m->plan->nr_nodes; i++) {
		/*
		 * If other nodes have free processors, a node that has only processors of vCPUs
		 * takes one worker.
		 */
		nr_candidates +=
			m->plan->nodes[i].nr_free > 0 || !any_free ? m->nr[i] : m->nr[i] > 0;
		nr_serving += m->charge[i] > 0;
	}
	if (want < MIN_WORKERS)
		want = MIN_WORKERS;
	if (want < nr_serving)
		want = nr_serving;
	if (want > nr_candidates)
		want = nr_candidates;
	return want < FLN_PLAN_MAX_WORKERS ? want : FLN_PLAN_MAX_WORKERS;
}

/* Does node @a get the next worker rather than node @b? */
static bool goes_before(const struct planner *m, uint32_t a, uint32_t b)
{
	uint64_t na = m->plan->nodes[a].nr_workers, nb = m->plan->nodes[b].nr_workers;

	if ((na == 0) != (nb == 0))
		return na == 0;
	return (wide)m->charge[a] * (2 * nb + 1) > (wide)m->charge[b] * (2 * na + 1);
}

static void apportion_workers(struct planner *m)
{
	struct fln_plan *plan = m->plan;
	uint32_t laps = 1;

	for (uint32_t dealt = 0; dealt < plan->nr_workers;) {
		uint32_t best = UINT32_MAX;

		for (uint32_t i = 0; i < plan->nr_nodes; i++) {
			const struct fln_plan_node *node = &plan->nodes[i];
			uint32_t room = node->nr_free > 0 ? node->nr_free : 1;

			if (m->charge[i] == 0 || node->nr_workers >= laps * room)
				continue;
			if (best == UINT32_MAX || goes_before(m, i, best))
				best = i;
		}
		if (best == UINT32_MAX) {
			/*
			 * All candidates have a worker: start another lap.  At least one node has
			 * a charge, so this terminates.
			 */
			laps++;
			continue;
		}
		plan->nodes[best].nr_workers++;
		dealt++;
	}
}

static void place_workers(struct planner *m)
{
	struct fln_plan *plan = m->plan;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		struct fln_plan_node *node = &plan->nodes[i];

		node->first_worker = nr;
		for (uint32_t k = 0; k < node->nr_workers; k++) {
			const struct candidate *c = &m->candidates[m->first[i] + k % m->nr[i]];
			bool twice = k >= m->nr[i] || k + m->nr[i] < node->nr_workers;

			plan->workers[nr++] = (struct fln_plan_worker){
				.pu = *c->pu,
				.shares_vcpu = node->nr_free == 0,
				.shares_worker = twice,
				.sibling_of_vcpu = node->nr_free > 0 && c->beside_vcpu,
			};
		}
	}
	FLN_ASSERT(nr == plan->nr_workers);
	/* From here on m->nr counts workers instead of candidates. */
	for (uint32_t i = 0; i < plan->nr_nodes; i++)
		m->nr[i] = plan->nodes[i].nr_workers;
	for (uint32_t i = 0; i < plan->nr_nodes; i++)
		plan->nodes[i].server = nearest(m, i, m->nr);
}

static int planner_init(struct planner *m, struct fln_plan *plan, const struct fln_topology *t)
{
	uint32_t nr_pus = fln_topology_nr_pus(t);
	char *at;

	memset(m, 0, sizeof(*m));
	m->plan = plan;
	m->topology = t;
	m->size_bytes = (size_t)nr_pus * sizeof(*m->candidates) +
			plan->nr_nodes * sizeof(*m->charge) +
			(size_t)3 * plan->nr_nodes * sizeof(*m->first) + nr_pus * sizeof(bool);
	at = fln_zalloc(&plan->allocator, m->size_bytes, FLN_NODE_ANY);
	if (!at)
		return fln_fail(ENOMEM, "no memory for a plan of %u processors", nr_pus);
	m->candidates = (struct candidate *)(void *)at;
	at += nr_pus * sizeof(*m->candidates);
	m->charge = (uint64_t *)(void *)at;
	at += plan->nr_nodes * sizeof(*m->charge);
	m->first = (uint32_t *)(void *)at;
	m->nr = m->first + plan->nr_nodes;
	m->flaws = m->nr + plan->nr_nodes;
	m->core_has_vcpu = (bool *)(m->flaws + plan->nr_nodes);
	return 0;
}

/* Fail because workers may use none of the processors; name those that exist. */
static int fail_no_candidate(const struct fln_topology *t, const struct fln_plan_input *input)
{
	struct fln_cpuset all = { .w = { 0 } };
	char list[96];

	for (uint32_t i = 0; i < fln_topology_nr_pus(t); i++)
		fln_cpuset_add(&all, fln_topology_pu(t, i)->os_index);
	return fln_fail(EINVAL,
			"worker_cpus is '%.60s', but this process may use none of these; choose "
			"from %s",
			input->worker_cpus ? input->worker_cpus : "",
			fln_cpuset_format(&all, list, sizeof(list)));
}

static int fill_plan(struct fln_plan *plan, const struct fln_topology *t,
		     const struct fln_plan_input *input)
{
	struct fln_cpuset may;
	struct planner m;
	uint32_t nr = 0;
	int rc = 0;

	if (input->nr_workers > FLN_PLAN_MAX_WORKERS)
		return fln_fail(EINVAL, "nr_workers is %u; use 1 to %u, or 0 for the default",
				input->nr_workers, FLN_PLAN_MAX_WORKERS);
	if (input->worker_cpus)
		rc = fln_cpuset_parse(&may, input->worker_cpus, "worker_cpus");
	if (rc == 0 && input->vcpu_cpus)
		rc = fln_cpuset_parse(&plan->vcpu_cpus, input->vcpu_cpus, "vcpu_cpus");
	plan->apart = input->vcpu_cpus != NULL;
	if (rc == 0)
		rc = planner_init(&m, plan, t);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		plan->nodes[i].os_index = fln_topology_node_os_index(t, i);
		plan->nodes[i].memory_bytes = fln_topology_node_memory_bytes(t, i);
	}
	gather_candidates(&m, input->worker_cpus ? &may : NULL);
	for (uint32_t i = 0; i < plan->nr_nodes; i++)
		nr += m.nr[i];
	if (nr == 0) {
		rc = fail_no_candidate(t, input);
	} else {
		charge_memory(&m);
		plan->nr_workers = input->nr_workers ? input->nr_workers : default_nr_workers(&m);
		apportion_workers(&m);
		place_workers(&m);
	}
	fln_free(&plan->allocator, m.candidates, m.size_bytes, FLN_NODE_ANY);
	return rc;
}

int fln_plan_create(struct fln_plan **out, const struct fln_allocator *a,
		    const struct fln_topology *t, const struct fln_plan_input *input)
{
	uint32_t nr_nodes = fln_topology_nr_nodes(t);
	size_t size_bytes = sizeof(struct fln_plan) + nr_nodes * sizeof(struct fln_plan_node);
	struct fln_plan *plan = fln_zalloc(a, size_bytes, FLN_NODE_ANY);
	int rc;

	if (!plan)
		return fln_fail(ENOMEM, "no memory for a plan of %u nodes", nr_nodes);
	plan->allocator = *a;
	plan->size_bytes = size_bytes;
	plan->nodes = (struct fln_plan_node *)(plan + 1);
	plan->nr_nodes = nr_nodes;
	rc = fill_plan(plan, t, input);
	if (rc)
		fln_plan_destroy(plan);
	else
		*out = plan;
	return rc;
}

void fln_plan_destroy(struct fln_plan *plan)
{
	struct fln_allocator allocator;

	if (!plan)
		return;
	allocator = plan->allocator;
	fln_free(&allocator, plan, plan->size_bytes, FLN_NODE_ANY);
}

/*
 * How many of a guest's shards belong to the workers before @worker.  @turn varies the rounding
 * between guests, so that the extra shards do not always go to the same workers.
 */
static uint32_t shards_before(const struct fln_plan *plan, uint32_t nr_shards, uint32_t turn,
			      uint32_t worker)
{
	uint64_t offset = turn % plan->nr_workers;

	return (uint32_t)(((uint64_t)nr_shards * worker + offset) / plan->nr_workers);
}

bool fln_plan_node_shards(const struct fln_plan *plan, uint32_t node, uint32_t nr_shards,
			  uint32_t turn, uint32_t *first, uint32_t *nr)
{
	const struct fln_plan_node *server;

	FLN_ASSERT(node < plan->nr_nodes);
	FLN_ASSERT(nr_shards > 0);
	server = &plan->nodes[plan->nodes[node].server];
	*first = shards_before(plan, nr_shards, turn, server->first_worker);
	*nr = shards_before(plan, nr_shards, turn, server->first_worker + server->nr_workers) -
	      *first;
	if (*nr > 0)
		return true;
	*first = 0;
	*nr = nr_shards;
	return false;
}

uint32_t fln_plan_shard_worker(const struct fln_plan *plan, uint32_t nr_shards, uint32_t turn,
			       uint32_t shard)
{
	FLN_ASSERT(shard < nr_shards);
	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		const struct fln_plan_node *node = &plan->nodes[i];
		uint32_t end = node->first_worker + node->nr_workers;
		uint32_t first = shards_before(plan, nr_shards, turn, node->first_worker);

		if (node->nr_workers == 0 || shard < first ||
		    shard >= shards_before(plan, nr_shards, turn, end))
			continue;
		return node->first_worker +
		       (uint32_t)(((uint64_t)turn + (shard - first)) % node->nr_workers);
	}
	/* Unreachable: the nodes' ranges cover all shards. */
	fln_assert_failed("shard < nr_shards", __FILE__, __LINE__);
}

bool fln_plan_extent(const struct fln_plan *plan, uint32_t node, uint64_t memory_bytes,
		     uint64_t *offset_bytes, uint64_t *len_bytes)
{
	uint64_t nr_blocks = memory_bytes / FLN_BLOCK_BYTES;
	wide before = 0, own = 0, all = 0;
	uint64_t lo, hi;

	FLN_ASSERT(node < plan->nr_nodes);
	for (uint32_t i = 0; i < plan->nr_nodes; i++) {
		const struct fln_plan_node *n = &plan->nodes[i];
		wide share = n->memory_bytes ? n->memory_bytes : n->has_memory;

		before += i < node ? share : 0;
		own += i == node ? share : 0;
		all += share;
	}
	FLN_ASSERT(all > 0);
	lo = (uint64_t)(nr_blocks * before / all) * FLN_BLOCK_BYTES;
	hi = (uint64_t)(nr_blocks * (before + own) / all) * FLN_BLOCK_BYTES;
	/* The last node with memory also takes the remainder of the division. */
	if (before + own == all)
		hi = own ? memory_bytes : lo;
	*offset_bytes = own || before < all ? lo : memory_bytes;
	*len_bytes = own ? hi - lo : 0;
	return *len_bytes > 0;
}
