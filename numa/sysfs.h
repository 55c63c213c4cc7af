/* SPDX-License-Identifier: MIT */
/*
 * Validate /sys before hwloc parses it.
 *
 * Without processor entries hwloc prints to standard error, which is the embedder's; with an
 * empty node directory hwloc 2.9 aborts on an assertion.  Chroots and sandboxes expose such
 * trees.
 */
#ifndef FLN_NUMA_SYSFS_H
#define FLN_NUMA_SYSFS_H

#include <stdbool.h>

/*
 * True if under @root ("" for this machine) cpu0 has topology files and every node directory
 * that exists has a node.  Not atomic against concurrent changes to the tree.
 */
bool fln_sysfs_has_topology(const char *root);

#endif
