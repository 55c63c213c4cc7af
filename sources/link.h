/* SPDX-License-Identifier: MIT */
/*
 * An image used by two processes: the owner shares it (share.c), the other process
 * attaches it (link.c), over a Unix socket of type SOCK_SEQPACKET.
 *
 * Both use the same page cache, but each has page states of its own.  Only the owner's
 * fills write contents.  A fill of the attached image is a request (an ask): it
 * is sent to the owner, who answers with news of the whole block: which pages are FILLED,
 * ZERO or FAILED.  The attached side writes nothing.
 *
 *   attached                          owner
 *   hello      ───────────────────▶
 *              ◀───────────────────   hello, with the memfd
 *   ask 7      ───────────────────▶   already ready: answered at once
 *              ◀───────────────────   news of the block, 7 is done
 *   ask 8      ───────────────────▶   not ready: a fill begins
 *              ◀───────────────────   news of the block, as pages are published
 *              ◀───────────────────   news of the block, 8 is done
 *
 * Both sides validate all that they receive.  An invalid message ends the
 * connection with -EPROTO, and pages asked for fail.
 */
#ifndef FLN_SOURCES_LINK_H
#define FLN_SOURCES_LINK_H

#include "sources/image.h"

#include <faultlane/image.h>
#include <sys/types.h>

/*
 * Attach @image over a duplicate of @fd and start the link's thread.  Return: 0; -ENOMEM; or as
 * fln_thread_create().
 */
int fln_link_open(struct fln_image *image, int fd, bool can_be_late);

/* Close the link, when no thread sends asks any more.  Pages asked for become UNFILLED. */
void fln_link_close(struct fln_image *image);

/*
 * Allocate a fill from the link's pool; or return NULL, and @waiter is kicked when one becomes
 * free.  Half of the pool is for faults only, not for @background requests.
 */
struct fln_fill *fln_link_alloc(struct fln_link *link, uint32_t waiter, bool background);
void fln_link_free(struct fln_link *link, struct fln_fill *fill);

/* Send the ask for a fill that has claimed its pages.  Never blocks; the link frees the fill. */
void fln_link_ask(struct fln_link *link, struct fln_fill *fill);

/* From now on, have the owner read FAILED pages once more when they are asked for. */
void fln_link_ask_anew(struct fln_link *link);

#endif
