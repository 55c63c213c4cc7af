/* SPDX-License-Identifier: MIT */
/*
 * A vCPU that touches memory which is PROT_NONE, lies beyond the end of its file, or
 * faults in SIGBUS mode or for user mode only: KVM_RUN fails with EFAULT.  There is no
 * signal, and nothing is read instead.
 */
#include "kvm.h"

static struct plt_denied user_mode_only(void)
{
	int uffd = plt_uffd_flags(UFFD_FEATURE_MINOR_SHMEM, UFFD_USER_MODE_ONLY);
	struct plt_denied d = { .how = "a userfaultfd for user mode only", .len = 4 * PLT_PAGE };
	int fd = plt_memfd(d.len);

	plt_fill(fd, 0, 4, 0x98);
	d.mem = plt_map(fd, d.len, MAP_SHARED);
	d.at = d.mem + PLT_PAGE;
	plt_register(uffd, d.mem, d.len, PLT_BOTH);
	return d;
}

int main(void)
{
	struct plt_denied (*const ways[])(void) = { plt_deny_none, plt_deny_end, plt_deny_sigbus,
						    user_mode_only };

	plt_init();
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct plt_denied d = ways[i]();

		(void)plt_run_once(0, d.mem, d.len, guest_read, d.at, -EFAULT, d.how);
		(void)plt_run_once(0, d.mem, d.len, guest_write, d.at, -EFAULT, d.how);
	}
	plt_pass();
}
