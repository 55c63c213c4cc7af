/* SPDX-License-Identifier: MIT */
/* Another guest of the engine beside the judged one: an image, a guest, a region. */
#ifndef STRESS_OTHER_H
#define STRESS_OTHER_H

#include "stress/stress.h"

/* Added to page numbers, so that these images have contents of their own; none of them has holes. */
#define OTHERS (UINT64_C(1) << 48)

struct other {
	struct stress *s;
	struct fln_source *source;
	struct fln_image *image;
	struct fln_guest *guest;
	struct fln_region *region;
	_Atomic bool hangs;
	uint64_t nr_failing; /* pages from the first on that fail, also while the source hangs */
};

/* Return: 0 or a negative errno.  Call other_end() in any case.  No page fails yet. */
int other_image(struct stress *s, struct other *o, uint64_t bytes, bool hangs);
int other_guest(struct other *o, uint64_t bytes);
/* With a choice of what its discards mean. */
int other_discarding_guest(struct other *o, uint64_t bytes, enum fln_discard discard);
/* The memory belongs to another process, which has registered it at @addr. */
int other_foreign_guest(struct other *o, uint64_t bytes, int uffd, uint64_t addr,
			enum fln_discard discard);
void other_end(struct other *o);

/* The first word of a page; the others follow from it (stamp_word()). */
uint64_t other_stamp(const struct other *o, uint64_t page);

#endif
