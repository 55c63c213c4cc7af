/* SPDX-License-Identifier: MIT */
/*
 * The options of `faultlane restore`.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum cli_design {
	CLI_ENGINE,
	CLI_SINGLE,
	CLI_SINGLE_WINDOW,
	CLI_KERNEL,
	CLI_NR_DESIGNS
};

enum cli_order {
	CLI_RANDOM,
	CLI_SEQUENTIAL,
	CLI_NR_ORDERS
};
enum cli_op {
	CLI_READ,
	CLI_WRITE,
	CLI_NR_OPS
};
enum cli_delivery {
	CLI_QUEUED,
	CLI_IN_CONTEXT,
	CLI_NR_DELIVERIES
};
enum cli_source {
	CLI_MEMORY,
	CLI_FILE,
	CLI_NR_SOURCES
};

enum cli_sharing {
	CLI_SHARED,
	CLI_PRIVATE,
	CLI_NR_SHARINGS
};

enum cli_page_size {
	CLI_PAGE_4K,
	CLI_PAGE_2M,
	CLI_NR_PAGE_SIZES
};

/* In the order of enum fln_folio. */
enum cli_folio {
	CLI_FOLIO_AUTO,
	CLI_FOLIO_4K,
	CLI_FOLIO_2M,
	CLI_NR_FOLIOS
};

enum cli_release {
	CLI_RELEASE_AUTO,
	CLI_RELEASE_NEVER,
	CLI_NR_RELEASES
};

extern const char *const cli_release_names[CLI_NR_RELEASES];
extern const char *const cli_folio_names[CLI_NR_FOLIOS];
extern const char *const cli_page_size_names[CLI_NR_PAGE_SIZES];
extern const char *const cli_design_names[CLI_NR_DESIGNS];
extern const char *const cli_order_names[CLI_NR_ORDERS];
extern const char *const cli_op_names[CLI_NR_OPS];
/* In the order of enum fln_advice. */
enum cli_advice {
	CLI_NORMAL,
	CLI_ADVISE_SEQUENTIAL,
	CLI_ADVISE_RANDOM,
	CLI_NR_ADVICES
};

extern const char *const cli_advice_names[CLI_NR_ADVICES];
extern const char *const cli_delivery_names[CLI_NR_DELIVERIES];
extern const char *const cli_source_names[CLI_NR_SOURCES];
extern const char *const cli_sharing_names[CLI_NR_SHARINGS];

/* --delay-ms and --prefill divide an image into parts of this size and treat them alternately. */
#define CLI_PART_PAGES 64u

#define CLI_MAX_PHASES 2u

struct cli_options {
	const char *image;
	enum cli_design design;
	enum cli_order order;
	enum cli_op op;
	enum cli_source source;
	enum cli_sharing sharing;
	enum cli_page_size page_size;
	enum cli_folio folio;
	enum cli_release release;
	uint32_t nr_phases; /* of touching, 1 to CLI_MAX_PHASES */
	uint32_t nr_guests;
	uint32_t nr_threads; /* of all guests together; each guest has the same number */
	enum cli_delivery delivery;
	enum cli_advice advice;
	bool populate;
	bool lock;
	uint32_t density;
	uint32_t window_first;   /* 0: the default */
	uint32_t window_max;     /* 0: the default */
	uint32_t nr_shards;      /* 0: the default */
	uint32_t nr_workers;     /* 0: the default */
	const char *worker_cpus; /* NULL: the default */
	const char *vcpu_cpus;   /* touching threads are pinned there in turn; NULL: not pinned */
	int64_t node;            /* of memory, shards and workers; -1: any */
	uint64_t delay_ms;
	bool keep_nice;
	uint64_t spin_us; /* UINT64_MAX: the default */
	uint64_t seed;
	bool pin;
	bool prefill;
	bool user_mode_only;
	bool json;
};

/*
 * Whether the options go together is for cli_options_check().
 * Return: CLI_OK, with *done if nothing is left to do (--help); CLI_USAGE, after an
 * error message.
 */
int cli_options_parse(struct cli_options *o, int argc, char **argv, bool *done);

#endif
