/* SPDX-License-Identifier: MIT */
/*
 * The plan: which processors workers get, which are left to vCPUs, where memory
 * lies.  To be looked at before anything starts.
 */
#ifndef FAULTLANE_PLAN_H
#define FAULTLANE_PLAN_H

#include <faultlane/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct fln_plan_opts - What is to be planned
 * @size:         sizeof(struct fln_plan_opts)
 * @synthetic:    plan for a machine that hwloc's synthetic description names, such as
 *                "node:8 core:64 pu:2"; NULL: see @xml
 * @xml:          plan for the machine in this file of hwloc's (lstopo file.xml); NULL:
 *                this machine, as far as this process may use it
 * @worker_cpus:  as in struct fln_engine_opts
 * @vcpu_cpus:    as in struct fln_engine_opts; processors that are not there count for
 *                nothing
 * @memory_bytes: the guest's memory, spread over the nodes that have memory in
 *                proportion to it; 0: left out
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
 * @buf:     receives it, ended by a zero byte, cut when it is longer
 * @buf_len: size of @buf in bytes
 *
 * A guest of 0 bytes has no part of memory; 0 vCPUs count as 64 for the shards.
 *
 * Return:  the length of the whole, without the zero byte, as snprintf(); -EINVAL for
 *          options, and for what does not describe a machine; -ENODEV when no processor may be used; -ENOMEM
 * Threads: any
 * Blocks:  for reading the machine's topology
 */
FLN_API int64_t fln_plan_print(const struct fln_plan_opts *opts, enum fln_plan_format format,
			       char *buf, size_t buf_len);

#ifdef __cplusplus
}
#endif

#endif
