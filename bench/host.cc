/* SPDX-License-Identifier: MIT */
/* An engine with one image and its guests. */
#include "bench/host.h"

#include "bench/c.h"
#include "bench/memory.h"
#include "bench/options.h"
#include "bench/use.h"
#include "measure/clock.h"
#include "measure/crew.h"
#include "measure/error.h"
#include "measure/machine.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

namespace bench {

namespace {

constexpr timespec poll_time = { 0, 5000000 };
constexpr unsigned max_polls = 200;     /* a second */
constexpr unsigned settle_polls = 2000; /* 10 seconds: that it takes so long is a figure, too */

bool put_block(measure_crew *crew, uint64_t item)
{
	fln_image *image = static_cast<fln_image *>(crew->ctx);
	std::vector<char> buf(block_bytes);
	int rc;

	(void)memory::contents_at(crew, nullptr, item * block_bytes, buf.data(), block_bytes);
	rc = fln_image_put(image, item * block_bytes, buf.data(), block_bytes);
	return rc == 0 || measure_crew_fail(crew, "fln_image_put() failed: %s", fln_last_error());
}

} /* namespace */

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

bool host::start(const char *cpus, std::string *why)
{
	fln_engine_opts o = FLN_ENGINE_OPTS_INIT;
	int rc;

	o.nr_workers = opts.nr_workers;
	o.vcpu_cpus = cpus;
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

bool host::make_image(source_ptr source, uint64_t len_bytes, fln_folio folio, std::string *why)
{
	fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int rc;

	source_ = std::move(source);
	o.len_bytes = len_bytes_ = len_bytes;
	o.source = source_.get();
	o.folio = static_cast<uint32_t>(folio);
	rc = fln_image_create(engine_, &o, &image_);
	return rc == 0 || library_failed("cannot create the image", rc, why);
}

bool host::make_filled(uint64_t len_bytes, fln_folio folio, std::string *why)
{
	uint64_t start_ns, have;
	measure_crew crew;

	if (measure_memory_available(&have) && len_bytes > have / 4 * 3) {
		*why = "left out: its image takes " + std::to_string(len_bytes >> 20) +
		       " MiB of memory, but only " + std::to_string(have >> 20) +
		       " MiB are available";
		return false;
	}
	if (!make_image(nullptr, len_bytes, folio, why))
		return false;
	(void)warm_memory(len_bytes);
	start_ns = measure_now_ns();
	if (!measure_crew_run(&crew, nullptr, len_bytes / block_bytes, put_block, image_)) {
		*why = measure_last_error();
		return false;
	}
	fill_seconds_ = static_cast<double>(measure_now_ns() - start_ns) / 1e9;
	return true;
}

bool host::add_guest(const guest_setup &from, char **addr, std::string *why)
{
	fln_guest_opts g = FLN_GUEST_OPTS_INIT;
	fln_region_opts r = FLN_REGION_OPTS_INIT;
	fln_guest *guest;
	fln_region *region;
	int rc;

	g.nr_vcpus = from.nr_threads;
	g.nr_shards = opts.nr_shards;
	g.flags = from.kvm ? FLN_GUEST_F_KVM : 0;
	g.window_first = from.window;
	g.window_max = from.window;
	g.release = static_cast<uint32_t>(from.release);
	rc = fln_guest_create(engine_, &g, &guest);
	if (rc)
		return library_failed("cannot create the guest", rc, why);
	guests_.push_back(guest);
	releases_ = from.release == FLN_RELEASE_AUTO;
	r.image = image_;
	r.len_bytes = len_bytes_;
	r.sharing = static_cast<uint32_t>(from.sharing);
	r.delivery = static_cast<uint32_t>(from.delivery);
	r.discard = static_cast<uint32_t>(from.discard);
	rc = fln_region_add(guest, &r, &region);
	if (rc == 0 && from.delivery == FLN_DELIVERY_IN_CONTEXT)
		rc = fln_sigbus_install();
	if (rc == 0)
		rc = fln_guest_start(guest);
	if (rc)
		return library_failed("cannot start the guest", rc, why);
	*addr = static_cast<char *>(fln_region_addr(region));
	return true;
}

bool host::release(std::string *why) const
{
	for (fln_guest *guest : guests_) {
		fln_release_report left = FLN_RELEASE_REPORT_INIT;

		for (unsigned tries = 0; left.released_bytes < len_bytes_; tries++) {
			int rc = fln_guest_release(guest, &left);

			if (rc)
				return library_failed("cannot release the guest", rc, why);
			if (left.released_bytes >= len_bytes_)
				break;
			if (!left.busy_bytes || tries == max_polls) {
				*why = "only " + std::to_string(left.released_bytes) + " of " +
				       std::to_string(len_bytes_) +
				       " bytes were released: " + std::to_string(left.busy_bytes) +
				       " are busy, for " + std::to_string(left.limited_bytes) +
				       " no mapping was left, " + std::to_string(left.kept_bytes) +
				       " are kept registered";
				return false;
			}
			(void)nanosleep(&poll_time, nullptr);
		}
	}
	return true;
}

void host::settle() const
{
	if (!releases_ || fln_image_filled_bytes(image_) < len_bytes_)
		return;
	for (unsigned polls = 0; polls < settle_polls; polls++) {
		fln_stats s = FLN_STATS_INIT;
		std::string why;

		if (!stats(&s, &why) || s.userfaultfds == 0)
			return;
		(void)nanosleep(&poll_time, nullptr);
	}
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
		out->map_bytes += s.map_bytes;
		out->released_bytes += s.released_bytes;
		out->userfaultfds += s.userfaultfds;
		fln_histogram_merge(&out->service, &s.service);
	}
	return true;
}

uint64_t host::large_bytes() const
{
	fln_memory_stats s = FLN_MEMORY_STATS_INIT;

	return fln_image_memory_stats(image_, &s) == 0 ? s.large_blocks * block_bytes : 0;
}

large_memfd::~large_memfd()
{
	if (fd_ >= 0)
		(void)close(fd_);
}

bool large_memfd::fill(uint64_t len_bytes, std::string *why)
{
	host h;

	if (!large_folios_permitted()) {
		*why = "left out: shmem_enabled is '" + shmem_enabled() +
		       "', which permits no folios of 2 MiB; 'faultlane doctor' names the remedy";
		return false;
	}
	if (!h.start(nullptr, why) || !h.make_filled(len_bytes, FLN_FOLIO_LARGE, why))
		return false;
	if (h.large_bytes() != len_bytes) {
		*why = "left out: the kernel gave folios of 2 MiB for " +
		       std::to_string(h.large_bytes() >> 20) + " of " +
		       std::to_string(len_bytes >> 20) +
		       " MiB; its memory is fragmented, or a cgroup's limit is near";
		return false;
	}
	fill_seconds_ = h.fill_seconds();
	fd_ = fcntl(fln_image_memfd(h.image()), F_DUPFD_CLOEXEC, 0);
	if (fd_ >= 0)
		return true;
	*why = std::string("cannot duplicate a descriptor: ") + std::strerror(errno);
	return false;
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
