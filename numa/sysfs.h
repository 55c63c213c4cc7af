/* SPDX-License-Identifier: MIT */
/*
 * What hwloc takes for granted of /sys.
 *
 * Where it finds no processors there it writes to standard error, which is the embedder's;
 * where the folder of nodes is empty an assertion of its own ends the process (2.9).  Jails
 * and sandboxes have such trees.
 */
#ifndef FLN_NUMA_SYSFS_H
#define FLN_NUMA_SYSFS_H

#include <stdbool.h>

/*
 * Has the tree under @root ("" for this machine) processors, and nodes where it has a place
 * for them?  Two processes that change it meanwhile are not looked for.
 */
bool fln_sysfs_has_topology(const char *root);

#endif
