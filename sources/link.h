/* SPDX-License-Identifier: MIT */
/*
 * An image that two processes use: the owner shares it (share.c), the other one
 * attaches it (link.c), over a Unix socket that keeps messages apart.
 *
 * The page cache is one; each process has page states of its own.  The owner's
 * fills write contents.  A fill of the attached image is a question (an ask): it
 * goes to the owner, and comes back as news of the whole block: what is FILLED,
 * what is ZERO, what has FAILED.  Nothing is written on this side.
 *
 *   attached                          owner
 *   hello      ───────────────────▶
 *              ◀───────────────────   hello, with the memfd
 *   ask 7      ───────────────────▶   ready already: answered at once
 *              ◀───────────────────   news of the block, 7 is done
 *   ask 8      ───────────────────▶   not ready: a fill begins
 *              ◀───────────────────   news of the block, as pages are published
 *              ◀───────────────────   news of the block, 8 is done
 *
 * Both sides check all that they receive.  A message that makes no sense ends the
 * connection with -EPROTO, and what had been asked for fails.
 */
#ifndef FLN_SOURCES_LINK_H
#define FLN_SOURCES_LINK_H

#include "sources/image.h"

#include <faultlane/image.h>
#include <sys/types.h>

int fln_link_open(struct fln_image *image, int fd, bool can_be_late);

/* End the connection; nobody asks any more.  What had been asked for is UNFILLED. */
void fln_link_close(struct fln_image *image);

/*
 * A fill of the link's own; or NULL, and @waiter is kicked when one comes free.  Half
 * of them are for faults alone, and not for what is wanted in the @background.
 */
struct fln_fill *fln_link_alloc(struct fln_link *link, uint32_t waiter, bool background);
void fln_link_free(struct fln_link *link, struct fln_fill *fill);

/* Ask for a fill that has begun.  Never blocks; the link frees it in the end. */
void fln_link_ask(struct fln_link *link, struct fln_fill *fill);

/* Pages that had failed are wanted anew: from here on the owner reads them once more. */
void fln_link_ask_anew(struct fln_link *link);

#endif
