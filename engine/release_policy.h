/* SPDX-License-Identifier: MIT */
/*
 * When a block whose contents are all there is released.  Pure arithmetic.
 *
 * A block of large folios is always better off released: the kernel maps it by one entry.  Of small
 * folios the kernel maps page by page, for 1.3 µs each where a window takes 0.2, so a block that is
 * touched densely is cheaper served by windows, and one that is touched sparsely released
 * (docs/TUNING.md).  How densely a guest touches is not known here so far: the embedder decides, by
 * enum fln_release.
 */
#ifndef FLN_ENGINE_RELEASE_POLICY_H
#define FLN_ENGINE_RELEASE_POLICY_H

#include <faultlane/guest.h>
#include <stdbool.h>

/* What the decision depends on. */
struct fln_release_case {
	enum fln_release option; /* of the region; not FLN_RELEASE_DEFAULT */
	bool asked;              /* by fln_guest_release() */
};

/* Are whole blocks of such a region to be released now? */
bool fln_release_wants(const struct fln_release_case *c);

/* The option that holds, of a region's and its guest's. */
enum fln_release fln_release_option(enum fln_release region, enum fln_release guest);

#endif
