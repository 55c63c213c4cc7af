/* SPDX-License-Identifier: MIT */
/* Memory that leaves the place where it is served: it is made unreadable (strays.c). */
#ifndef FLN_ENGINE_STRAYS_H
#define FLN_ENGINE_STRAYS_H

#include "engine/shard.h"

/*
 * A foreign guest's process has forked, and @fd is the userfaultfd of its child.  By who
 * reads the shard's events: its worker, or in the guest's turn when it has none.
 */
void fln_child_forked(struct fln_guest *guest, int fd);

/*
 * Make what is missing in such children unreadable, and close their userfaultfds.  Those
 * for which that cannot be done stay open until a later call finds that the child has ended.
 * In the guest's turn.
 */
void fln_children_close(struct fln_guest *guest);

#endif
