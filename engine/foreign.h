/* SPDX-License-Identifier: MIT */
/*
 * Foreign guests: what differs for memory that another process registered and handed over.
 *
 * Runs on the shard's worker unless stated otherwise.  Nothing here blocks.
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
 * Serve a write-protect fault, or a minor fault of a foreign region: installing the image's page
 * resolves neither.  True: the fault has ended or is held.  False: it must be served as a missing
 * fault after all.  @region: of minor faults only.  RCU read lock held.
 */
bool fln_foreign_flagged(struct fln_worker *w, struct fln_shard *shard, struct fln_region *region,
			 struct fln_fault *fault);

/*
 * A fault in no region, which may be about to be added.  True: the fault is held until then.
 * False: it has waited long enough, or no region is to come.
 */
bool fln_foreign_await_region(struct fln_worker *w, struct fln_shard *shard,
			      struct fln_fault *fault);

/*
 * Can the memory of a region that is being added be served?  Memory that is not registered yet
 * passes.  On the thread that adds it.  Return: 0; -EOPNOTSUPP: huge pages; -ESRCH: the process
 * has ended.
 */
int fln_foreign_check_region(const struct fln_region *region);

#endif
