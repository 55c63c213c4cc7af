/* SPDX-License-Identifier: MIT */
/*
 * Processes that share an engine's work with the judged guest, and mean it ill: this
 * program again, with an argument that says what it does.
 */
#ifndef STRESS_NEIGHBOUR_H
#define STRESS_NEIGHBOUR_H

#include <stdint.h>

#define NEIGHBOUR_ARG "--neighbour"

enum neighbour_kind {
	NEIGHBOUR_FILLS,    /* attaches an image, and wants all of it filled at once */
	NEIGHBOUR_SEALS,    /* attaches an image, and seals its memfd against its owner */
	NEIGHBOUR_BLOCKS,   /* its userfaultfd blocks its reader, and is read by itself, too */
	NEIGHBOUR_PROTECTS, /* faults that no copy resolves: write protection */
	NEIGHBOUR_GIVES_UP, /* gives pages up and touches them again, at once; then looks at all */
	NEIGHBOUR_NR
};

/* What a foreign process says of itself, with its userfaultfd. */
struct neighbour_hello {
	uint64_t addr, len_bytes;
};

/* How much memory a foreign process has, and how much an image that others attach. */
#define NEIGHBOUR_BYTES (UINT64_C(4) << 20)
#define NEIGHBOUR_IMAGE_BYTES (UINT64_C(512) << 20)
/* Where its ends of two socket pairs are. */
#define NEIGHBOUR_TALK_FD 3
#define NEIGHBOUR_IMAGE_FD 4

int neighbour_main(int argc, char **argv);

#endif
