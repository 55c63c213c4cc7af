/* SPDX-License-Identifier: MIT */
/* The file that the family restore/ reads. */
#include "bench/file.h"

#include "bench/memory.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/magic.h>
#include <memory>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vector>

namespace bench {

namespace {

constexpr uint64_t piece_bytes = UINT64_C(2) << 20;
/* The tolerated share of pages that are cached, or not cached, contrary to the request. */
constexpr double tolerance = 0.01;

bool fail_errno(std::string *why, const std::string &what)
{
	*why = what + ": " + std::strerror(errno);
	return false;
}

const char *directory()
{
	const char *dir = std::getenv("TMPDIR");

	return dir && *dir ? dir : "/var/tmp";
}

bool has_room(uint64_t len_bytes, std::string *why)
{
	struct statvfs s;

	if (statvfs(directory(), &s) != 0)
		return fail_errno(why, std::string(directory()) + " (TMPDIR)");
	if (s.f_bavail * s.f_frsize / 10 * 9 > len_bytes)
		return true;
	*why = std::string("left out: ") + directory() + " has no space for a file of " +
	       std::to_string(len_bytes >> 20) + " MiB; set TMPDIR to a directory that has";
	return false;
}

/* Create an unnamed file. */
int create_unnamed(const char *dir)
{
	std::string name = std::string(dir) + "/faultlane-bench-XXXXXX";
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	fd = mkostemp(&name[0], O_CLOEXEC);
	if (fd >= 0)
		(void)unlink(name.c_str());
	return fd;
}

bool write_piece(int fd, uint64_t offset_bytes, std::vector<char> *buf, std::string *why)
{
	uint64_t done = 0;

	for (uint64_t at = 0; at < piece_bytes; at += page_bytes)
		memory::contents((offset_bytes + at) / page_bytes, buf->data() + at);
	while (done < piece_bytes) {
		ssize_t n = pwrite(fd, buf->data() + done, piece_bytes - done,
				   static_cast<off_t>(offset_bytes + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_errno(why, "cannot write the file");
		done += static_cast<uint64_t>(n);
	}
	return true;
}

} /* namespace */

file &the_file()
{
	static file f;

	return f;
}

file::~file()
{
	if (fd_ >= 0)
		(void)close(fd_);
}

std::string file::path() const
{
	return "/proc/self/fd/" + std::to_string(fd_);
}

bool file::need(uint64_t len_bytes, std::string *why)
{
	std::vector<char> buf(piece_bytes);

	if (len_bytes <= len_bytes_)
		return true;
	if (!has_room(len_bytes - len_bytes_, why))
		return false;
	if (fd_ < 0)
		fd_ = create_unnamed(directory());
	if (fd_ < 0)
		return fail_errno(why, std::string("cannot create a file in ") + directory() +
					       " (TMPDIR)");
	for (; len_bytes_ < len_bytes; len_bytes_ += piece_bytes) {
		if (!write_piece(fd_, len_bytes_, &buf, why))
			return false;
	}
	/* Dirty pages cannot be dropped from the page cache. */
	return fsync(fd_) == 0 || fail_errno(why, "cannot write the file");
}

void file::spoil(uint64_t page)
{
	uint64_t word = ~UINT64_C(0);

	(void)!pwrite(fd_, &word, sizeof(word),
		      static_cast<off_t>(page * page_bytes + page_bytes / 2));
}

double file::cached_share(std::string *why) const
{
	std::vector<unsigned char> there(len_bytes_ / page_bytes);
	void *at = mmap(nullptr, len_bytes_, PROT_READ, MAP_SHARED, fd_, 0);
	uint64_t nr = 0;

	if (at == MAP_FAILED || mincore(at, len_bytes_, there.data()) != 0) {
		(void)fail_errno(why, "cannot find out how much of the file is cached");
		nr = there.size() / 2;
	} else {
		for (unsigned char c : there)
			nr += c & 1;
	}
	if (at != MAP_FAILED)
		(void)munmap(at, len_bytes_);
	return static_cast<double>(nr) / static_cast<double>(there.size());
}

bool file::set_cached(bool cached, std::string *why)
{
	std::vector<char> buf(piece_bytes);
	struct statfs s;
	double share;

	if (!cached && fstatfs(fd_, &s) == 0 && s.f_type == TMPFS_MAGIC) {
		*why = std::string("left out: ") + directory() +
		       " is a tmpfs, whose files are always cached; set TMPDIR to a disk";
		return false;
	}
	(void)posix_fadvise(fd_, 0, 0, cached ? POSIX_FADV_WILLNEED : POSIX_FADV_DONTNEED);
	for (uint64_t at = 0; cached && at < len_bytes_; at += piece_bytes) {
		if (pread(fd_, buf.data(), piece_bytes, static_cast<off_t>(at)) < 0)
			return fail_errno(why, "cannot read the file");
	}
	share = cached_share(why);
	if (cached ? share >= 1 - tolerance : share <= tolerance)
		return true;
	*why = "left out: " + std::to_string(static_cast<int>(share * 100)) +
	       " % of the file is in the page cache, and posix_fadvise() does not change that here";
	return false;
}

} /* namespace bench */
