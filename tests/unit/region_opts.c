/* SPDX-License-Identifier: MIT */
/* What a region may be: each option that is refused has its code, and is named. */
#include "engine/life/region_opts.h"

#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"
#include "engine/uffd.h"
#include "sources/image.h"

#include "tests/support/cm.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/guest.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define IMAGE_BYTES (8 * FLN_BLOCK_BYTES)
#define ADDR UINT64_C(0x700000000000)

struct fixture {
	struct fln_engine engine, other_engine;
	struct fln_guest guest;
	struct fln_image image;
	struct fln_region_opts opts;
};

static struct fixture f;

/* Zeroed but for what makes a region that is good. */
static void begin(void)
{
	struct fln_region_opts opts = FLN_REGION_OPTS_INIT;

	memset(&f, 0, sizeof(f));
	atomic_store(&f.engine.features, UINT64_MAX);
	f.guest.engine = &f.engine;
	f.image.engine = &f.engine;
	f.image.len_bytes = IMAGE_BYTES;
	f.image.page_bytes = FLN_PAGE_BYTES;
	(void)snprintf(f.image.name, sizeof(f.image.name), "picture");
	f.opts = opts;
	f.opts.image = &f.image;
	f.opts.addr = ADDR;
	f.opts.len_bytes = FLN_BLOCK_BYTES;
}

static void begin_huge(void)
{
	begin();
	f.image.page_bytes = FLN_BLOCK_BYTES;
}

static void good(void)
{
	assert_int_equal(fln_region_check_opts(&f.guest, &f.opts), 0);
}

static void refused(int want, const char *what)
{
	assert_int_equal(fln_region_check_opts(&f.guest, &f.opts), want);
	if (!strstr(fln_last_error(), what))
		fail_msg("'%s' does not name %s", fln_last_error(), what);
}

static void images(void **state)
{
	(void)state;
	begin();
	good();
	f.opts.image = NULL;
	refused(-EINVAL, "image");
	begin();
	f.image.engine = &f.other_engine;
	refused(-EINVAL, "picture");
	begin();
	f.opts.page_bytes = FLN_PAGE_BYTES;
	good();
	f.opts.page_bytes = FLN_BLOCK_BYTES;
	refused(-EINVAL, "page_bytes");
}

/* By pages of the image, and within it; what adds up beyond 2^64 is no way round that. */
static void ranges(void **state)
{
	(void)state;
	begin();
	f.opts.len_bytes = 0;
	refused(-EINVAL, "len_bytes");
	f.opts.len_bytes = FLN_PAGE_BYTES + 1;
	refused(-EINVAL, "4097");
	begin();
	f.opts.addr = ADDR + 8;
	refused(-EINVAL, "0x700000000008");
	begin();
	f.opts.image_offset_bytes = 100;
	refused(-EINVAL, "image_offset_bytes");
	f.opts.image_offset_bytes = IMAGE_BYTES - FLN_BLOCK_BYTES;
	good();
	f.opts.image_offset_bytes += FLN_PAGE_BYTES;
	refused(-EINVAL, "picture");
	f.opts.image_offset_bytes = UINT64_MAX - FLN_PAGE_BYTES + 1;
	refused(-EINVAL, "picture");
	begin();
	f.opts.addr = UINT64_MAX - FLN_PAGE_BYTES + 1;
	refused(-EINVAL, "0xfffffffffffff000");
	begin();
	f.image.len_bytes = UINT64_C(1) << 45;
	f.opts.len_bytes = UINT64_C(1) << 44;
	good();
	f.opts.len_bytes += FLN_PAGE_BYTES;
	refused(-EINVAL, "len_bytes");
}

static void values_that_do_not_exist(void **state)
{
	(void)state;
	begin();
	f.opts.sharing = FLN_SHARING_NR;
	refused(-EINVAL, "sharing");
	begin();
	f.opts.delivery = FLN_DELIVERY_NR;
	refused(-EINVAL, "delivery");
	begin();
	f.opts.discard = FLN_DISCARD_NR;
	refused(-EINVAL, "discard");
}

static void private_regions(void **state)
{
	(void)state;
	begin();
	f.opts.sharing = FLN_SHARING_PRIVATE;
	good();
	f.opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	refused(-EOPNOTSUPP, "FLN_DISCARD_IMAGE");
	f.opts.discard = FLN_DISCARD_IMAGE;
	good();
	f.opts.delivery = FLN_DELIVERY_QUEUED;
	f.guest.foreign = true;
	refused(-EINVAL, "sharing");
}

static void foreign_guests(void **state)
{
	(void)state;
	begin();
	f.guest.foreign = true;
	good();
	f.opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	refused(-EINVAL, "FLN_DELIVERY_IN_CONTEXT");
	begin();
	f.guest.foreign = true;
	f.opts.addr = 0;
	refused(-EINVAL, "addr");
	f.guest.foreign = false; /* a mapping is made */
	good();
}

static void huge_pages(void **state)
{
	(void)state;
	begin_huge();
	good();
	f.opts.len_bytes = FLN_BLOCK_BYTES + FLN_PAGE_BYTES;
	refused(-EINVAL, "len_bytes");
	begin_huge();
	f.opts.addr += FLN_PAGE_BYTES;
	refused(-EINVAL, "addr");
	begin_huge();
	f.opts.image_offset_bytes = FLN_PAGE_BYTES;
	refused(-EINVAL, "image_offset_bytes");
	begin_huge();
	f.opts.sharing = FLN_SHARING_PRIVATE;
	refused(-EOPNOTSUPP, "page_bytes");
	begin_huge();
	f.guest.foreign = true;
	refused(-EOPNOTSUPP, "page_bytes");
	begin_huge();
	atomic_store(&f.engine.features, ~(uint64_t)UFFD_FEATURE_MINOR_HUGETLBFS);
	refused(-EOPNOTSUPP, "userfaultfd");
}

/* What was never filled of an image that another process owns is that one's to give up. */
static void discards_of_attached_images(void **state)
{
	int link;

	(void)state;
	begin();
	assert_int_equal(fln_region_discard(&f.guest, &f.opts), FLN_DISCARD_DEFAULT);
	f.opts.discard = FLN_DISCARD_ZERO;
	good();
	assert_int_equal(fln_region_discard(&f.guest, &f.opts), FLN_DISCARD_ZERO);
	f.image.link = (struct fln_link *)&link;
	refused(-EOPNOTSUPP, "FLN_DISCARD_IMAGE");
	f.opts.sharing = FLN_SHARING_PRIVATE; /* its own, by its map */
	good();
	assert_int_equal(fln_region_discard(&f.guest, &f.opts), FLN_DISCARD_ZERO);
	f.opts.sharing = FLN_SHARING_SHARED;
	f.opts.discard = FLN_DISCARD_IMAGE;
	good();
	f.opts.discard = FLN_DISCARD_DEFAULT;
	good();
	assert_int_equal(fln_region_discard(&f.guest, &f.opts), FLN_DISCARD_IMAGE);
	f.guest.foreign = true;
	assert_int_equal(fln_region_discard(&f.guest, &f.opts), FLN_DISCARD_DEFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images),
		cmocka_unit_test(ranges),
		cmocka_unit_test(values_that_do_not_exist),
		cmocka_unit_test(private_regions),
		cmocka_unit_test(foreign_guests),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(discards_of_attached_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
