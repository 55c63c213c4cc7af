/* SPDX-License-Identifier: MIT */
/*
 * Regions on nodes.  Machines with several nodes are described to hwloc: workers and
 * shards are dealt as they would be there, and nothing is pinned or bound.  What is
 * pinned is tried on the machine that there is.
 */
#include "harness.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_REGIONS 8u

/* A guest with a region on each of some nodes, of one image. */
static struct bed bed;
static struct fln_region *regions[MAX_REGIONS];
static uint64_t region_pages;

static void describe_machine(const char *synthetic)
{
	CHECK(setenv("HWLOC_SYNTHETIC", synthetic, 1) == 0, "errno %d", errno);
}

static void this_machine(void)
{
	CHECK(unsetenv("HWLOC_SYNTHETIC") == 0, "errno %d", errno);
}

/* The region options' node of the node that the topology counts as @index. */
static uint32_t node_option(uint32_t index)
{
	struct fln_node_stats s = FLN_NODE_STATS_INIT;

	OK(fln_engine_node_stats(bed.engine, index, &s));
	return s.os_index + 1;
}

static void begin(uint32_t nr_regions, uint64_t nr_pages)
{
	bed_init(&bed, nr_regions * nr_pages);
	region_pages = nr_pages;
	memset(regions, 0, sizeof(regions));
}

/* With bed's options set: the engine, and @nr regions of the image, each on @node(i). */
static void set_up(uint32_t nr, const uint32_t *nodes)
{
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	OK(fln_engine_start(bed.engine));
	bed.region_opts.len_bytes = region_pages * PAGE;
	bed.region_opts.node = nodes[0] == FLN_NODE_ANY ? 0 : node_option(nodes[0]);
	bed_up(&bed);
	regions[0] = bed.region;
	for (uint32_t i = 1; i < nr; i++) {
		bed.region_opts.node = nodes[i] == FLN_NODE_ANY ? 0 : node_option(nodes[i]);
		bed.region_opts.image_offset_bytes = i * region_pages * PAGE;
		OK(fln_region_add(bed.guest, &bed.region_opts, &regions[i]));
	}
}

/* Every page of a region, by two threads that meet half-way. */
struct reader {
	uint32_t region;
	uint64_t salt;
};

static void read_part(void *arg, uint32_t index)
{
	const struct reader *r = arg;
	const uint8_t *mem = fln_region_addr(regions[r->region]);

	for (uint64_t i = 0; i < region_pages; i++) {
		uint64_t page = index ? region_pages - 1 - i : i;
		bool right = false;
		enum touch t = touch_page(mem + page * PAGE, r->salt,
					  r->region * region_pages + page, &right);

		CHECK(t == TOUCH_OK && right, "region %u, page %llu: %s", r->region,
		      (unsigned long long)page, t == TOUCH_OK ? "wrong contents" : touch_name(t));
	}
}

static void read_region(uint32_t region)
{
	struct reader r = { region, bed.maker.salt };
	struct crew crew;

	crew_start(&crew, 2, read_part, &r);
	crew_wait(&crew, 60, "readers of a region");
}

static struct fln_node_stats node_stats(uint32_t node)
{
	struct fln_node_stats s = FLN_NODE_STATS_INIT;

	OK(fln_engine_node_stats(bed.engine, node, &s));
	return s;
}

static struct fln_stats guest_stats(void)
{
	struct fln_stats s;

	settled_stats(bed.guest, &s);
	return s;
}

/* Four nodes, a region on each: only the node whose pages are touched has faults. */
static void apart(void)
{
	static const uint32_t nodes[] = { 2, 0, 3, 1 };
	uint64_t faults = 0;

	describe_machine("node:4 core:4 pu:1");
	begin(4, 2048);
	bed.engine_opts.nr_workers = 8;
	bed.guest_opts.nr_shards = 16;
	set_up(4, nodes);
	for (uint32_t i = 0; i < 4; i++) {
		struct fln_node_stats before[4];

		for (uint32_t n = 0; n < 4; n++)
			before[n] = node_stats(n);
		read_region(i);
		for (uint32_t n = 0; n < 4; n++) {
			struct fln_node_stats s = node_stats(n);

			CHECK(s.nr_workers == 2 && s.nr_shards == 4,
			      "node %u: %u workers, %u shards", n, s.nr_workers, s.nr_shards);
			CHECK((s.faults > before[n].faults) == (n == nodes[i]),
			      "region on node %u, but node %u has %llu faults more", nodes[i], n,
			      (unsigned long long)(s.faults - before[n].faults));
			CHECK(s.remote == 0, "%llu remote", (unsigned long long)s.remote);
		}
	}
	for (uint32_t i = 0; i < 16; i++) {
		struct fln_stats s = FLN_STATS_INIT;

		OK(fln_shard_stats(bed.guest, i, &s));
		/* 8 MiB over four shards: a stripe each. */
		CHECK(s.faults > 0, "shard %u has no faults", i);
		faults += s.faults;
	}
	CHECK(faults == guest_stats().faults, "%llu faults", (unsigned long long)faults);
	CHECK(guest_stats().remote == 0, "remote faults");
	for (uint32_t i = 1; i < 4; i++)
		OK(fln_region_remove(regions[i]));
	bed_down(&bed);
}

/*
 * Memory without processors: all its faults are remote, each counted once, also those
 * that are held and looked at several times.
 */
static void memory_only(void)
{
	uint32_t nodes[2] = { UINT32_MAX, UINT32_MAX };
	struct fln_stats s;
	uint64_t remote = 0;

	describe_machine("[numa(memory=64GB)] pack:2 [numa(memory=8GB)] core:2 pu:1");
	begin(2, 2048);
	bed.maker.delay_ns = 2 * MS;
	bed.engine_opts.fill_pages = 8;
	bed.guest_opts.nr_shards = 8;
	OK(fln_engine_create(&bed.engine_opts, &bed.engine));
	for (uint32_t n = 0; n < 3; n++) {
		nodes[0] = node_stats(n).nr_workers == 0 ? n : nodes[0];
		nodes[1] = node_stats(n).nr_workers > 0 ? n : nodes[1];
	}
	CHECK(nodes[0] < 3, "every node has workers");
	OK(fln_engine_destroy(bed.engine));
	set_up(2, nodes);
	read_region(0);
	s = guest_stats();
	CHECK(s.major > 0, "nothing was held");
	CHECK(s.remote == s.faults, "%llu of %llu are remote", (unsigned long long)s.remote,
	      (unsigned long long)s.faults);
	read_region(1);
	CHECK(guest_stats().remote == s.remote, "faults at home are remote");
	for (uint32_t n = 0; n < 3; n++)
		remote += node_stats(n).remote;
	CHECK(remote == s.remote, "%llu by node, %llu by guest", (unsigned long long)remote,
	      (unsigned long long)s.remote);
	CHECK(node_stats(nodes[0]).faults == 0 && node_stats(nodes[0]).nr_shards == 0,
	      "a node without workers has faults");
	OK(fln_region_remove(regions[1]));
	bed_down(&bed);
}

/* One shard for two nodes: served all the same, and remote for one of them. */
static void too_few_shards(void)
{
	static const uint32_t nodes[] = { 0, 1 };
	uint64_t remote[2];

	describe_machine("node:2 core:2 pu:1");
	begin(2, 512);
	bed.guest_opts.nr_shards = 1;
	set_up(2, nodes);
	read_region(0);
	remote[0] = guest_stats().remote;
	read_region(1);
	remote[1] = guest_stats().remote - remote[0];
	CHECK((remote[0] == 0) != (remote[1] == 0), "%llu and %llu", (unsigned long long)remote[0],
	      (unsigned long long)remote[1]);
	CHECK(remote[0] + remote[1] == node_stats(0).remote + node_stats(1).remote, "by node");
	OK(fln_region_remove(regions[1]));
	bed_down(&bed);
}

/* Without a node all nodes serve, and nothing is known to be remote. */
static void anywhere(void)
{
	static const uint32_t nodes[] = { FLN_NODE_ANY };
	struct fln_node_stats before[4];
	struct fln_guest_opts opts = FLN_GUEST_OPTS_INIT;
	struct fln_guest *other = NULL;

	describe_machine("node:4 core:2 pu:1");
	begin(1, 8192);
	bed.guest_opts.nr_shards = 8;
	set_up(1, nodes);
	read_region(0);
	CHECK(guest_stats().remote == 0, "remote faults of a region without a node");
	for (uint32_t n = 0; n < 4; n++) {
		before[n] = node_stats(n);
		CHECK(before[n].faults > 0, "node %u has no faults", n);
	}
	/* What has been counted stays when the guest is gone. */
	OK(fln_guest_destroy(bed.guest));
	for (uint32_t n = 0; n < 4; n++) {
		struct fln_node_stats s = node_stats(n);

		CHECK(s.faults == before[n].faults &&
			      s.pages_installed >= before[n].pages_installed,
		      "node %u: %llu faults, before %llu", n, (unsigned long long)s.faults,
		      (unsigned long long)before[n].faults);
		CHECK(s.nr_shards == 0, "%u shards of nobody", s.nr_shards);
	}
	/* A guest that does not run has shards that nobody serves yet. */
	OK(fln_guest_create(bed.engine, &opts, &other));
	CHECK(node_stats(0).nr_shards == 0, "%u shards", node_stats(0).nr_shards);
	OK(fln_guest_start(other));
	CHECK(node_stats(0).nr_shards > 0, "no shard");
	bed.guest = other;
	bed_down(&bed);
}

static void refused(void)
{
	static const uint32_t nodes[] = { 1 };
	struct fln_node_stats s = FLN_NODE_STATS_INIT;
	struct fln_region *region = NULL;
	struct fln_engine *engine = NULL;
	struct fln_engine_opts o;

	describe_machine("node:2 core:2 pu:1");
	begin(2, 512);
	set_up(1, nodes);
	bed.region_opts.node = 3;
	bed.region_opts.image_offset_bytes = 512 * PAGE;
	REFUSED(fln_region_add(bed.guest, &bed.region_opts, &region), -EINVAL, "node 2");
	REFUSED(fln_region_add(bed.guest, &bed.region_opts, &region), -EINVAL, "0-1");
	bed.region_opts.node = UINT32_MAX;
	REFUSED(fln_region_add(bed.guest, &bed.region_opts, &region), -EINVAL,
		"node 4294967295 4294967294");
	REFUSED(fln_engine_node_stats(bed.engine, 2, &s), -ENOENT, "2");
	REFUSED(fln_engine_node_stats(NULL, 0, &s), -EINVAL, "NULL");
	s.size = 3;
	REFUSED(fln_engine_node_stats(bed.engine, 0, &s), -EINVAL, "fln_node_stats");
	/* An older, shorter struct gets what it has room for. */
	memset(&s, 0x5a, sizeof(s));
	s.size = offsetof(struct fln_node_stats, pages_installed);
	OK(fln_engine_node_stats(bed.engine, 1, &s));
	CHECK(s.os_index == 1 && s.remote == UINT64_C(0x5a5a5a5a5a5a5a5a), "written too far");
	o = bed.engine_opts;
	o.worker_cpus = "0-3,x";
	REFUSED(fln_engine_create(&o, &engine), -EINVAL, "worker_cpus 0-3,x");
	o.worker_cpus = "4";
	REFUSED(fln_engine_create(&o, &engine), -EINVAL, "0-3");
	o.worker_cpus = NULL;
	o.vcpu_cpus = "";
	REFUSED(fln_engine_create(&o, &engine), -EINVAL, "vcpu_cpus");
	bed_down(&bed);
}

/* How many workers there are, and how many of them may run on @cpu alone. */
static void count_pinned(uint32_t cpu, uint32_t *nr, uint32_t *nr_pinned)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;

	CHECK(dir != NULL, "errno %d", errno);
	*nr = *nr_pinned = 0;
	while ((entry = readdir(dir)) != NULL) {
		char path[300], name[32] = "";
		unsigned long mask[1024 / (8 * sizeof(unsigned long))] = { 0 };
		FILE *f;
		long len;
		bool alone = true;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		f = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (!f)
			continue;
		(void)!fgets(name, sizeof(name), f);
		(void)fclose(f);
		if (strncmp(name, "fln-worker", 10) != 0)
			continue;
		(*nr)++;
		len = syscall(SYS_sched_getaffinity, atoi(entry->d_name), sizeof(mask), mask);
		CHECK(len > 0, "errno %d", errno);
		for (uint32_t i = 0; i < 1024; i++)
			alone &= (mask[i / 64] >> i % 64 & 1) == (i == cpu);
		*nr_pinned += alone;
	}
	(void)closedir(dir);
}

/* A processor of this process, the last one that sched_getaffinity() tells. */
static uint32_t some_cpu(void)
{
	cpu_set_t set;
	uint32_t cpu = 0;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		test_skip("sched_getaffinity: errno %d", errno);
	for (uint32_t i = 0; i < CPU_SETSIZE; i++)
		cpu = CPU_ISSET(i, &set) ? i : cpu;
	return cpu;
}

static void wait_pinned(uint32_t cpu, uint32_t want)
{
	uint64_t end = now_ns() + WAIT_S * 1000 * MS;
	uint32_t nr = 0, nr_pinned = 0;

	while (nr != want || nr_pinned != want) {
		CHECK(now_ns() < end, "%u of %u workers are pinned to processor %u, %u should be",
		      nr_pinned, nr, cpu, want);
		sleep_ms(5);
		count_pinned(cpu, &nr, &nr_pinned);
	}
}

/* On this machine: workers run where they may, and what vCPUs have is shared once, and said. */
static void pinned(void)
{
	static const uint32_t nodes[] = { 0 };
	uint32_t cpu = some_cpu();
	char list[16];

	this_machine();
	begin(1, 1024);
	(void)snprintf(list, sizeof(list), "%u", cpu);
	bed.engine_opts.worker_cpus = list;
	bed.engine_opts.nr_workers = 3;
	set_up(1, nodes);
	memset(list, 'x', sizeof(list)); /* it is not kept */
	wait_pinned(cpu, 3);
	read_region(0);
	CHECK(!log_names(&bed.log, FLN_LOG_WARNING, NULL), "it said too much");
	CHECK(guest_stats().remote == 0 || node_stats(0).nr_workers == 0, "remote faults");
	bed_down(&bed);

	begin(1, 512);
	bed.engine_opts.vcpu_cpus = "0-8191";
	bed.engine_opts.nr_workers = 2;
	set_up(1, nodes);
	CHECK(log_names(&bed.log, FLN_LOG_WARNING, "vcpu_cpus"), "it said nothing");
	read_region(0);
	bed_down(&bed);
}

/* Pinning is forbidden: it is said once, and all works. */
static void pinning_refused(void)
{
	static const uint32_t nodes[] = { 0 };
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(filter) / sizeof(filter[0]), filter };
	uint32_t nr = 0;

	this_machine();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) {
		test_note("not tried: no seccomp filter here, errno %d", errno);
		return;
	}
	begin(1, 1024);
	bed.engine_opts.nr_workers = 4;
	set_up(1, nodes);
	read_region(0);
	OK(fln_engine_stop(bed.engine)); /* all workers have had their say */
	(void)pthread_mutex_lock(&bed.log.lock);
	for (uint32_t i = 0; i < bed.log.nr; i++)
		nr += strstr(bed.log.lines[i], "cannot be pinned") != NULL;
	(void)pthread_mutex_unlock(&bed.log.lock);
	CHECK(nr == 1, "it was said %u times", nr);
	bed_down(&bed);
}

int main(void)
{
	this_machine();
	test_init();
	RUN(apart);
	RUN(memory_only);
	RUN(too_few_shards);
	RUN(anywhere);
	RUN(refused);
	RUN(pinned);
	RUN(pinning_refused); /* last: the filter stays */
	return 0;
}
