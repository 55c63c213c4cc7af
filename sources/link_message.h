/* SPDX-License-Identifier: MIT */
/*
 * The messages of an image that two processes use, and how the two greet: what link.h says of
 * the socket, and nothing of what the messages mean for the image.
 */
#ifndef FLN_SOURCES_LINK_MESSAGE_H
#define FLN_SOURCES_LINK_MESSAGE_H

#include "sources/link.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fln_link_hello;

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
