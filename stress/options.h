/* SPDX-License-Identifier: MIT */
#ifndef STRESS_OPTIONS_H
#define STRESS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum chaos_kind {
	CHAOS_DISCARD,
	CHAOS_FORK,
	CHAOS_REMAP,
	CHAOS_UNMAP,
	CHAOS_REGIONS,
	CHAOS_RESTART,
	CHAOS_SIGNALS,
	CHAOS_SOURCE_ERRORS,
	CHAOS_SHORT_READS,
	CHAOS_SLOW_SOURCE,
	CHAOS_STALL,
	CHAOS_DESCRIPTORS,
	CHAOS_MAPPINGS,
	CHAOS_MEMORY,
	CHAOS_CONVERGENCE,
	CHAOS_STAMPEDE,
	CHAOS_HUGE,
	CHAOS_PAUSE,
	CHAOS_EMULATED,
	CHAOS_HOST,
	CHAOS_NEIGHBOURS,
	CHAOS_OWED,
	CHAOS_ADDRESSES,
	CHAOS_FOREIGN,
	CHAOS_RELEASE,
	CHAOS_NR
};

extern const char *const chaos_names[CHAOS_NR];

struct options {
	uint32_t nr_threads;
	uint64_t memory_bytes;
	double seconds;      /* 0: until nr_touches */
	uint64_t nr_touches; /* 0: until seconds */
	uint32_t chaos;      /* a bit per kind */
	uint64_t seed;
	double max_wait_s;
	bool is_private;
	bool in_context;
	bool kvm;           /* vCPUs touch, not threads */
	bool huge;          /* 2 MiB pages */
	uint32_t folio;     /* enum fln_folio */
	bool random_layout; /* many regions of several images */
	bool json;
	bool quiet;       /* no status line */
	bool until_wrong; /* end at the first error */
	bool user_mode_only;
	uint32_t nr_workers; /* 0: the default */
	uint32_t nr_shards;  /* 0: the default */
	uint32_t window;     /* 0: the default */
};

/* Return: 0; 2 when the command line is wrong (a message was printed); 1 for --help. */
int options_parse(struct options *o, int argc, char **argv);

static inline bool has_chaos(const struct options *o, enum chaos_kind kind)
{
	return (o->chaos >> kind) & 1;
}

#endif
