/* SPDX-License-Identifier: MIT */
/*
 * What is particular to memory that another process registered and handed over.
 */
#ifndef FLN_ENGINE_FOREIGN_H
#define FLN_ENGINE_FOREIGN_H

#include <stdbool.h>
#include <stdint.h>

struct fln_fault;
struct fln_region;
struct fln_shard;
struct fln_worker;

/*
 * A write-protect fault, or a minor one of a foreign region: neither is resolved by
 * installing the image's page.  True when the fault has been dealt with; false when it
 * is to be served as a missing one after all.  @region of minor faults
 * only.  The worker's thread, RCU read lock held.
 */
bool fln_foreign_flagged(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
			 struct fln_fault *fault);

/*
 * A fault where no region is: perhaps it is about to be added.  True when the fault is
 * held until then; false when it has waited for as long as that may take, or is not to.
 */
bool fln_foreign_await_region(struct fln_worker *w, struct fln_shard *shard,
			      struct fln_fault *fault);

/*
 * Can the memory of a region that is about to be added be served?  Not looked up when it
 * is not registered yet.  Return: 0; -EOPNOTSUPP for huge pages; -ESRCH.
 */
int fln_foreign_check_region(const struct fln_region *region);

#endif
