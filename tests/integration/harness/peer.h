/* SPDX-License-Identifier: MIT */
/* Another process that does what it is told. */
#ifndef FLN_TESTS_HARNESS_PEER_H
#define FLN_TESTS_HARNESS_PEER_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Another process, forked before there are threads, that does what it is told.
 * Orders are answered one at a time.
 */
enum peer_order {
	PEER_QUIT,
	PEER_MAP,    /* maps the memfd that comes along, @len bytes */
	PEER_REMOVE, /* MADV_REMOVE of [offset, +len) */
	PEER_DONTNEED,
	PEER_PUNCH,   /* by the descriptor */
	PEER_FOREIGN, /* anonymous memory of @len bytes; answers its address, sends a userfaultfd */
	PEER_READ,    /* reads a word at @offset: answers how it ended and the word */
	PEER_WRITE,   /* writes a word (@len) at @offset */
};

struct peer {
	pid_t pid;
	int socket;
	pthread_mutex_t lock;
};

void peer_start(struct peer *p);
void peer_stop(struct peer *p);
/* @fd: to send along, or -1; @fd_out: to receive, or NULL. */
int64_t peer_do(struct peer *p, enum peer_order order, uint64_t offset, uint64_t len, int fd,
		int *fd_out, uint64_t *value);

#endif
