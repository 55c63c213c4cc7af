/* SPDX-License-Identifier: MIT */
/*
 * What this kernel and this user can have of userfaultfd, asked one by one.
 */
#ifndef FLN_BASELINES_PROBE_H
#define FLN_BASELINES_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* Ways to a userfaultfd.  0: it works; a positive errno: it does not. */
struct fln_probe_access {
	int device;            /* /dev/userfaultfd; ENOENT: there is none; ENODEV: it is another */
	int device_user_mode;  /* the same, faults of user mode only */
	int syscall;           /* the system call, faults of user and kernel mode */
	int syscall_user_mode; /* the system call, faults of user mode only */
};

void fln_probe_access(struct fln_probe_access *out);

struct fln_probe_feature {
	const char *name;
	const char *first_kernel;
	const char *purpose;
	bool needed; /* the engine does not run without it */
	bool present;
};

#define FLN_PROBE_MAX_FEATURES 24u

/*
 * Every feature that concerns the engine, in the order of the kernels that
 * brought them.  Return: how many, or a negative errno when no userfaultfd can be
 * opened: then all are written as absent, and *@nr says how many.
 */
int fln_probe_features(bool user_mode_only, struct fln_probe_feature *out, uint32_t *nr);

/*
 * Let one page of real memory fault, and be served, as a guest's is.
 * Return: 0 and how long the touch took; or a negative errno, with a sentence.
 */
int fln_probe_fault(bool user_mode_only, uint64_t *touch_ns);

#endif
