/* SPDX-License-Identifier: MIT */
/* Memory that is handed over, with the events that its server needs. */
#include "baselines/handover.h"

#include "base/error.h"
#include "engine/uffd.h"
#include "engine/uffd_open.h"

#include <string.h>

int fln_handover_register(void *addr, uint64_t len_bytes, bool user_mode_only)
{
	struct fln_uffd u = { .fd = -1 };
	int rc = fln_uffd_open(&u, user_mode_only, UFFD_FEATURE_EVENT_REMOVE);

	if (rc)
		return rc;
	rc = fln_uffd_register(&u, (uint64_t)(uintptr_t)addr, len_bytes,
			       UFFDIO_REGISTER_MODE_MISSING);
	if (rc == 0)
		return u.fd;
	fln_uffd_close(&u);
	return fln_fail(-rc, "cannot register %llu bytes: %s", (unsigned long long)len_bytes,
			strerror(-rc));
}
