/* SPDX-License-Identifier: MIT */
/*
 * When a block whose contents are all there is released.
 *
 * Tested by unit.release_policy.
 */
#include "engine/release_policy.h"

#include "base/error.h"

bool fln_release_wants(const struct fln_release_case *c)
{
	switch (c->option) {
	case FLN_RELEASE_AUTO:
		return true;
	case FLN_RELEASE_ON_CALL:
		return c->asked;
	default:
		return false;
	}
}

enum fln_release fln_release_option(enum fln_release region, enum fln_release guest)
{
	FLN_ASSERT(region < FLN_RELEASE_NR && guest < FLN_RELEASE_NR);
	if (region != FLN_RELEASE_DEFAULT)
		return region;
	return guest != FLN_RELEASE_DEFAULT ? guest : FLN_RELEASE_ON_CALL;
}
