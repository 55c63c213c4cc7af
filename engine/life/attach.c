/* SPDX-License-Identifier: MIT */
/*
 * fln_image_attach(): use an image that another process owns.  It is an ordinary image of an
 * adopted memfd, except that it asks the owner for contents instead of a source
 * (sources/link.h).  Runs on the caller's thread, and blocks until the owner has answered.
 *
 * Tested by integration.attach, integration.attach_peers.
 */
#include "base/cancel.h"
#include "base/error.h"
#include "base/fork.h"
#include "engine/state/engine.h"
#include "sources/image.h"
#include "sources/link.h"
#include "sources/link_message.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/image.h>
#include <unistd.h>

/* The memfd that the owner has sent passes the same checks as every adopted one. */
static int make_image(struct fln_engine *engine, const struct fln_link_hello *hello, int memfd,
		      const char *name, struct fln_image **out)
{
	struct fln_image_opts o = FLN_IMAGE_OPTS_INIT;
	int rc;

	o.len_bytes = hello->len_bytes;
	o.page_bytes = hello->page_bytes;
	o.name = name ? name : "attached";
	o.flags = FLN_IMAGE_F_ADOPT;
	o.memfd = memfd;
	/* Only the owner allocates. */
	o.folio = FLN_FOLIO_SMALL;
	if (hello->flags & FLN_LINK_F_FILLED)
		o.flags |= FLN_IMAGE_F_FILLED;
	if (hello->flags & FLN_LINK_F_UNSEALED)
		o.flags |= FLN_IMAGE_F_UNSEALED;
	rc = fln_image_create(engine, &o, out);
	/* The caller is not to blame: the owner's memfd is not what its hello message says. */
	if (rc == -EINVAL || rc == -ENODATA || rc == -EPERM || rc == -EBADF) {
		char why[200];

		(void)snprintf(why, sizeof(why), "%s", fln_last_error());
		return fln_fail(EPROTO, "attach: %s", why);
	}
	return rc;
}

int fln_image_attach(struct fln_engine *engine, int fd, const char *name, struct fln_image **out)
{
	FLN_UNCANCELLABLE;
	struct fln_link_hello hello;
	struct fln_image *image;
	int memfd, rc = FLN_CALL_REFUSED(engine, out);

	if (rc)
		return rc;
	rc = fln_link_hello(fd, &hello, &memfd);
	if (rc)
		return rc;
	rc = make_image(engine, &hello, memfd, name, &image);
	(void)close(memfd);
	if (rc)
		return rc;
	rc = fln_link_open(image, fd, hello.flags & FLN_LINK_F_SOURCE);
	if (rc) {
		(void)fln_image_destroy(image);
		return rc;
	}
	*out = image;
	return 0;
}
