/* SPDX-License-Identifier: MIT */
/*
 * Opening, probing and adopting userfaultfds.
 *
 * On any thread, when engines and guests are made; not on the fault path.
 */
#ifndef FLN_ENGINE_UFFD_OPEN_H
#define FLN_ENGINE_UFFD_OPEN_H

#include <stdbool.h>
#include <stdint.h>

struct fln_uffd;

/*
 * Open a userfaultfd with @features, by /dev/userfaultfd or the system call, whichever permits it.
 * Features that the kernel lacks are left out; u->features has those that are enabled.  @u: all
 * zeros but fd, or one that was closed, of which the statistics go on.
 * Return: 0; -EPERM, -EACCES, -ENOSYS, -EMFILE …; the error message names the remedy.
 */
int fln_uffd_open(struct fln_uffd *u, bool user_mode_only, uint64_t features);

/*
 * Open a descriptor in one of the two ways, without UFFDIO_API.  Return: the descriptor; a negative
 * errno.  -ENODEV: /dev/userfaultfd is some other device.
 */
int fln_uffd_from_device(bool user_mode_only);
int fln_uffd_from_syscall(bool user_mode_only);

/* Adopt a descriptor that another process has opened and enabled. */
void fln_uffd_adopt(struct fln_uffd *u, int fd);

/*
 * Check that @fd is a userfaultfd on which UFFDIO_API has been called.  Changes nothing; rejects
 * forgeries, too (sockets, FUSE files).  Return: 0; -EINVAL, and the error says what it is.
 */
int fln_uffd_check_fd(int fd);

/*
 * Set *features to those that the kernel offers to this user.  Return: as fln_uffd_open().
 */
int fln_uffd_probe(bool user_mode_only, uint64_t *features);

/* Check that these features suffice for an engine.  Return: 0; -EOPNOTSUPP. */
int fln_uffd_check_features(uint64_t features);

#endif
