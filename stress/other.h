/* SPDX-License-Identifier: MIT */
/* A guest of the same engine beside the one that is judged: an image, a guest, a region. */
#ifndef STRESS_OTHER_H
#define STRESS_OTHER_H

#include "stress/stress.h"

/* Pages of such images have other contents than all others, and none is a hole. */
#define OTHERS (UINT64_C(1) << 48)

struct other {
	struct stress *s;
	struct fln_source *source;
	struct fln_image *image;
	struct fln_guest *guest;
	struct fln_region *region;
	_Atomic bool hangs;
	uint64_t nr_failing; /* pages that fail, from the first on, whether it hangs or not */
};

/* 0 or a negative errno; whatever has been made is other_end()'s.  No page fails yet. */
int other_image(struct stress *s, struct other *o, uint64_t bytes, bool hangs);
int other_guest(struct other *o, uint64_t bytes);
/* What its discards mean is said. */
int other_discarding_guest(struct other *o, uint64_t bytes, enum fln_discard discard);
/* The memory is another process's, which has registered it at @addr. */
int other_foreign_guest(struct other *o, uint64_t bytes, int uffd, uint64_t addr,
			enum fln_discard discard);
void other_end(struct other *o);

/* What all words of a page begin with. */
uint64_t other_stamp(const struct other *o, uint64_t page);

#endif
