/* SPDX-License-Identifier: MIT */
/*
 * The messages of an image that two processes use, and how the two greet: what link.h says of
 * the socket, and nothing of what the messages mean for the image.
 */
#ifndef FLN_SOURCES_LINK_MESSAGE_H
#define FLN_SOURCES_LINK_MESSAGE_H

#include "base/page.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FLN_LINK_MAGIC UINT32_C(0x6b6e6c66) /* "flnk" */
#define FLN_LINK_VERSION 1u
#define FLN_LINK_MAX_ASKS 2048u /* in flight at a time */

enum fln_link_kind {
	FLN_LINK_HELLO = 1,
	FLN_LINK_ASK,
	FLN_LINK_NEWS,
};

enum fln_link_flags {
	FLN_LINK_F_FILLED = 1 << 0,   /* all of it */
	FLN_LINK_F_SOURCE = 1 << 1,   /* what is asked for can be late */
	FLN_LINK_F_UNSEALED = 1 << 2, /* as FLN_IMAGE_F_UNSEALED */
};

/* What every message begins with. */
struct fln_link_head {
	uint32_t magic;
	uint32_t kind; /* enum fln_link_kind */
};

/* The attached side's has its head and version only, and zeros. */
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
	uint32_t id; /* below FLN_LINK_MAX_ASKS, of no other ask in flight */
	uint32_t nr_pages;
	uint64_t page; /* the run lies in one block */
	uint32_t anew; /* 1: what has failed is to be read once more */
	uint32_t reserved;
};

/* A page is in one of the masks, or in none: not ready. */
struct fln_link_news {
	struct fln_link_head head;
	uint32_t id;
	uint32_t done; /* 1: all pages of the ask are in the masks; the id is free again */
	uint64_t block;
	uint64_t nr_blocks; /* more than 1: as many from @block on are wholly filled */
	struct fln_mask filled, zero, failed;
};

/* Is @fd a connected Unix socket that keeps messages apart?  Return: 0; -EINVAL, -ENOTCONN. */
int fln_link_check_socket(int fd);

/*
 * Send one message, with @memfd unless that is -1; waits for room if @wait.
 * Return: 0; -EAGAIN for want of room, or of memory; -EPIPE when the other end is
 * closed; or what the socket returned.
 */
int fln_link_send(int fd, const void *msg, size_t len, int memfd, bool wait);

/*
 * Receive one message, and the descriptor that came along, or -1; whatever else came
 * is closed.  Never waits.  Return: its length; 0: the other end was closed; -errno.
 */
ssize_t fln_link_receive(int fd, void *msg, size_t len, int *memfd);

/* Is it the beginning of a message of this kind, and of this length? */
bool fln_link_is(const void *msg, int64_t len, enum fln_link_kind kind, size_t want);

/*
 * The attached side.  fln_link_hello() says hello and receives the answer: the
 * memfd is the caller's then.  fln_link_open() makes an image, made from that, ask
 * over @fd, of which it takes a duplicate.
 */
int fln_link_hello(int fd, struct fln_link_hello *hello, int *memfd);

#endif
