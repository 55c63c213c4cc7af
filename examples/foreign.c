/* SPDX-License-Identifier: MIT */
/*
 * A page fault handler in a separate process, for monitors that hand over their userfaultfd
 * as Firecracker does:
 *
 *     example_foreign SOCKET SNAPSHOT     serves every monitor that connects to SOCKET
 *     example_foreign                     starts a monitor of its own, serves it, and ends with it
 *
 * All microVMs of the snapshot share one image: each page is read from the file once.  Each
 * microVM is a foreign guest, whose pages are copied from the image.  A guest ends with the
 * monitor's process, not with the connection, which Firecracker before 1.12 closes at once.
 */
#include "examples/foreign_monitor.h"

#include <faultlane/faultlane.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_SKIPPED 77
#define MAX_TEXT_BYTES 65536u /* some 500 ranges of memory */

struct handler {
	struct fln_engine *engine;
	struct fln_source *source;
	struct fln_image *image;
};

struct connection {
	const struct handler *handler;
	int sock, uffd, process; /* process: a pidfd of the monitor */
	json_t *ranges;
	struct fln_guest *guest;
};

/* The descriptor comes with the first byte; the text may arrive in several pieces. */
static ssize_t receive_some(struct connection *c, char *buf, size_t size)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t len = recvmsg(c->sock, &msg, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *cmsg = len > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
	    cmsg->cmsg_len == CMSG_LEN(sizeof(int)) && c->uffd < 0)
		memcpy(&c->uffd, CMSG_DATA(cmsg), sizeof(int));
	return len;
}

/* Receive a JSON array and a descriptor.  Only its closing bracket says where the array ends. */
static bool receive(struct connection *c)
{
	char *text = malloc(MAX_TEXT_BYTES);
	size_t have = 0;

	while (text && have < MAX_TEXT_BYTES && !c->ranges) {
		ssize_t len = receive_some(c, text + have, MAX_TEXT_BYTES - have);

		if (len <= 0)
			break;
		have += (size_t)len;
		c->ranges = json_loadb(text, have, 0, NULL);
	}
	free(text);
	return json_is_array(c->ranges) && c->uffd >= 0;
}

static int add_range(struct connection *c, json_t *range)
{
	struct fln_region_opts o = FLN_REGION_OPTS_INIT;
	json_int_t addr = 0, size = 0, offset = 0, page_bytes = 4096;
	struct fln_region *region;
	json_error_t error;

	/* Firecracker before 1.12 sends only page_size_kib, which is in bytes in spite of its name. */
	if (json_unpack_ex(range, &error, 0, "{s:I, s:I, s:I, s?I, s?I}", "base_host_virt_addr",
			   &addr, "size", &size, "offset", &offset, "page_size_kib", &page_bytes,
			   "page_size", &page_bytes) != 0) {
		(void)fprintf(stderr, "handler: invalid memory range: %s\n", error.text);
		return -EPROTO;
	}
	o.image = c->handler->image;
	o.addr = (uint64_t)addr;
	o.len_bytes = (uint64_t)size;
	o.image_offset_bytes = (uint64_t)offset;
	o.page_bytes = (uint32_t)page_bytes;
	return fln_region_add(c->guest, &o, &region);
}

static int make_guest(struct connection *c)
{
	struct fln_guest_opts o = FLN_GUEST_OPTS_INIT;
	json_t *range;
	size_t i;
	int rc;

	o.flags = FLN_GUEST_F_FOREIGN | FLN_GUEST_F_KVM;
	o.foreign_uffd = c->uffd;
	rc = fln_guest_create(c->handler->engine, &o, &c->guest);
	if (rc)
		return rc;
	c->uffd = -1; /* the guest's now */
	json_array_foreach(c->ranges, i, range)
	{
		rc = add_range(c, range);
		if (rc)
			return rc;
	}
	return fln_guest_start(c->guest);
}

/* A pidfd of the peer: unlike a process id it is never reused. */
static int open_peer_pidfd(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return -1;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

static void print_served(const struct connection *c)
{
	struct fln_stats s = FLN_STATS_INIT;

	if (fln_guest_stats(c->guest, &s) == 0)
		(void)printf("handler: %" PRIu64 " faults, %" PRIu64 " pages copied\n", s.faults,
			     s.pages_installed);
}

static void *connection_main(void *arg)
{
	struct connection *c = arg;
	struct pollfd end = { .events = POLLIN };
	bool served = false;

	c->process = end.fd = open_peer_pidfd(c->sock);
	if (c->process < 0)
		perror("handler: the monitor's process");
	else if (!receive(c))
		(void)fprintf(stderr,
			      "handler: the monitor sent no memory ranges with a userfaultfd\n");
	else if (make_guest(c) != 0)
		(void)fprintf(stderr, "handler: %s\n", fln_last_error());
	else
		served = true;
	/* A monitor that is not served would wait for ever, or read zeros: kill it instead. */
	if (!served && c->process >= 0)
		(void)syscall(SYS_pidfd_send_signal, c->process, SIGKILL, NULL, 0);
	while (served && poll(&end, 1, -1) < 0 && errno == EINTR)
		;
	if (served)
		print_served(c);
	(void)fln_guest_destroy(c->guest);
	json_decref(c->ranges);
	if (c->uffd >= 0)
		(void)close(c->uffd);
	if (c->process >= 0)
		(void)close(c->process);
	(void)close(c->sock);
	free(c);
	return NULL;
}

/* Accept the next monitor's connection, and serve it on a thread of its own. */
static bool accept_one(const struct handler *h, int listener, pthread_t *thread)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return false;
	*c = (struct connection){ .handler = h, .uffd = -1, .process = -1 };
	c->sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (c->sock >= 0 && pthread_create(thread, NULL, connection_main, c) == 0)
		return true;
	perror("handler: accept");
	if (c->sock >= 0)
		(void)close(c->sock);
	free(c);
	return false;
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 64))) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static int open_snapshot(struct handler *h, const char *path)
{
	struct fln_engine_opts engine_opts = FLN_ENGINE_OPTS_INIT;
	struct fln_image_opts image_opts = FLN_IMAGE_OPTS_INIT;
	struct stat st;
	int rc;

	if (stat(path, &st) != 0)
		return -errno;
	rc = fln_engine_create(&engine_opts, &h->engine);
	if (rc == 0)
		rc = fln_engine_start(h->engine);
	if (rc == 0)
		rc = fln_source_open_file(path, 0, &h->source);
	image_opts.len_bytes = (uint64_t)st.st_size;
	image_opts.source = h->source;
	if (rc == 0)
		rc = fln_image_create(h->engine, &image_opts, &h->image);
	return rc;
}

static void close_snapshot(struct handler *h)
{
	(void)fln_image_destroy(h->image);
	fln_source_destroy(h->source);
	(void)fln_engine_destroy(h->engine);
}

static int serve(int listener, const char *snapshot, bool once)
{
	struct handler h = { .engine = NULL };
	int rc = open_snapshot(&h, snapshot);
	pthread_t thread;

	if (rc)
		(void)fprintf(stderr, "handler: %s: %s\n", snapshot, fln_last_error());
	while (rc == 0 && accept_one(&h, listener, &thread)) {
		if (once) {
			(void)pthread_join(thread, NULL);
			break;
		}
		(void)pthread_detach(thread);
	}
	close_snapshot(&h);
	return rc;
}

static bool write_snapshot(const char *path)
{
	FILE *f = fopen(path, "w");
	static uint64_t page[MONITOR_PAGE_BYTES / sizeof(uint64_t)];
	bool ok = f != NULL;

	for (uint32_t i = 0; ok && i < MONITOR_NR_PAGES; i++) {
		page[0] = monitor_word(i);
		ok = fwrite(page, sizeof(page), 1, f) == 1;
	}
	return f && fclose(f) == 0 && ok;
}

/* Run both ends.  The monitor is a child, forked while this process has only one thread. */
static int serve_own_monitor(void)
{
	char dir[] = "/tmp/fln-foreign-XXXXXX", sock[64], snapshot[64];
	int listener, status = -1, rc = -EIO;
	pid_t monitor;

	if (!monitor_can_run()) {
		(void)printf("SKIP: no userfaultfd here: %s\n", strerror(errno));
		return EXIT_SKIPPED;
	}
	if (!mkdtemp(dir))
		return EXIT_FAILURE;
	(void)snprintf(sock, sizeof(sock), "%s/socket", dir);
	(void)snprintf(snapshot, sizeof(snapshot), "%s/snapshot", dir);
	listener = listen_at(sock);
	if (listener >= 0 && write_snapshot(snapshot)) {
		monitor = fork();
		if (monitor == 0)
			exit(monitor_main(sock));
		rc = monitor < 0 ? -errno : serve(listener, snapshot, true);
		if (rc && monitor > 0)
			(void)kill(monitor, SIGKILL);
		if (monitor > 0)
			(void)waitpid(monitor, &status, 0);
	}
	(void)unlink(sock);
	(void)unlink(snapshot);
	(void)rmdir(dir);
	return rc == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	int listener;

	if (argc == 1)
		return serve_own_monitor();
	if (argc != 3) {
		(void)fprintf(stderr, "usage: %s [SOCKET SNAPSHOT]\n", argv[0]);
		return 2;
	}
	listener = listen_at(argv[1]);
	if (listener < 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	return serve(listener, argv[2], false) ? EXIT_FAILURE : EXIT_SUCCESS;
}
