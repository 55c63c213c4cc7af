/* SPDX-License-Identifier: MIT */
/* An engine with one image and its guests. */
#include "bench/host.h"

#include "bench/c.h"
#include "bench/options.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

bool library_failed(const char *what, int rc, std::string *why)
{
	const char *message = fln_last_error();

	*why = std::string(what) + ": " + (message[0] ? message : std::strerror(-rc));
	return false;
}

host::~host()
{
	for (fln_guest *guest : guests_)
		(void)fln_guest_destroy(guest);
	(void)fln_image_destroy(image_);
	source_.reset();
	(void)fln_engine_destroy(engine_);
}

bool host::start(std::string *why)
{
	fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	int rc;

	o.nr_workers = opts.nr_workers;
	if (user_mode_only())
		o.flags |= FLN_ENGINE_F_USER_MODE_ONLY;
	rc = fln_engine_create(&o, &engine_);
	if (rc == 0)
		rc = fln_engine_start(engine_);
	return rc == 0 || library_failed("cannot start the engine", rc, why);
}

bool host::adopt(int memfd, uint64_t len_bytes, std::string *why)
{
	fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int rc;

	o.len_bytes = len_bytes_ = len_bytes;
	o.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	o.memfd = memfd;
	rc = fln_image_create(engine_, &o, &image_);
	return rc == 0 || library_failed("cannot create the image", rc, why);
}

bool host::make_image(source_ptr source, uint64_t len_bytes, std::string *why)
{
	fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int rc;

	source_ = std::move(source);
	o.len_bytes = len_bytes_ = len_bytes;
	o.source = source_.get();
	rc = fln_image_create(engine_, &o, &image_);
	return rc == 0 || library_failed("cannot create the image", rc, why);
}

bool host::add_guest(fln_sharing sharing, uint32_t nr_threads, char **addr, std::string *why)
{
	fln_guest_opts g = FLN_GUEST_OPTS_INIT;
	fln_region_opts r = FLN_REGION_OPTS_INIT;
	fln_guest *guest;
	fln_region *region;
	int rc;

	g.nr_vcpus = nr_threads;
	g.nr_shards = opts.nr_shards;
	rc = fln_guest_create(engine_, &g, &guest);
	if (rc)
		return library_failed("cannot create the guest", rc, why);
	guests_.push_back(guest);
	r.image = image_;
	r.len_bytes = len_bytes_;
	r.sharing = static_cast<uint32_t>(sharing);
	rc = fln_region_add(guest, &r, &region);
	if (rc == 0)
		rc = fln_guest_start(guest);
	if (rc)
		return library_failed("cannot start the guest", rc, why);
	*addr = static_cast<char *>(fln_region_addr(region));
	return true;
}

bool host::stats(fln_stats *out, std::string *why) const
{
	*out = FLN_STATS_INIT;
	for (fln_guest *guest : guests_) {
		fln_stats s = FLN_STATS_INIT;
		int rc = fln_guest_stats(guest, &s);

		if (rc)
			return library_failed("cannot read the statistics", rc, why);
		out->faults += s.faults;
		out->major += s.major;
		fln_histogram_merge(&out->service, &s.service);
	}
	return true;
}

uint64_t memory_in_use(const std::vector<char *> &addrs, uint64_t len_bytes)
{
	std::unique_ptr<FILE, int (*)(FILE *)> smaps(std::fopen("/proc/self/smaps", "re"),
						     std::fclose);
	std::vector<uint64_t> begins;
	uint64_t sum_kib = 0, kib;
	bool counts = false;
	char line[512], *end;

	for (const char *addr : addrs)
		begins.push_back(reinterpret_cast<uintptr_t>(addr));
	std::sort(begins.begin(), begins.end());
	while (smaps && std::fgets(line, sizeof(line), smaps.get())) {
		uint64_t at = std::strtoull(line, &end, 16);

		if (end > line && *end == '-') {
			auto after = std::upper_bound(begins.begin(), begins.end(), at);

			counts = after != begins.begin() && at - *(after - 1) < len_bytes;
		} else if (counts && std::sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
			sum_kib += kib;
		}
	}
	return sum_kib << 10;
}

bool user_mode_only()
{
	static const bool only = [] {
		struct fln_probe_access access;

		fln_probe_access(&access);
		return access.device && access.syscall && !access.syscall_user_mode;
	}();

	return only;
}

} /* namespace bench */
