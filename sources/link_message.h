/* SPDX-License-Identifier: MIT */
/*
 * The messages between two processes that share an image (protocol: link.h), sending and
 * receiving them, and the handshake of the attached side.  Knows nothing of images.
 */
#ifndef FLN_SOURCES_LINK_MESSAGE_H
#define FLN_SOURCES_LINK_MESSAGE_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FLN_LINK_MAGIC UINT32_C(0x6b6e6c66) /* "flnk" */
#define FLN_LINK_VERSION 1u
#define FLN_LINK_MAX_ASKS 2048u /* in flight at once */

enum fln_link_kind {
	FLN_LINK_HELLO = 1,
	FLN_LINK_ASK,
	FLN_LINK_NEWS,
};

enum fln_link_flags {
	FLN_LINK_F_FILLED = 1 << 0,   /* the whole image is filled */
	FLN_LINK_F_SOURCE = 1 << 1,   /* the image has a source: answers can be late */
	FLN_LINK_F_UNSEALED = 1 << 2, /* as FLN_IMAGE_F_UNSEALED */
};

/* Every message begins with it. */
struct fln_link_head {
	uint32_t magic;
	uint32_t kind; /* enum fln_link_kind */
};

/* The attached side sends only head and version, and zeros; the owner answers with all fields. */
struct fln_link_hello {
	struct fln_link_head head;
	uint32_t version;
	uint32_t flags;
	uint64_t len_bytes;
	uint32_t page_bytes;
	uint32_t reserved;
};

struct fln_link_ask {
	struct fln_link_head head;
	uint32_t id; /* below FLN_LINK_MAX_ASKS; not the id of another ask in flight */
	uint32_t nr_pages;
	uint64_t page; /* first page; the run lies in one block */
	uint32_t anew; /* 1: read FAILED pages once more */
	uint32_t reserved;
};

/* The owner's answer.  A page is in at most one mask; in none while it is pending. */
struct fln_link_news {
	struct fln_link_head head;
	uint32_t id;
	uint32_t done; /* 1: all pages of the ask have been in a mask; the id is free again */
	uint64_t block;
	uint64_t nr_blocks; /* above 1: that many blocks from @block on are completely FILLED */
	struct fln_mask filled, zero, failed;
};

/* Check that @fd is a Unix socket of type SOCK_SEQPACKET.  Return: 0; -EINVAL. */
int fln_link_check_socket(int fd);

/*
 * Send one message, with the descriptor @memfd unless it is -1.  Blocks for buffer space only
 * if @wait.  Return: 0; -EAGAIN when there is no buffer space or memory; -EPIPE when the other
 * end is closed; or the errno of the socket.
 */
int fln_link_send(int fd, const void *msg, size_t len, int memfd, bool wait);

/*
 * Receive one message, and its descriptor or -1; further descriptors are closed.  Never
 * blocks.  Return: the message's length; 0: the other end was closed; -errno.
 */
ssize_t fln_link_receive(int fd, void *msg, size_t len, int *memfd);

/* Is @msg, of @len bytes, a message of this kind with the length @want? */
bool fln_link_is(const void *msg, int64_t len, enum fln_link_kind kind, size_t want);

/*
 * The handshake of the attached side: send a hello and receive the owner's.  The caller owns
 * *memfd afterwards.  Blocks up to 10 s.  Return: 0; -EPROTO; -ETIMEDOUT; -errno.
 */
int fln_link_hello(int fd, struct fln_link_hello *hello, int *memfd);

#endif
