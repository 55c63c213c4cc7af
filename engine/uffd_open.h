/* SPDX-License-Identifier: MIT */
/* Userfaultfds are opened, probed and taken over. */
#ifndef FLN_ENGINE_UFFD_OPEN_H
#define FLN_ENGINE_UFFD_OPEN_H

#include <stdbool.h>
#include <stdint.h>

struct fln_uffd;

/*
 * Open a userfaultfd with @features (those the kernel lacks are left out;
 * u->features says which are on): by /dev/userfaultfd or the system call, whichever permits.
 * Return: 0; -EPERM, -EACCES, -ENOSYS, -EMFILE …; the sentence names the remedy.
 */
int fln_uffd_open(struct fln_uffd *u, bool user_mode_only, uint64_t features);

/*
 * A bare descriptor, by one of the two ways.  Return: it; or a negative errno, of which
 * -ENODEV says that the device is another one of that name.
 */
int fln_uffd_from_device(bool user_mode_only);
int fln_uffd_from_syscall(bool user_mode_only);

/* Take over a descriptor that another process opened and enabled. */
void fln_uffd_adopt(struct fln_uffd *u, int fd);

/*
 * Is @fd a userfaultfd on which UFFDIO_API has been called?  Nothing is changed by asking,
 * and what somebody forges (a socket, a file of FUSE) does not pass.
 * Return: 0; -EINVAL with the sentence that says what it is.
 */
int fln_uffd_check_fd(int fd);

/*
 * What this kernel and this user can have.
 * Return: 0 and the features; or as fln_uffd_open().
 */
int fln_uffd_probe(bool user_mode_only, uint64_t *features);

/* Do these features suffice for an engine?  Return: 0; -EOPNOTSUPP, with the remedy. */
int fln_uffd_check_features(uint64_t features);

#endif
