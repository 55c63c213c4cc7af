/* SPDX-License-Identifier: MIT */
/*
 * The plan: the processors of workers and vCPUs, and the NUMA nodes of memory, as text or JSON,
 * before any engine exists.
 */
#ifndef FAULTLANE_PLAN_H
#define FAULTLANE_PLAN_H

#include <faultlane/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct fln_plan_opts - The machine, engine and guest to plan for
 * @size:         sizeof(struct fln_plan_opts)
 * @synthetic:    plan for a machine that hwloc's synthetic description names, such as
 *                "node:8 core:64 pu:2"; NULL: see @xml
 * @xml:          plan for the machine in this hwloc file (lstopo file.xml); NULL: this
 *                machine, as far as this process may use it
 * @worker_cpus:  as in struct fln_engine_opts
 * @vcpu_cpus:    as in struct fln_engine_opts; processors that do not exist are ignored
 * @memory_bytes: the guest's memory, spread over the nodes in proportion to their
 *                memory; 0: left out
 * @nr_vcpus:     as in struct fln_guest_opts
 * @nr_workers:   as in struct fln_engine_opts
 * @nr_shards:    as in struct fln_guest_opts
 * @reserved:     zero
 */
struct fln_plan_opts {
	size_t size;
	const char *synthetic;
	const char *xml;
	const char *worker_cpus;
	const char *vcpu_cpus;
	uint64_t memory_bytes;
	uint32_t nr_vcpus;
	uint32_t nr_workers;
	uint32_t nr_shards;
	uint32_t reserved;
};

#define FLN_PLAN_OPTS_INIT FLN_SIZED(struct fln_plan_opts)

enum fln_plan_format {
	FLN_PLAN_TEXT,
	FLN_PLAN_JSON,
	FLN_PLAN_NR_FORMATS
};

/**
 * fln_plan_print() - The plan that an engine and a guest of these options would have
 * @opts:    options, or NULL for this machine and all defaults
 * @format:  enum fln_plan_format
 * @buf:     receives the text, truncated if need be, and a terminating zero byte
 * @buf_len: size of @buf in bytes
 *
 * With memory_bytes 0 no memory is planned; nr_vcpus 0 counts as 64 for the shards.
 *
 * Return:  the length of the whole text, without the zero byte, like snprintf(); -EINVAL for
 *          options, and for a @synthetic or @xml that hwloc cannot read; -ENODEV when no
 *          processor may be used; -ENOMEM
 * Threads: any
 * Blocks:  for reading the machine's topology
 */
FLN_API int64_t fln_plan_print(const struct fln_plan_opts *opts, enum fln_plan_format format,
			       char *buf, size_t buf_len);

#ifdef __cplusplus
}
#endif

#endif
