/* SPDX-License-Identifier: MIT */
/*
 * A host that has closed its standard streams, as daemons do: none of the library's
 * descriptors takes their numbers, and what the host prints lands in no guest's memory.
 */
#include "tests/integration/harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_PAGES 9000u

static int report_fd; /* a standard error to speak through when it matters */

/* In the child: 1 with a sentence where a number is taken. */
#define STREAMS_CLOSED(what)                                                                  \
	do {                                                                                  \
		for (int fd_ = 0; fd_ < 3; fd_++) {                                           \
			if (fcntl(fd_, F_GETFD) >= 0) {                                       \
				(void)dprintf(report_fd, "after %s descriptor %d is taken\n", \
					      (what), fd_);                                   \
				_exit(1);                                                     \
			}                                                                     \
		}                                                                             \
	} while (0)

#define CHILD_OK(call)                                                                          \
	do {                                                                                    \
		int rc_ = (call);                                                               \
		if (rc_ != 0) {                                                                 \
			(void)dprintf(report_fd, "%s: %d: %s\n", #call, rc_, fln_last_error()); \
			_exit(1);                                                               \
		}                                                                               \
		STREAMS_CLOSED(#call);                                                          \
	} while (0)

struct attach {
	struct fln_engine *engine;
	int fd;
	struct fln_image *image;
};

static void *attach(void *arg)
{
	struct attach *a = arg;

	CHILD_OK(fln_image_attach(a->engine, a->fd, NULL, &a->image));
	return NULL;
}

static void *share(void *arg)
{
	struct attach *a = arg;

	(void)fln_image_share(a->image, a->fd);
	return NULL;
}

static void share_and_attach(struct fln_engine *engine, struct fln_image *image)
{
	struct attach owner = { engine, -1, image }, peer = { engine, -1, NULL };
	pthread_t threads[2];
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
		_exit(1);
	/* The host's own business: not in the way of what is looked for. */
	owner.fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 10);
	peer.fd = fcntl(fds[1], F_DUPFD_CLOEXEC, 10);
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)pthread_create(&threads[0], NULL, share, &owner);
	(void)pthread_create(&threads[1], NULL, attach, &peer);
	(void)pthread_join(threads[1], NULL);
	CHILD_OK(image_destroy_in_time(peer.image));
	(void)close(peer.fd);
	(void)pthread_join(threads[0], NULL);
	(void)close(owner.fd);
}

static int host(void)
{
	struct fln_engine_opts eo = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts io = FLN_IMAGE_OPTS_INIT;
	struct fln_region_opts ro = FLN_REGION_OPTS_INIT;
	struct maker maker = { .salt = 1, .concurrency = FLN_SOURCE_PARALLEL };
	struct fln_engine *engine;
	struct fln_source *source, *file;
	struct fln_image *image, *adopted;
	struct fln_guest *guest;
	struct fln_region *region, *context;
	uint8_t *mem;

	eo.flags = test_engine_flags();
	for (int fd = 0; fd < 3; fd++)
		(void)close(fd);
	CHILD_OK(fln_engine_create(&eo, &engine));
	CHILD_OK(fln_engine_start(engine));
	maker_source(&maker, &source);
	CHILD_OK(fln_source_open_file("/proc/self/exe", 0, &file));
	io.len_bytes = NR_PAGES * PAGE;
	io.source = source;
	CHILD_OK(fln_image_create(engine, &io, &image));
	io.source = NULL;
	io.flags = FLN_IMAGE_F_ADOPT | FLN_IMAGE_F_FILLED;
	io.memfd = fln_image_memfd(image);
	CHILD_OK(fln_image_create(engine, &io, &adopted));
	CHILD_OK(fln_guest_create(engine, NULL, &guest));
	ro.image = image;
	ro.len_bytes = NR_PAGES * PAGE;
	CHILD_OK(fln_region_add(guest, &ro, &region));
	ro.delivery = FLN_DELIVERY_IN_CONTEXT;
	CHILD_OK(fln_region_add(guest, &ro, &context));
	CHILD_OK(fln_guest_start(guest));
	mem = fln_region_addr(region);
	for (uint64_t page = 0; page < NR_PAGES; page += 7) {
		uint64_t value = 0;

		/* As hosts do, with no idea that nobody listens. */
		(void)!write(2, "a message of the host\n", 22);
		(void)!write(1, "another\n", 8);
		if (touch_read(mem + page * PAGE, &value) != TOUCH_OK ||
		    value != word_of(1, page, 0)) {
			(void)dprintf(report_fd, "page %llu reads 0x%llx\n",
				      (unsigned long long)page, (unsigned long long)value);
			return 1;
		}
	}
	STREAMS_CLOSED("faults");
	CHILD_OK(fln_guest_populate(guest, (uintptr_t)mem, 64 * PAGE, NULL));
	share_and_attach(engine, image);
	STREAMS_CLOSED("sharing");
	CHILD_OK(fln_guest_stop(guest));
	fln_guest_destroy(guest);
	CHILD_OK(image_destroy_in_time(adopted));
	CHILD_OK(image_destroy_in_time(image));
	fln_source_destroy(file);
	fln_source_destroy(source);
	CHILD_OK(engine_destroy_in_time(engine));
	return 0;
}

/* In a process of its own: the test itself has something to say. */
static void closed_streams(void)
{
	pid_t pid = fork();
	int status = 0;

	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		test_init();
		_exit(host());
	}
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		test_skip("there is no userfaultfd");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the host ended with status 0x%x",
	      (unsigned int)status);
}

int main(void)
{
	report_fd = fcntl(2, F_DUPFD_CLOEXEC, 10);
	RUN(closed_streams);
	return 0;
}
