/* SPDX-License-Identifier: MIT */
/* Probes of userfaultfd: each asks the kernel itself, none asks for its version. */
#include "baselines/probe.h"

#include "baselines/probe.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/page.h"
#include "baselines/handler.h"
#include "baselines/shmem.h"
#include "engine/uffd.h"
#include "engine/uffd_compat.h"
#include "engine/uffd_open.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

static int try_descriptor(int fd)
{
	if (fd < 0)
		return -fd;
	(void)close(fd);
	return 0;
}

void fln_probe_access(struct fln_probe_access *out)
{
	out->device = try_descriptor(fln_uffd_from_device(false));
	out->device_user_mode = try_descriptor(fln_uffd_from_device(true));
	out->syscall = try_descriptor(fln_uffd_from_syscall(false));
	out->syscall_user_mode = try_descriptor(fln_uffd_from_syscall(true));
}

struct feature {
	uint64_t bit;
	const char *name;
	const char *first_kernel;
	const char *purpose;
	bool needed;
};

static const struct feature features[] = {
	{ UFFD_FEATURE_MISSING_SHMEM, "missing_shmem", "4.11", "faults on holes of an image",
	  true },
	{ UFFD_FEATURE_EVENT_REMOVE, "event_remove", "4.11", "to notice discards", true },
	{ UFFD_FEATURE_EVENT_UNMAP, "event_unmap", "4.11", "to notice munmap()", true },
	{ UFFD_FEATURE_EVENT_REMAP, "event_remap", "4.11", "to notice mremap()", true },
	{ UFFD_FEATURE_MISSING_HUGETLBFS, "missing_hugetlbfs", "4.11", "huge pages", false },
	{ UFFD_FEATURE_SIGBUS, "sigbus", "4.14", "service in the faulting thread", false },
	{ UFFD_FEATURE_THREAD_ID, "thread_id", "4.14", "which thread faulted", false },
	{ UFFD_FEATURE_PAGEFAULT_FLAG_WP, "write_protect", "5.7", "tracking of writes", false },
	{ UFFD_FEATURE_MINOR_HUGETLBFS, "minor_hugetlbfs", "5.13", "huge pages", false },
	{ UFFD_FEATURE_MINOR_SHMEM, "minor_shmem", "5.14", "faults on pages in the cache", true },
	{ UFFD_FEATURE_EXACT_ADDRESS, "exact_address", "5.18", "addresses below a page", false },
	{ UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "write_protect_shmem", "5.19", "tracking of writes",
	  false },
	{ UFFD_FEATURE_WP_UNPOPULATED, "write_protect_unpopulated", "6.4", "tracking of writes",
	  false },
	{ UFFD_FEATURE_POISON, "poison", "6.6", "failing one page; without it a whole range fails",
	  false },
	{ UFFD_FEATURE_WP_ASYNC, "write_protect_async", "6.7", "tracking of writes", false },
	{ UFFD_FEATURE_MOVE, "move", "6.8", "moving pages instead of copying", false },
};

#define NR_FEATURES (sizeof(features) / sizeof(features[0]))

/* An ioctl has no feature bit: registering a range tells. */
static bool has_continue(bool user_mode_only)
{
	struct fln_shmem shmem;
	struct fln_uffd u = { .fd = -1 };
	bool has = false;

	if (fln_shmem_init(&shmem, FLN_PAGE_BYTES))
		return false;
	if (fln_shmem_map(&shmem) == 0 &&
	    fln_uffd_open(&u, user_mode_only, UFFD_FEATURE_MINOR_SHMEM) == 0) {
		has = fln_uffd_register(&u, (uint64_t)(uintptr_t)shmem.addr, FLN_PAGE_BYTES,
					UFFDIO_REGISTER_MODE_MISSING |
						UFFDIO_REGISTER_MODE_MINOR) == 0 &&
		      (u.range_ioctls & (UINT64_C(1) << _UFFDIO_CONTINUE));
		fln_uffd_close(&u);
	}
	fln_shmem_deinit(&shmem);
	return has;
}

int fln_probe_features(bool user_mode_only, struct fln_probe_feature *out, uint32_t *nr)
{
	uint64_t known = 0;
	int rc = fln_uffd_probe(user_mode_only, &known);

	_Static_assert(NR_FEATURES + 1 <= FLN_PROBE_MAX_FEATURES, "room for all");
	for (uint32_t i = 0; i < NR_FEATURES; i++)
		out[i] = (struct fln_probe_feature){
			.name = features[i].name,
			.first_kernel = features[i].first_kernel,
			.purpose = features[i].purpose,
			.needed = features[i].needed,
			.present = rc == 0 && (known & features[i].bit),
		};
	out[NR_FEATURES] = (struct fln_probe_feature){
		.name = "continue_shmem",
		.first_kernel = "5.14",
		.purpose = "mapping pages that are in the cache",
		.needed = true,
		.present = rc == 0 && has_continue(user_mode_only),
	};
	*nr = (uint32_t)NR_FEATURES + 1;
	return rc;
}

static int touch_once(const struct fln_shmem *shmem, bool user_mode_only, uint64_t *touch_ns)
{
	struct fln_handler_opts opts = {
		.addr = shmem->addr,
		.len_bytes = shmem->len_bytes,
		.design = FLN_HANDLER_SINGLE,
		.user_mode_only = user_mode_only,
	};
	struct fln_handler *handler;
	uint64_t start_ns;
	char got;
	int rc = fln_handler_start(&opts, &handler);

	if (rc)
		return rc;
	start_ns = fln_now_ns();
	got = *(volatile char *)shmem->addr;
	*touch_ns = fln_now_ns() - start_ns;
	fln_handler_stop(handler);
	if (got != 'f')
		return fln_fail(EIO, "a page that faulted read %d where %d was filled", got, 'f');
	return 0;
}

int fln_probe_fault(bool user_mode_only, uint64_t *touch_ns)
{
	static const char page[FLN_PAGE_BYTES] = "f";
	struct fln_shmem shmem;
	int rc = fln_shmem_init(&shmem, FLN_PAGE_BYTES);

	if (rc)
		return rc;
	rc = fln_shmem_put(&shmem, 0, page, sizeof(page));
	if (!rc)
		rc = fln_shmem_map(&shmem);
	if (!rc)
		rc = touch_once(&shmem, user_mode_only, touch_ns);
	fln_shmem_deinit(&shmem);
	return rc;
}
