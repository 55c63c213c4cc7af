/* SPDX-License-Identifier: MIT */
/*
 * Hostile processes beside the judged guest: this program again, with an argument that
 * selects what the process does.
 */
#ifndef STRESS_NEIGHBOUR_H
#define STRESS_NEIGHBOUR_H

#include <stdint.h>

#define NEIGHBOUR_ARG "--neighbour"

enum neighbour_kind {
	NEIGHBOUR_FILLS,    /* attaches an image, and requests all of it at once */
	NEIGHBOUR_SEALS,    /* attaches an image, and seals its memfd against its owner */
	NEIGHBOUR_BLOCKS,   /* makes its userfaultfd blocking, and reads it itself, too */
	NEIGHBOUR_PROTECTS, /* faults that no copy resolves: write protection */
	NEIGHBOUR_GIVES_UP, /* discards and touches pages at the same time; checks all at the end */
	NEIGHBOUR_NR
};

/* What a foreign process sends together with its userfaultfd. */
struct neighbour_hello {
	uint64_t addr, len_bytes;
};

/* Memory of a foreign process, and of an image that a process attaches. */
#define NEIGHBOUR_BYTES (UINT64_C(4) << 20)
#define NEIGHBOUR_IMAGE_BYTES (UINT64_C(512) << 20)
/* The process's ends of two socket pairs. */
#define NEIGHBOUR_TALK_FD 3
#define NEIGHBOUR_IMAGE_FD 4

int neighbour_main(int argc, char **argv);

#endif
