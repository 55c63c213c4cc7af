/* SPDX-License-Identifier: MIT */
/* The memory under test: a memfd whose pages all have different contents. */
#include "bench/memory.h"

#include "measure/clock.h"
#include "measure/error.h"
#include "measure/machine.h"
#include "measure/verify.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr uint64_t page_words = page_bytes / sizeof(uint64_t);
constexpr uint64_t piece_bytes = UINT64_C(2) << 20;

struct filling {
	int fd;
	uint64_t from_bytes;
};

bool write_all(int fd, const char *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	while (len_bytes) {
		ssize_t n = pwrite(fd, buf, len_bytes, static_cast<off_t>(offset_bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		buf += n;
		offset_bytes += static_cast<uint64_t>(n);
		len_bytes -= static_cast<uint64_t>(n);
	}
	return true;
}

bool fill_piece(measure_crew *crew, uint64_t item)
{
	const filling *f = static_cast<const filling *>(crew->ctx);
	uint64_t offset_bytes = f->from_bytes + item * piece_bytes;
	std::unique_ptr<char[]> buf(new char[piece_bytes]);

	for (uint64_t at = 0; at < piece_bytes; at += page_bytes)
		memory::contents((offset_bytes + at) / page_bytes, &buf[at]);
	return write_all(f->fd, buf.get(), piece_bytes, offset_bytes) ||
	       measure_crew_fail(crew, "cannot fill memory: %s", std::strerror(errno));
}

} /* namespace */

memory &the_memory()
{
	static memory m;

	return m;
}

memory::~memory()
{
	if (fd_ >= 0)
		(void)close(fd_);
}

void memory::contents(uint64_t page, void *buf)
{
	uint64_t *words = static_cast<uint64_t *>(buf);
	uint64_t first = (page + 1) * UINT64_C(0x9e3779b97f4a7c15);

	for (uint64_t i = 0; i < page_words; i++)
		words[i] = first + i * UINT64_C(0xbf58476d1ce4e5b9);
}

bool memory::contents_at(measure_crew *, const void *, uint64_t offset_bytes, void *buf,
			 uint64_t len_bytes)
{
	for (uint64_t at = 0; at < len_bytes; at += page_bytes)
		contents((offset_bytes + at) / page_bytes, static_cast<char *>(buf) + at);
	return true;
}

bool memory::need(uint64_t len_bytes, std::string *why)
{
	uint64_t want_bytes = (len_bytes + piece_bytes - 1) / piece_bytes * piece_bytes;
	uint64_t have_bytes, start_ns;
	filling f;
	measure_crew crew;

	if (want_bytes <= filled_bytes_)
		return true;
	if (measure_memory_available(&have_bytes) &&
	    want_bytes - filled_bytes_ > have_bytes / 4 * 3) {
		*why = "left out: it takes " + std::to_string(want_bytes >> 20) +
		       " MiB of memory, but only " + std::to_string(have_bytes >> 20) +
		       " MiB more are available";
		return false;
	}
	if (fd_ < 0)
		fd_ = memfd_create("faultlane-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* Never shrink it: engines seal it against that, and it may be mapped. */
	if (fd_ < 0 ||
	    (want_bytes > size_bytes_ && ftruncate(fd_, static_cast<off_t>(want_bytes)) != 0)) {
		*why = std::string("cannot create a memfd: ") + std::strerror(errno);
		return false;
	}
	size_bytes_ = std::max(size_bytes_, want_bytes);
	f = { fd_, filled_bytes_ };
	if (filled_bytes_ == 0)
		fill_seconds_ = 0;
	start_ns = measure_now_ns();
	if (!measure_crew_run(&crew, "filling", (want_bytes - filled_bytes_) / piece_bytes,
			      fill_piece, &f)) {
		*why = measure_last_error();
		return false;
	}
	fill_seconds_ += static_cast<double>(measure_now_ns() - start_ns) / 1e9;
	filled_bytes_ = want_bytes;
	return true;
}

char *memory::map(uint64_t len_bytes, std::string *why) const
{
	return map_fd(fd_, len_bytes, MAP_SHARED, why);
}

char *memory::map_fd(int memfd, uint64_t len_bytes, int flags, std::string *why)
{
	/* Reserve 2 MiB more, to be able to align the address; unmap the rest. */
	void *reserved = mmap(nullptr, len_bytes + piece_bytes, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t start = reinterpret_cast<uintptr_t>(reserved);
	uintptr_t addr = (start + piece_bytes - 1) / piece_bytes * piece_bytes;
	void *to = reinterpret_cast<void *>(addr);

	if (reserved == MAP_FAILED || mmap(to, len_bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
					   memfd, 0) == MAP_FAILED) {
		*why = std::string("cannot map memory: ") + std::strerror(errno);
		return nullptr;
	}
	if (addr > start)
		(void)munmap(reserved, addr - start);
	if (addr - start < piece_bytes)
		(void)munmap(reinterpret_cast<void *>(addr + len_bytes),
			     piece_bytes - (addr - start));
	(void)madvise(to, len_bytes, MADV_DONTFORK);
	return static_cast<char *>(to);
}

void memory::unmap(char *addr, uint64_t len_bytes)
{
	if (addr)
		(void)munmap(addr, len_bytes);
}

bool memory::verify(char *addr, const measure_plan &plan, bool written, std::string *why)
{
	measure_verify_opts v = {};
	measure_verify_result r = {};

	v.plan = &plan;
	v.contents = contents_at;
	v.addr = addr;
	v.written = written;
	v.restore = true;
	if (!measure_verify(&v, &r)) {
		*why = measure_last_error();
	} else if (r.nr_wrong) {
		*why = std::to_string(r.nr_wrong) + " of " + std::to_string(r.nr_verified) +
		       " pages are wrong, the first is page " + std::to_string(r.first_wrong_page);
	} else if (r.nr_verified != plan.nr_pages) {
		*why = std::to_string(r.nr_verified) + " pages were verified, but " +
		       std::to_string(plan.nr_pages) + " were expected";
	} else {
		return true;
	}
	return false;
}

void memory::spoil(int memfd, uint64_t page)
{
	uint64_t word = ~UINT64_C(0);

	(void)!pwrite(memfd, &word, sizeof(word),
		      static_cast<off_t>(page * page_bytes + page_bytes / 2));
}

} /* namespace bench */
